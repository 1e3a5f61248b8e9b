package workbench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// MineDir is where a cluster of the learner's own components is built.
const MineDir = "bin/mine"

// ParseMine reads a list of labs: "01,05", "01-06", "passed", or "" for none.
func ParseMine(text string, progress *Progress) ([]Lab, error) {
	var chosen []Lab
	if text == "passed" {
		for _, l := range Available() {
			if progress.Of(l).Passed {
				chosen = append(chosen, l)
			}
		}
		if len(chosen) == 0 {
			return nil, fmt.Errorf("no lab has passed yet: name those that you want in the cluster, as in --mine 01,05")
		}
		return chosen, nil
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		from, to, isRange := strings.Cut(word, "-")
		first, err := Find(from)
		if err != nil {
			return nil, err
		}
		last := first
		if isRange {
			if last, err = Find(to); err != nil {
				return nil, err
			}
		}
		for _, l := range Available() {
			if l.Number >= first.Number && l.Number <= last.Number && !slices.Contains(chosen, l) {
				chosen = append(chosen, l)
			}
		}
	}
	return chosen, nil
}

// Overlay returns which files of mini-k8s the learner's stand in for, in the words of `go build -overlay`: the files of
// each lab's folder take the place of the package's. "" takes a file away. The compiler then sees one program, whose packages
// fit together, whoever wrote them.
func Overlay(root string, mine []Lab) (map[string]string, error) {
	replace := map[string]string{}
	for _, l := range mine {
		for _, dir := range []string{l.Source(), l.Dir()} {
			paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
			if err != nil {
				return nil, err
			}
			for _, path := range paths {
				if strings.HasSuffix(path, "_test.go") {
					continue
				}
				target := filepath.Join(root, l.Source(), filepath.Base(path))
				if dir == l.Source() {
					replace[target] = ""
				} else {
					replace[target] = path
				}
			}
		}
	}
	return replace, nil
}

// Build builds mini-k8s with the learner's components in it and returns the program. It tells what it does on out.
func Build(ctx context.Context, root string, mine []Lab, out io.Writer) (string, error) {
	start := time.Now()
	program := filepath.Join(root, MineDir, "mini-k8s")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", err
	}
	replace, err := Overlay(root, mine)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(root, MineDir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o644); err != nil {
		return "", err
	}
	var yours []string
	for _, l := range mine {
		yours = append(yours, l.Number+"-"+l.Name)
	}
	if len(yours) == 0 {
		yours = []string{"none"}
	}
	fmt.Fprintf(out, "Building mini-k8s; your parts: %s\n", strings.Join(yours, ", "))
	if err := goBuild(ctx, root, nil, "-overlay", overlay, "-o", program, "./mini-k8s"); err != nil {
		return "", err
	}
	for _, image := range []string{"pause", "hello"} {
		target := filepath.Join(root, MineDir, "images", runtime.GOARCH, image)
		environment := []string{"CGO_ENABLED=0", "GOOS=linux", "GOFLAGS="}
		if err := goBuild(ctx, root, environment, "-trimpath", "-ldflags=-s -w", "-o", target, "./mini-k8s/images/"+image); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(out, "Built in %.1f s\n\n", time.Since(start).Seconds())
	return program, nil
}

func goBuild(ctx context.Context, root string, environment []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), environment...)
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("it does not compile:\n\n%s", indent(string(text)))
	}
	return nil
}
