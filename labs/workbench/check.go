package workbench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CheckVariable tells the tests of a lab that they are to run though the lab is not begun.
const CheckVariable = "MINI_K8S_LAB_CHECK"

// Result is what the tests say of one lab.
type Result struct {
	Lab   Lab
	Tests []Test // in the order of the file
	Build string // what the compiler says, if the package does not build
	Took  time.Duration
}

// Test is one test of a lab.
type Test struct {
	Name    string
	Task    int
	Outcome string // pass, fail, todo or skip
	Report  string // of a failure, or why it was skipped
}

// Count returns how many tests have the outcome.
func (r Result) Count(outcome string) int {
	n := 0
	for _, test := range r.Tests {
		if test.Outcome == outcome {
			n++
		}
	}
	return n
}

// Passed reports whether all is done and right, as far as it could be tested here.
func (r Result) Passed() bool {
	return r.Build == "" && r.Count("pass") > 0 && r.Count("pass")+r.Count("skip") == len(r.Tests)
}

// Check runs the tests of a lab on what is in its folder. more are flags of go test.
func Check(ctx context.Context, root string, l Lab, more ...string) (Result, error) {
	return CheckPackage(ctx, root, l, "./"+l.Dir(), more...)
}

// CheckPackage runs the tests of a lab on the package in another folder: "./solutions/05-scheduler".
func CheckPackage(ctx context.Context, root string, l Lab, pkg string, more ...string) (Result, error) {
	result := Result{Lab: l}
	start := time.Now()
	args := slices.Concat([]string{"test", "-json", "-vet=off", "-count=1", "-timeout=120s", "-run", "^TestTask"}, more, []string{pkg})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), CheckVariable+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test ends its test, and that its containers
	cmd.WaitDelay = 10 * time.Second
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	result.Took = time.Since(start)
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	build, crash := result.read(out)
	switch {
	case build != "":
		result.Build = build
	case len(result.Tests) == 0 && err != nil:
		result.Build = strings.TrimSpace(errOut.String() + crash)
	case err != nil && crash != "" && result.Count("fail")+result.Count("todo") == 0:
		result.Tests = append(result.Tests, Test{Name: "(the whole test)", Outcome: "fail", Report: crash})
	}
	return result, nil
}

// taskName finds the task in the name of a test.
var taskName = regexp.MustCompile(`^TestTask(\d+)`)

// read reads what `go test -json` prints.
func (r *Result) read(out []byte) (build, crash string) {
	reports := map[string]*strings.Builder{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var event struct{ Action, Test, Output string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			continue
		}
		name, _, isPart := strings.Cut(event.Test, "/")
		if reports[name] == nil {
			reports[name] = &strings.Builder{}
		}
		switch event.Action {
		case "build-output":
			build += event.Output
		case "output":
			reports[name].WriteString(event.Output)
		case "pass", "fail", "skip":
			if name == "" || isPart {
				continue
			}
			test := Test{Name: name, Outcome: event.Action}
			if number := taskName.FindStringSubmatch(name); number != nil {
				test.Task, _ = strconv.Atoi(number[1])
			}
			test.Report = reportOf(reports[name].String())
			if event.Action == "fail" && strings.Contains(test.Report, todoMark) {
				test.Outcome = "todo"
			}
			r.Tests = append(r.Tests, test)
		}
	}
	if left := reports[""]; left != nil {
		crash = strings.TrimSpace(left.String())
	}
	slices.SortStableFunc(r.Tests, func(a, b Test) int { return cmp.Compare(a.Task, b.Task) })
	return build, crash
}

// todoMark is what the test kit writes when a function that is still to be written was called.
const todoMark = "still to be written: "

var (
	noise    = regexp.MustCompile(`(?m)^\s*(=== |--- ).*\n?`)
	indented = regexp.MustCompile(`(?m)^ {8}`)
	location = regexp.MustCompile(`(?m)^ +[a-z0-9_]+_test\.go:\d+: ?`)
)

// reportOf takes out of a test's output what go test adds to it.
func reportOf(output string) string {
	text := location.ReplaceAllString(noise.ReplaceAllString(output, ""), "")
	lines := strings.Split(indented.ReplaceAllString(text, ""), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "" })
	return strings.Join(lines, "\n")
}

// Print writes the result for a person: a line a task, and then what failed and why.
func (r Result) Print(out io.Writer, root string, p Paint) {
	fmt.Fprintf(out, "%s  %s\n", p.Bold("Lab "+r.Lab.Number+"  "+r.Lab.Title), p.Dim(r.Lab.Dir()))
	if r.Build != "" {
		fmt.Fprintf(out, "\n%s\n\n%s\n", p.Red("It does not compile:"), indent(r.Build))
		for _, line := range missingImports(root, r.Lab, r.Build) {
			fmt.Fprintln(out, "   "+line)
		}
		return
	}
	code, _ := readCode(filepath.Join(root, r.Lab.Source()), r.Lab.Number)
	for _, task := range code.tasks() {
		r.printTask(out, code, task, p)
	}
	for _, test := range r.Tests {
		if test.Outcome == "fail" {
			fmt.Fprintf(out, "\n%s %s\n%s\n", p.Red("✘"), test.Name, test.Report)
		}
	}
	for _, test := range r.Tests {
		if test.Outcome == "skip" {
			fmt.Fprintf(out, "\nskipped: %s: %s\n", test.Name, strings.TrimSpace(test.Report))
		}
	}
	if missing := r.expected(root) - len(r.Tests); missing > 0 {
		fmt.Fprintf(out, "\n%s\n", p.Yellow(fmt.Sprintf("%d tests did not run, for the one that failed ended all.", missing)))
	}
	fmt.Fprintf(out, "\n%s  %s\n", r.summary(p), p.Dim(fmt.Sprintf("%.1f s", r.Took.Seconds())))
}

var testFunction = regexp.MustCompile(`(?m)^func TestTask\d`)

// expected returns how many tests the lab has.
func (r Result) expected(root string) int {
	text, _ := os.ReadFile(filepath.Join(root, r.Lab.Source(), LabTest))
	return len(testFunction.FindAll(text, -1))
}

func (r Result) printTask(out io.Writer, code *code, task int, p Paint) {
	var names []string
	for _, f := range code.functions {
		if f.Task == task {
			names = append(names, f.Name)
		}
	}
	count := map[string]int{}
	for _, test := range r.Tests {
		if test.Task == task {
			count[test.Outcome]++
		}
	}
	mark, note := p.Green("✔"), fmt.Sprintf("%d passed", count["pass"])
	switch {
	case count["fail"] > 0:
		mark, note = p.Red("✘"), fmt.Sprintf("%d failed, %d passed", count["fail"], count["pass"])
	case count["todo"] > 0:
		mark, note = p.Yellow("○"), "to do"
		if count["pass"] > 0 {
			note = fmt.Sprintf("to do, %d passed", count["pass"])
		}
	case count["pass"] == 0:
		mark, note = "-", "skipped"
	}
	fmt.Fprintf(out, "  %s Task %d  %-44s %s\n", mark, task, strings.Join(names, ", "), note)
}

func (r Result) summary(p Paint) string {
	if r.Passed() {
		return p.Green(fmt.Sprintf("All %d tests pass.", r.Count("pass")))
	}
	return fmt.Sprintf("%d passed, %d failed, %d to do", r.Count("pass"), r.Count("fail"), r.Count("todo"))
}

var unused = regexp.MustCompile(`(?m)([\w]+\.go):\d+:\d+: ("[^"]+") imported.* and not used`)

var undefined = regexp.MustCompile(`(?m)([\w]+\.go):\d+:\d+: undefined: (\w+)`)

// missingImports says which imports the reference has for names that the compiler does not know, and which are to go.
func missingImports(root string, l Lab, build string) []string {
	reference, err := readCode(filepath.Join(root, l.Source()), l.Number)
	if err != nil {
		return nil
	}
	var lines []string
	for _, found := range unused.FindAllStringSubmatch(build, -1) {
		lines = append(lines, fmt.Sprintf("%s: remove the import %s", found[1], found[2]))
	}
	for _, found := range undefined.FindAllStringSubmatch(build, -1) {
		f := reference.files[found[1]]
		if f == nil {
			continue
		}
		for _, spec := range f.tree.Imports {
			if importName(spec) != found[2] {
				continue
			}
			text := spec.Path.Value
			if spec.Name != nil {
				text = spec.Name.Name + " " + text
			}
			if line := fmt.Sprintf("%s: import %s", found[1], text); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func indent(text string) string {
	return "   " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n   ")
}
