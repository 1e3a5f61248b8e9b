// Package labtest is what the tests of the labs are written with. How to use it:
//
//	func TestTask2ScoreSpreadsReplicas(t *testing.T) {
//		lab := labtest.Task(t, "05", 2)
//		got := score(pod, node)
//		lab.Check(got > other, labtest.Report{
//			Did:   "scored node-1, which has a replica of the same owner, and node-2, which has none",
//			Want:  "the higher score for node-2",
//			Got:   fmt.Sprintf("node-1: %v, node-2: %v", got, other),
//			Cause: "replicas of one owner count against a node before free room counts for it",
//		})
//	}
//
// The number in a test's name is that of its task: `go run ./labs check` goes by it. A test of a lab whose folder is as it
// was made is skipped, so that plain `go test ./...` is green on a fresh clone; the check runs it nevertheless. A
// test that fails while functions are still to be written says which, and counts as to do.
package labtest

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"workshop/labs/lab"
)

// T is a test of a task.
type T struct {
	testing.TB
	number string
	task   int
}

// Report is what a learner is told of a failure.
type Report struct {
	Did   string // what the test did
	Want  string // what it expected
	Got   string // what it got instead
	Cause string // what is likely to be wrong
}

// Begun skips the test if the lab is not begun. Task does so itself; a test that calls Task only in parts of its own, or
// in a bubble of testing/synctest, calls this first.
func Begun(t testing.TB, number string) {
	t.Helper()
	if os.Getenv("MINI_K8S_LAB_CHECK") != "" {
		slog.SetDefault(slog.New(slog.DiscardHandler)) // the learner reads the report
	} else if untouched(number) {
		t.Skipf("lab %s is not started: see README.md here, and run `go run ./labs check %s`", number, number)
	}
}

// Task begins a test of a task.
func Task(t testing.TB, number string, task int) *T {
	t.Helper()
	Begun(t, number)
	l := &T{TB: t, number: number, task: task}
	lab.Hit() // what other tests have met
	t.Cleanup(func() {
		if todo := lab.Hit(); t.Failed() && len(todo) > 0 {
			t.Logf("still to be written: %s", strings.Join(todo, ", "))
		}
	})
	return l
}

// untouched reports whether every function of the lab in this folder still is the stub that it was made as.
func untouched(number string) bool {
	task, todo := regexp.MustCompile(`(?m)^//lab:`+number+` \d`), regexp.MustCompile(`lab\.TODO\("`+number+`"`)
	tasks, stubs := 0, 0
	files, _ := filepath.Glob("*.go")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && !strings.HasSuffix(file, "_test.go") {
			tasks += len(task.FindAll(text, -1))
			stubs += len(todo.FindAll(text, -1))
		}
	}
	return tasks > 0 && tasks == stubs
}

// Check fails the test with the report if the condition does not hold, and goes on.
func (l *T) Check(holds bool, r Report) {
	l.Helper()
	if !holds {
		l.Error(l.text(r))
	}
}

// Must is Check for a condition without which the rest of the test makes no sense: it ends the test.
func (l *T) Must(holds bool, r Report) {
	l.Helper()
	if !holds {
		l.Fatal(l.text(r))
	}
}

// Equal checks that got is what was wanted.
func (l *T) Equal(did string, got, want any, cause string) {
	l.Helper()
	l.Check(reflect.DeepEqual(got, want), Report{Did: did, Want: show(want), Got: show(got), Cause: cause})
}

// NoError checks that something went well.
func (l *T) NoError(did string, err error, cause string) {
	l.Helper()
	if err != nil {
		l.Must(false, Report{Did: did, Want: "no error", Got: err.Error(), Cause: cause})
	}
}

// IsError checks that an error is, or wraps, the one that was wanted.
func (l *T) IsError(did string, err, want error, cause string) {
	l.Helper()
	l.Check(errors.Is(err, want), Report{Did: did, Want: fmt.Sprintf("the error %q, perhaps wrapped", want), Got: show(err), Cause: cause})
}

// NeedDocker skips a test on a machine without Docker. Where CI=true that is a failure.
func (l *T) NeedDocker() {
	l.Helper()
	if err := exec.Command("docker", "info").Run(); err == nil {
		return
	} else if os.Getenv("CI") == "true" {
		l.Fatalf("docker info: %v", err)
	}
	l.Skip("this takes Docker, which does not answer here: `go run ./labs doctor` says how to get it")
}

func (l *T) text(r Report) string {
	return fmt.Sprintf(`
   did:       %s
   expected:  %s
   got:       %s
   perhaps:   %s
   guide:     README.md, task %d
`, wrap(r.Did), wrap(r.Want), wrap(r.Got), wrap(r.Cause), l.task)
}

// wrap keeps the later lines of a text below the first.
func wrap(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n              ")
}

func show(value any) string {
	switch v := value.(type) {
	case nil:
		return "nothing (nil)"
	case error:
		return fmt.Sprintf("the error %q", v)
	case string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%+v", value)
}
