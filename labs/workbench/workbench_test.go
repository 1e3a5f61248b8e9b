package workbench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// reference is a package as mini-k8s has them, small.
const reference = `// Package scheduler is small.
package scheduler

import (
	"errors"
	"fmt"
	"strings"
)

// node is where pods run.
type node struct{ name string }

// choose returns a node:
//  1. the first that fits;
//  2. or an error.
//
//lab:05 1
//lab:hint Where does it say what fits?
//lab:hint Try fits for each name.
func choose(names []string) (node, error) {
	for _, name := range names {
		if fits(name) {
			return node{name}, nil
		}
	}
	return node{}, errors.New("none")
}

// fits is given.
func fits(name string) bool { return strings.HasPrefix(name, "n") }

// both have results of many types.
//
//lab:05 2
//lab:hint Count.
func both(a []string) (count int, text string, m map[string]bool, f func(), n node) {
	return len(a), fmt.Sprint(a), nil, nil, node{}
}

// say returns nothing.
//
//lab:05 2
func (n *node) say() { fmt.Println(n.name) }
`

const referenceTest = `package scheduler

import "testing"

func TestTask1Choose(t *testing.T) {
	if n, err := choose([]string{"x", "n1"}); err != nil || n.name != "n1" {
		t.Errorf("\n   got:       %v", n)
	}
}

func TestTask2Both(t *testing.T) {
	if count, _, _, _, _ := both([]string{"a"}); count != 1 {
		t.Log("still to be written: both")
		t.Fail()
	}
}
`

// newRoot makes a workshop with one lab in it.
func newRoot(t *testing.T) (root string, l Lab) {
	t.Helper()
	root = t.TempDir()
	l = Lab{Number: "05", Name: "scheduler", Title: "The scheduler", Package: "master/scheduler"}
	labs := Labs
	Labs = []Lab{l, {Number: "07", Name: "self-healing", Title: "Self-healing"}}
	t.Cleanup(func() { Labs = labs })
	for path, text := range map[string]string{
		"go.mod": "module workshop\n\ngo 1.26\n", "labs/workbench/x": "",
		"labs/lab/lab.go":                           "package lab\n\nimport \"errors\"\n\nfunc TODO(lab, name string) error { return errors.New(name) }\n",
		"mini-k8s/master/scheduler/scheduler.go":    reference,
		"mini-k8s/master/scheduler/lab_test.go":     referenceTest,
		"mini-k8s/master/scheduler/another_test.go": "package scheduler\n",
	} {
		write(t, filepath.Join(root, path), text)
	}
	if _, err := Generate(root); err != nil {
		t.Fatal(err)
	}
	return root, l
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAStarterIsTheReferenceWithStubs(t *testing.T) {
	root, l := newRoot(t)
	got := read(t, filepath.Join(root, l.Dir(), "scheduler.go"))
	for _, want := range []string{
		"//lab:05 1\nfunc choose(names []string) (node, error) {\n\treturn node{}, lab.TODO(\"05\", \"choose\")\n}",
		"\tlab.TODO(\"05\", \"both\")\n\treturn\n}",
		"func (n *node) say() {\n\tlab.TODO(\"05\", \"node.say\")\n}",
		"//  1. the first that fits;",
		"import (\n\t\"strings\"\n\n\t\"workshop/labs/lab\"\n)",
		"func fits(name string) bool { return strings.HasPrefix(name, \"n\") }",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the starter has no\n%s\nit is\n%s", want, got)
		}
	}
	if strings.Contains(got, "lab:hint") || strings.Contains(got, "errors") {
		t.Errorf("the starter tells too much:\n%s", got)
	}
	solution := read(t, filepath.Join(root, l.Solution(), "scheduler.go"))
	if strings.Contains(solution, "lab:hint") || !strings.Contains(solution, `errors.New("none")`) {
		t.Errorf("the solution is\n%s", solution)
	}
	if _, err := os.Stat(filepath.Join(root, l.Dir(), "another_test.go")); err == nil {
		t.Error("tests that are not the lab's were copied")
	}
	for _, dir := range []string{l.Dir(), l.Solution()} {
		if out, err := goTool(root, "vet", "./"+dir); err != nil {
			t.Errorf("%s: %v\n%s", dir, err, out)
		}
	}
}

func goTool(root string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestWhatIsMadeNoMoreIsRemoved(t *testing.T) {
	root, l := newRoot(t)
	old, guide := filepath.Join(root, l.Dir(), "old.go"), filepath.Join(root, l.Dir(), "README.md")
	write(t, old, "package scheduler\n")
	write(t, guide, "a guide\n")
	if changed, err := Generate(root); err != nil || !slices.Equal(changed, []string{l.Dir() + "/old.go"}) {
		t.Errorf("changed: %v (%v)", changed, err)
	}
	if read(t, guide) == "" {
		t.Error("the guide is gone")
	}
}

func TestACheckTellsToDoFromFailedFromPassed(t *testing.T) {
	root, l := newRoot(t)
	at := filepath.Join(root, l.Dir(), "scheduler.go")
	outcomes := func() (r Result, outcomes string) {
		t.Helper()
		r, err := Check(t.Context(), root, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range r.Tests {
			outcomes += test.Name + " " + test.Outcome + "; "
		}
		return r, outcomes
	}
	if _, got := outcomes(); got != "TestTask1Choose fail; TestTask2Both todo; " {
		t.Errorf("on the starter: %s", got)
	}
	if _, _, err := Solve(root, l, 2); err != nil {
		t.Fatal(err)
	}
	r, got := outcomes()
	if got != "TestTask1Choose fail; TestTask2Both pass; " || !strings.Contains(r.Tests[0].Report, "   got:       ") || r.Passed() {
		t.Errorf("after task 2: %s%+v", got, r)
	}
	if _, _, err := Solve(root, l, 0); err != nil {
		t.Fatal(err)
	}
	if r, got := outcomes(); !r.Passed() {
		t.Errorf("solved: %s%+v", got, r)
	}
	write(t, at, strings.Replace(read(t, at), "\t\"errors\"\n", "\t\"os\"\n", 1))
	r, _ = outcomes()
	var told bytes.Buffer
	r.Print(&told, root, false)
	for _, want := range []string{"It does not compile", "scheduler.go:", "undefined: errors", `scheduler.go: import "errors"`, `scheduler.go: remove the import "os"`} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, told.String())
		}
	}
}

func TestSolveKeepsWhatTheLearnerWrote(t *testing.T) {
	root, l := newRoot(t)
	at := filepath.Join(root, l.Dir(), "scheduler.go")
	mine := strings.Replace(read(t, at), "// fits is given.", "// fits is mine.\nvar mine = 1\n\n// fits is given.", 1)
	write(t, at, mine)
	functions, backup, err := Solve(root, l, 1)
	if err != nil || !slices.Equal(functions, []string{"choose"}) {
		t.Fatalf("solved %v (%v)", functions, err)
	}
	got := read(t, at)
	if !strings.Contains(got, "var mine = 1") || !strings.Contains(got, `errors.New("none")`) || !strings.Contains(got, `lab.TODO("05", "both")`) {
		t.Errorf("it is\n%s", got)
	}
	if kept := read(t, filepath.Join(root, backup, "scheduler.go")); kept != mine {
		t.Errorf("the copy is\n%s", kept)
	}
	if out, err := goTool(root, "vet", "./"+l.Dir()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err := Solve(root, l, 9); err == nil || !strings.Contains(err.Error(), "[1 2]") {
		t.Errorf("a task that there is not: %v", err)
	}
	write(t, at, "package scheduler\n")
	if _, _, err := Solve(root, l, 1); err == nil || !strings.Contains(err.Error(), "reset 05") {
		t.Errorf("without the function: %v", err)
	}
}

func TestResetAndDiff(t *testing.T) {
	root, l := newRoot(t)
	starter := read(t, filepath.Join(root, l.Dir(), "scheduler.go"))
	if text, err := Diff(root, l); err != nil || !strings.Contains(text, `-	return node{}, lab.TODO("05", "choose")`) {
		t.Errorf("diff: %v\n%s", err, text)
	}
	if _, _, err := Solve(root, l, 0); err != nil {
		t.Fatal(err)
	}
	if text, err := Diff(root, l); err != nil || text != "" {
		t.Errorf("diff of the solved one: %v\n%s", err, text)
	}
	write(t, filepath.Join(root, l.Dir(), "mine.go"), "package scheduler\n")
	backup, err := Reset(root, l)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, l.Dir(), "scheduler.go")); got != starter {
		t.Errorf("after the reset it is\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(root, l.Dir(), "mine.go")); err == nil {
		t.Error("a file of the learner's is still there")
	}
	if read(t, filepath.Join(root, backup, "mine.go")) == "" {
		t.Error("and no copy of it is kept")
	}
}

func TestHintsGoFromWhereToWhatAndThenStay(t *testing.T) {
	root, l := newRoot(t)
	kept := &LabProgress{}
	for i, want := range []string{"Where does it say what fits?", "Try fits for each name.", "Try fits for each name."} {
		hint, err := NextHint(root, l, 0, kept)
		if err != nil || hint.Text != want || hint.Function != "choose" || hint.Number != min(i+1, 2) || hint.OfAll != 2 {
			t.Errorf("hint %d is %+v (%v)", i+1, hint, err)
		}
	}
	if _, _, err := Solve(root, l, 1); err != nil {
		t.Fatal(err)
	}
	if hint, err := NextHint(root, l, 0, kept); err != nil || hint.Function != "both" {
		t.Errorf("the next function's hint is %+v (%v)", hint, err)
	}
	if hint, err := NextHint(root, l, 1, kept); err != nil || hint.Function != "choose" {
		t.Errorf("the hint for a task that is written is %+v (%v)", hint, err)
	}
}

func TestProgressSurvivesAndFindsWhereTheLearnerIs(t *testing.T) {
	root, l := newRoot(t)
	p, err := LoadProgress(root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Current(root); err != nil || got != l {
		t.Errorf("at first the learner is at %v (%v)", got, err)
	}
	p.Of(l).Passed = true
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if p, err = LoadProgress(root); err != nil || !p.Of(l).Passed {
		t.Errorf("it was lost: %+v (%v)", p, err)
	}
	if _, err := p.Current(root); err == nil || !strings.Contains(err.Error(), "run --mine passed") {
		t.Errorf("at the end: %v", err)
	}
	write(t, filepath.Join(root, progressFile), "{")
	if _, err := LoadProgress(root); err == nil || !strings.Contains(err.Error(), progressFile) {
		t.Errorf("a file that is broken: %v", err)
	}
}

// withLabs makes the path one of six labs that are there and one that is to come.
func withLabs(t *testing.T) {
	labs := Labs
	t.Cleanup(func() { Labs = labs })
	Labs = nil
	for number, name := range []string{"containers", "pods", "state", "api-server", "scheduler", "replicasets"} {
		Labs = append(Labs, Lab{Number: fmt.Sprintf("%02d", number+1), Name: name, Package: name})
	}
	Labs = append(Labs, Lab{Number: "07", Name: "self-healing"}, Lab{Number: "09", Name: "dns"})
}

func TestFind(t *testing.T) {
	withLabs(t)
	for _, name := range []string{"5", "05", "scheduler", "05-scheduler", "labs/05-scheduler/"} {
		if l, err := Find(name); err != nil || l.Number != "05" {
			t.Errorf("%s is %v (%v)", name, l, err)
		}
	}
	for name, words := range map[string]string{"99": "list", "": "list", "07": "still to come", "dns": "still to come"} {
		if _, err := Find(name); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseMine(t *testing.T) {
	withLabs(t)
	progress := &Progress{Labs: map[string]*LabProgress{"02": {Passed: true}, "05": {Passed: true}}}
	for text, want := range map[string]string{"": "", "01,05": "01 05", "1, 5": "01 05", "01-03": "01 02 03", "02-03,03,06": "02 03 06", "passed": "02 05", "scheduler": "05"} {
		mine, err := ParseMine(text, progress)
		var got []string
		for _, l := range mine {
			got = append(got, l.Number)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q is %v (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"99", "07", "01-99", "01-07"} {
		if _, err := ParseMine(text, progress); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := ParseMine("passed", &Progress{Labs: map[string]*LabProgress{}}); err == nil {
		t.Error("passed is taken though nothing has")
	}
}

func TestTheLearnersFilesStandInForThePackage(t *testing.T) {
	root, l := newRoot(t)
	write(t, filepath.Join(root, l.Dir(), "more.go"), "package scheduler\n")
	write(t, filepath.Join(root, l.Source(), "gone.go"), "package scheduler\n")
	replace, err := Overlay(root, []Lab{l})
	if err != nil {
		t.Fatal(err)
	}
	at := func(dir, name string) string { return filepath.Join(root, dir, name) }
	want := map[string]string{at(l.Source(), "scheduler.go"): at(l.Dir(), "scheduler.go"), at(l.Source(), "more.go"): at(l.Dir(), "more.go"), at(l.Source(), "gone.go"): ""}
	if len(replace) != len(want) {
		t.Errorf("it replaces %v", replace)
	}
	for target, by := range want {
		if replace[target] != by {
			t.Errorf("%s is replaced by %q, want %q", target, replace[target], by)
		}
	}
}

func TestBoardAndNext(t *testing.T) {
	root, l := newRoot(t)
	p, err := LoadProgress(root)
	if err != nil {
		t.Fatal(err)
	}
	show := func(f func(io.Writer, string, *Progress, Paint) error) string {
		t.Helper()
		var out bytes.Buffer
		if err := f(&out, root, p, false); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for _, step := range []struct {
		do          func()
		board, next []string
	}{
		{func() {}, []string{"▶ ○ 05  The scheduler", "0 of 3 functions", "· 07  Self-healing", "to come"},
			[]string{"labs/05-scheduler/README.md", "task 1: choose in labs/05-scheduler/scheduler.go", "task 2: node.say", "check 05"}},
		{func() { Solve(root, l, 1) }, []string{"▶ ◐ 05", "1 of 3 functions"}, []string{"task 2: both"}},
		{func() { Solve(root, l, 0); p.Of(l).Passed = true }, []string{"  ✔ 05", "3 of 3"}, []string{"all labs that are there have passed"}},
	} {
		step.do()
		for got, want := range map[string][]string{show(Board): step.board, show(Next): step.next} {
			for _, words := range want {
				if !strings.Contains(got, words) {
					t.Errorf("no %q in\n%s", words, got)
				}
			}
		}
	}
}

func TestWatchChecksWhenAFileIsSaved(t *testing.T) {
	root, l := newRoot(t)
	keyboard, typist, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer typist.Close()
	commands, ended := make(chan string), make(chan error)
	go func() {
		ended <- Watch(t.Context(), root, keyboard, io.Discard, func(_ context.Context, _ io.Writer, command ...string) error {
			commands <- strings.Join(command, " ")
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-commands:
			if got != want {
				t.Errorf("it does %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("it does not %q", want)
		}
	}
	expect("check")
	at := filepath.Join(root, l.Dir(), "scheduler.go")
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(at, later, later); err != nil {
		t.Fatal(err)
	}
	expect("check")
	for key, want := range map[string]string{"h": "hint", "n": "next", "l": "list", "c": "check --all"} {
		typist.WriteString(key)
		expect(want)
	}
	typist.WriteString("q")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSequence(t *testing.T) {
	drawn, err := sequence("actors: kubectl, API server, store\nkubectl -> API server: PUT web <7>\nstore: at 8\n...\nAPI server --> kubectl: 409\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "PUT web &lt;7&gt;", `class="l d"`, "⋮", ">store<", "</svg>"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("no %q in\n%s", want, drawn)
		}
	}
	for text, words := range map[string]string{"a -> b: x": "two actors", "actors: a, b\na -> c: x": "not named", "actors: a, b\nhello": "ACTOR -> ACTOR"} {
		if _, err := sequence(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
