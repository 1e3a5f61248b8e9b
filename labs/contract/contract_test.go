// Package contract holds the labs to what they promise (LABS: "The contract of a lab's tests"). Its tests are about the
// labs as they are handed out: in a clone in which somebody works on them they are skipped.
package contract

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"workshop/labs/workbench"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	all    = flag.Bool("all", false, "try all mistakes, not only every fourth")
)

// TestMain has what the tests build built as they are, with the race detector or without: then there is one build of all
// packages that labs stand on, and not two.
func TestMain(m *testing.M) {
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		os.Setenv("GOFLAGS", strings.TrimSpace(os.Getenv("GOFLAGS")+" -race"))
	}
	os.Exit(m.Run())
}

// root returns the top of the clone, or skips the test in a learner's.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	top, err := workbench.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(top, "labs", ".progress.json")); err == nil {
		t.Skip("somebody works on the labs here: they are not as they are handed out any more")
	}
	return top
}

// eachLab runs a test for every lab that is there.
func eachLab(t *testing.T, test func(t *testing.T, top string, l workbench.Lab)) {
	top := root(t)
	for _, l := range workbench.Available() {
		t.Run(l.Number+"-"+l.Name, func(t *testing.T) { test(t, top, l) })
	}
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	eachLab(t, func(t *testing.T, top string, l workbench.Lab) {
		made, err := workbench.Generated(top, l)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range made {
			if got, err := os.ReadFile(filepath.Join(top, path)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what mini-k8s has now: run `go run ./labs generate`", path)
			}
		}
		for _, dir := range []string{l.Dir(), l.Solution()} {
			files, _ := filepath.Glob(filepath.Join(top, dir, "*.go"))
			for _, file := range files {
				if made[dir+"/"+filepath.Base(file)] == nil {
					t.Errorf("%s/%s is in mini-k8s no more: run `go run ./labs generate`", dir, filepath.Base(file))
				}
			}
		}
	})
}

// An untouched starter is skipped, all of its tests are to do, and all of them pass on the solution.
func TestStartersAreToDoAndSolutionsPass(t *testing.T) {
	t.Parallel()
	eachLab(t, func(t *testing.T, top string, l workbench.Lab) {
		cmd := exec.Command("go", "test", "-v", "-vet=off", "./"+l.Dir())
		cmd.Dir = top
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("--- PASS")) || bytes.Contains(out, []byte("--- FAIL")) {
			t.Errorf("%v\n%s", err, out)
		}
		if !bytes.Contains(out, []byte("lab "+l.Number+" is not started")) {
			t.Errorf("lab %s does not say that it is not started", l.Number)
		}
		result := check(t, top, l, "./"+l.Dir())
		if result.Build != "" {
			t.Fatal(result.Build)
		}
		for _, test := range result.Tests {
			if test.Outcome != "todo" {
				t.Errorf("%s: %s\n%s", test.Name, test.Outcome, test.Report)
			}
		}
		if len(result.Tests) < 5 {
			t.Errorf("there are %d tests", len(result.Tests))
		}
		result = check(t, top, l, "./"+l.Solution(), "-race", "-count=5", "-timeout=10m")
		if !result.Passed() {
			var all strings.Builder
			result.Print(&all, top, false)
			t.Error(all.String())
		}
	})
}

var failing = regexp.MustCompile(`(?m)^TestTask\w+$`)

var uids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// Every lab keeps some plausible mistakes, as patches of its solution. Each must be caught, and what the learner then
// reads is kept beside it. Each is a build of its own: every fourth is tried here, all of them by `make mistakes`.
func TestPlausibleMistakesAreCaught(t *testing.T) {
	t.Parallel()
	eachLab(t, func(t *testing.T, top string, l workbench.Lab) {
		dir := filepath.Join(top, "labs", "wrong", filepath.Base(l.Dir()))
		patches, err := filepath.Glob(filepath.Join(dir, "*.patch"))
		if err != nil || len(patches) < 5 {
			t.Fatalf("in %s there are %d patches, want 5 or more (%v)", dir, len(patches), err)
		}
		for i, patch := range patches {
			if i%4 != 0 && !*all && !*update {
				continue
			}
			name := strings.TrimSuffix(filepath.Base(patch), ".patch")
			t.Run(name, func(t *testing.T) {
				// That the tests which are to catch it do is enough: to run all takes minutes where they start containers.
				flags := []string{"-overlay", overlay(t, top, patch)}
				if known, err := os.ReadFile(strings.TrimSuffix(patch, ".patch") + ".golden"); err == nil && !*update {
					flags = append(flags, "-run", "^("+strings.Join(failing.FindAllString(string(known), -1), "|")+")$")
				}
				var told strings.Builder
				for try := 0; try < 3 && told.Len() == 0; try++ { // some mistakes are races, and need not show each time
					result := check(t, top, l, "./"+l.Solution(), flags...)
					if result.Build != "" {
						t.Fatal(result.Build)
					}
					for _, test := range result.Tests {
						if test.Outcome == "fail" {
							fmt.Fprintf(&told, "%s\n%s\n\n", test.Name, test.Report)
						}
					}
				}
				if told.Len() == 0 {
					t.Fatal("no test fails")
				}
				golden(t, strings.TrimSuffix(patch, ".patch")+".golden", uids.ReplaceAllString(told.String(), "UID"))
			})
		}
	})
}

// overlay applies a patch to copies of the files that it is about and returns the overlay that puts them in their place.
func overlay(t *testing.T, top, patch string) string {
	t.Helper()
	text, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "+++ b/")
		if !ok {
			continue
		}
		original, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, original, 0o644); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(top, path)] = target
	}
	apply := exec.Command("git", "apply", patch)
	apply.Dir = dir
	if out, err := apply.CombinedOutput(); err != nil || len(replace) == 0 {
		t.Fatalf("the patch no longer fits: %v\n%s", err, out)
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// seen is the part of a report that may differ from run to run: what came instead of what was expected.
var seen = regexp.MustCompile(`(?m)^   got: .*(\n {14}.*)*`)

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || seen.ReplaceAllString(string(want), "") != seen.ReplaceAllString(got, "") {
		t.Errorf("the learner reads (%v)\n%s\nand %s has\n%s", err, got, filepath.Base(path), want)
	}
}

func check(t *testing.T, top string, l workbench.Lab, pkg string, more ...string) workbench.Result {
	t.Helper()
	if l.Docker {
		if err := exec.Command("docker", "info").Run(); err != nil && os.Getenv("CI") != "true" {
			t.Skip("this takes Docker, which does not answer here")
		}
	}
	result, err := workbench.CheckPackage(t.Context(), top, l, pkg, more...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
