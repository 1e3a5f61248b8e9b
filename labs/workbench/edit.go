package workbench

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// backupDir keeps what was replaced, a folder for each time.
const backupDir = "labs/.backup"

// Solve puts the reference's functions into the learner's files: all of the lab, or those of one task. It returns the
// functions and where the files as they were are kept.
func Solve(root string, l Lab, task int) (functions []string, backup string, err error) {
	reference, err := readCode(filepath.Join(root, l.Source()), l.Number)
	if err != nil {
		return nil, "", err
	}
	mine, err := readCode(filepath.Join(root, l.Dir()), l.Number)
	if err != nil {
		return nil, "", fmt.Errorf("%w\nwhat cannot be read cannot be completed: mend it, or start anew with `go run ./labs reset %s`", err, l.Number)
	}
	bodies := map[string]map[*ast.FuncDecl]string{} // by file
	for _, wanted := range reference.functions {
		if task != 0 && wanted.Task != task {
			continue
		}
		have := mine.function(wanted.Name)
		if have == nil {
			return nil, "", fmt.Errorf("in %s there is no function %s with its //lab:%s line: start anew with `go run ./labs reset %[3]s`", l.Dir(), wanted.Name, l.Number)
		}
		if bodies[have.File] == nil {
			bodies[have.File] = map[*ast.FuncDecl]string{}
		}
		bodies[have.File][have.decl] = string(reference.files[wanted.File].body(wanted.decl))
		functions = append(functions, wanted.Name)
	}
	if len(functions) == 0 {
		return nil, "", fmt.Errorf("lab %s has the tasks %v", l.Number, reference.tasks())
	}
	if backup, err = Backup(root, l); err != nil {
		return nil, "", err
	}
	for name, changed := range bodies {
		imports := reference.files[name]
		if imports == nil {
			imports = mine.files[name]
		}
		text, err := withBodies(mine.files[name], changed, imports)
		if err != nil {
			return nil, backup, fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(root, l.Dir(), name), text, 0o644); err != nil {
			return nil, backup, err
		}
	}
	return functions, backup, nil
}

// Reset makes a lab's folder what it was at first, and returns where what was in it is kept.
func Reset(root string, l Lab) (backup string, err error) {
	made, err := Generated(root, l)
	if err != nil {
		return "", err
	}
	if backup, err = Backup(root, l); err != nil {
		return "", err
	}
	stale, err := stale(root, l, made)
	if err != nil {
		return backup, err
	}
	for _, path := range stale {
		if strings.HasPrefix(path, l.Dir()+"/") {
			err = errors.Join(err, os.Remove(filepath.Join(root, path)))
		}
	}
	for path, text := range made {
		if strings.HasPrefix(path, l.Dir()+"/") {
			err = errors.Join(err, os.WriteFile(filepath.Join(root, path), text, 0o644))
		}
	}
	return backup, err
}

// Backup copies the Go files of a lab's folder and returns where to, relative to the root.
func Backup(root string, l Lab) (string, error) {
	to := filepath.Join(backupDir, l.Number+"-"+l.Name+"-"+time.Now().Format("20060102-150405.000"))
	paths, err := filepath.Glob(filepath.Join(root, l.Dir(), "*.go"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(root, to), 0o755); err != nil {
		return "", fmt.Errorf("keep a copy: %w", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to, filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("keep a copy: %w", err)
		}
	}
	return to, nil
}

// Diff returns how the learner's files differ from the solution, as `diff -u` writes it; "" if they do not.
func Diff(root string, l Lab) (string, error) {
	var all bytes.Buffer
	made, err := Generated(root, l)
	if err != nil {
		return "", err
	}
	var names []string
	for path := range made {
		if strings.HasPrefix(path, l.Dir()+"/") && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	for _, name := range names {
		cmd := exec.Command("diff", "-u", l.Dir()+"/"+name, l.Solution()+"/"+name)
		cmd.Dir, cmd.Stdout, cmd.Stderr = root, &all, &all
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
			return "", fmt.Errorf("diff: %w\n%s", err, all.String())
		}
	}
	return all.String(), nil
}

// Hint is what a learner is told next.
type Hint struct {
	Function      string
	Task          int
	Text          string
	Number, OfAll int
}

// NextHint returns the next hint for the first function that is not written, of the task or, if that is 0, of the lab. When
// there are no more it is the last one again.
func NextHint(root string, l Lab, task int, progress *LabProgress) (Hint, error) {
	reference, err := readCode(filepath.Join(root, l.Source()), l.Number)
	if err != nil {
		return Hint{}, err
	}
	mine, err := readCode(filepath.Join(root, l.Dir()), l.Number)
	if err != nil {
		return Hint{}, err
	}
	var of *Function
	for _, f := range reference.functions {
		if task != 0 && f.Task != task {
			continue
		}
		if have := mine.function(f.Name); have == nil || !have.Done {
			of = &f
			break
		}
		if of == nil && task != 0 {
			of = &f // all may be written, and wrong
		}
	}
	if of == nil {
		return Hint{}, fmt.Errorf("every function is written; for a hint on a task of lab %s say --task, it has %v", l.Number, reference.tasks())
	}
	if len(of.Hints) == 0 {
		return Hint{}, fmt.Errorf("there are no hints for %s: its comment is all that there is to say", of.Name)
	}
	if progress.Hints == nil {
		progress.Hints = map[string]int{}
	}
	given := min(progress.Hints[of.Name]+1, len(of.Hints))
	progress.Hints[of.Name] = given
	return Hint{Function: of.Name, Task: of.Task, Text: of.Hints[given-1], Number: given, OfAll: len(of.Hints)}, nil
}
