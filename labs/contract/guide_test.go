package contract

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"workshop/labs/workbench"
)

// A guide is a script: each block of commands in it is typed into a clone of the workshop, in the order of the page, and must
// print what the page says.
//
//	```console                 $ a command, and below it what it prints; "..." stands for any lines
//	```console background      one command that goes on until the end of the page, as in a second terminal
//	<!-- $ command -->         typed as well, but not shown: the learner's work between two blocks
//
// What differs from time to time (durations, addresses, the random ends of names) may differ. A command that ends with
// another code than 0 says so as `go run` does: "exit status 1".

// command is one that a page shows.
type command struct {
	line       int
	text       string
	want       []string
	hidden     bool
	background bool
}

// readGuide takes the commands out of a page.
func readGuide(t *testing.T, path string) []command {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var commands []command
	inside, background, goesOn := false, false, false
	for i, line := range strings.Split(string(text), "\n") {
		word, isCommand := strings.CutPrefix(line, "$ ")
		hidden, isHidden := strings.CutPrefix(line, "<!-- $ ")
		last := len(commands) - 1
		switch {
		case strings.HasPrefix(line, "```"):
			inside = !inside && strings.HasPrefix(line, "```console")
			background, goesOn = strings.HasPrefix(line, "```console background"), false
		case isHidden && !inside:
			commands = append(commands, command{line: i + 1, text: strings.TrimSuffix(hidden, " -->"), hidden: true})
		case inside && goesOn:
			commands[last].text += "\n" + line
			goesOn = strings.HasSuffix(line, `\`)
		case inside && isCommand:
			commands = append(commands, command{line: i + 1, text: word, background: background})
			goesOn = strings.HasSuffix(line, `\`)
		case inside && last >= 0:
			commands[last].want = append(commands[last].want, line)
		}
	}
	return commands
}

// volatile is what may differ in a word.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`^\(?\d+(\.\d+)?(ns|µs|ms|s|m|h|d)(\d+s)?\)?$`), "TIME"},
	{regexp.MustCompile(`^\d+\.\d+$`), "NUMBER"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d`), "CLOCK"},
	{regexp.MustCompile(`\d{8}-\d{6}\.\d{3}`), "STAMP"},
	{regexp.MustCompile(`\b10\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{8,10}\b`), "-HASH"},
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-RANDOM"},
	{regexp.MustCompile(`^[0-9a-f]{12,64}$`), "ID"},
	{regexp.MustCompile(`(?i)^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`), "UID"},
}

func normal(line string) string {
	words := strings.Fields(line)
	for i, word := range words {
		for _, v := range volatile {
			word = v.pattern.ReplaceAllString(word, v.with)
		}
		words[i] = word
	}
	return strings.Join(words, " ")
}

// prints compares what was printed with what a page says; nil if it is the same.
func (c command) prints(output string) error {
	got := strings.Split(strings.TrimSpace(output), "\n")
	skip := false
	for _, want := range c.want {
		switch {
		case strings.TrimSpace(want) == "":
			continue
		case strings.TrimSpace(want) == "...":
			skip = true
			continue
		}
		for len(got) > 0 && (skip && normal(got[0]) != normal(want) || normal(got[0]) == "") {
			got = got[1:]
		}
		if len(got) == 0 || normal(got[0]) != normal(want) {
			return fmt.Errorf("it does not print the line\n\t%s", want)
		}
		got, skip = got[1:], false
	}
	rest := strings.TrimSpace(strings.Join(got, "\n"))
	if len(c.want) > 0 && !skip && rest != "" {
		return fmt.Errorf("it prints more than the page says:\n%s", rest)
	}
	return nil
}

// looks tells the commands that look and change nothing: they are tried again until they show what the page says, for a cluster
// takes its time.
var looks = regexp.MustCompile(`^(kubectl (get|describe|logs|events|rollout status)|curl |docker (ps|inspect|logs)|bin/\S+ (get|events|logs|describe))`)

// shell is a terminal in a clone of the workshop.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

// newShell copies the workshop to a folder of its own.
func newShell(t *testing.T) *shell {
	t.Helper()
	top := root(t)
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = top
	files, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(top, path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		info, statErr := os.Stat(filepath.Join(top, path))
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, text, info.Mode())); err != nil {
			t.Fatal(err)
		}
	}
	s := &shell{t: t, dir: dir}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); name != "KUBECONFIG" && name != workbench.CheckVariable {
			s.env = append(s.env, variable)
		}
	}
	name := fmt.Sprintf("g%x", time.Now().UnixNano()>>16&0xffffffff)
	s.env = append(s.env, "MINI_K8S_HOME="+filepath.Join(dir, "home"), "MINI_K8S_NAME="+name, "KUBECACHEDIR="+filepath.Join(dir, "kube"), "TERM=dumb")
	t.Cleanup(func() { s.run("test ! -x bin/mine/mini-k8s || bin/mine/mini-k8s down") })
	return s
}

// run types a command and returns what it prints and its exit code. What it exports stays for the next.
func (s *shell) run(text string) (string, int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", ". ./.exported 2>/dev/null\n"+text+"\ncode=$?; export -p > .exported; exit $code")
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, s.env, 5*time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("$ %s\n%v\n%s", text, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// types types one command of a page and compares.
func (s *shell) types(c command) {
	s.t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for {
		output, code := s.run(c.text)
		err := c.prints(output)
		if code != 0 && (c.hidden || !strings.Contains(strings.Join(c.want, "\n"), "exit status")) {
			err = errors.Join(err, fmt.Errorf("exit code %d", code))
		}
		if err == nil {
			return
		}
		if !looks.MatchString(c.text) || time.Now().After(deadline) {
			s.t.Fatalf("line %d: $ %s\n%v\n\nIt printed:\n%s", c.line, c.text, err, output)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// background is a command that goes on.
type background struct {
	cmd   *exec.Cmd
	mu    sync.Mutex // guards text
	text  bytes.Buffer
	ended chan struct{}
}

func (b *background) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *background) printed() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// starts types a command that goes on and waits until its cluster is ready.
func (s *shell) starts(c command) *background {
	s.t.Helper()
	b := &background{ended: make(chan struct{}), cmd: exec.Command("bash", "-c", ". ./.exported 2>/dev/null\nexec "+c.text)}
	b.cmd.Dir, b.cmd.Env, b.cmd.Stdout, b.cmd.Stderr = s.dir, s.env, b, b
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt reaches all that it started, as from a terminal
	if err := b.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		b.cmd.Wait()
		close(b.ended)
	}()
	s.t.Cleanup(func() { syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) })
	for deadline := time.Now().Add(4 * time.Minute); !strings.Contains(b.printed(), "Ctrl-C removes the cluster"); time.Sleep(50 * time.Millisecond) {
		select {
		case <-b.ended:
			s.t.Fatalf("line %d: $ %s\nit ended:\n%s", c.line, c.text, b.printed())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("line %d: $ %s\nthe cluster is not ready:\n%s", c.line, c.text, b.printed())
		}
	}
	if err := c.prints(b.printed()); err != nil {
		s.t.Errorf("line %d: $ %s\n%v\n\nIt printed:\n%s", c.line, c.text, err, b.printed())
	}
	return b
}

// ends types Ctrl-C.
func (b *background) ends(t *testing.T) {
	t.Helper()
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-b.ended:
		if !strings.Contains(b.printed(), "nothing is left") {
			t.Errorf("after Ctrl-C it said\n%s", b.printed())
		}
	case <-time.After(time.Minute):
		t.Errorf("Ctrl-C does not end it:\n%s", b.printed())
	}
}

// follow types a whole page. Where it has the lab solved, that goes task by task.
func (s *shell) follow(l workbench.Lab, path string) {
	s.t.Helper()
	var running *background
	for _, c := range readGuide(s.t, path) {
		switch {
		case c.background:
			running = s.starts(c)
		case c.hidden && c.text == "go run ./labs solve "+l.Number+" --yes":
			s.solves(l)
		default:
			s.types(c)
		}
	}
	if running != nil {
		running.ends(s.t)
	}
}

var counted = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed, (\d+) to do|^All (\d+) tests pass`)

// solves puts the functions of one task after the other into the learner's files. After each more tests pass, and those that
// do not yet are to do: nothing that a learner has right is ever called wrong.
func (s *shell) solves(l workbench.Lab) {
	s.t.Helper()
	tasks, err := workbench.Tasks(s.dir, l)
	if err != nil {
		s.t.Fatal(err)
	}
	passed := 0
	for task := range tasks {
		if out, code := s.run(fmt.Sprintf("go run ./labs solve %s --task %d --yes", l.Number, task+1)); code != 0 {
			s.t.Fatalf("solve task %d: %s", task+1, out)
		}
		if l.Docker {
			continue // each check takes its time; the page has one at the end
		}
		out, _ := s.run("go run ./labs check " + l.Number)
		found := counted.FindStringSubmatch(out)
		if found == nil {
			s.t.Fatalf("after task %d:\n%s", task+1, out)
		}
		all := task == len(tasks)-1
		now, _ := strconv.Atoi(cmp.Or(found[1], found[4]))
		if now <= passed || found[2] != "" && found[2] != "0" || all != (found[4] != "") {
			s.t.Errorf("after task %d of %d, where %d tests passed before:\n%s", task+1, len(tasks), passed, out)
		}
		passed = now
	}
}

// A learner follows the guides from the first to the last, and then runs a cluster in which all that can be is their own.
func TestALearnerFollowsTheGuides(t *testing.T) {
	t.Parallel() // it waits for clusters more than it computes
	s := newShell(t)
	top := root(t)
	for _, l := range workbench.Available() {
		t.Run(l.Number+"-"+l.Name, func(t *testing.T) {
			needDocker(t)
			at := &shell{t: t, dir: s.dir, env: s.env}
			at.follow(l, filepath.Join(top, l.Dir(), "README.md"))
		})
	}
	t.Run("all of it", func(t *testing.T) {
		needDocker(t)
		at := &shell{t: t, dir: s.dir, env: s.env}
		running := at.starts(command{text: "go run ./labs run --mine passed"})
		verify := "go run ./labs verify"
		for _, l := range workbench.Available() {
			if verify += " " + l.Number; !strings.Contains(running.printed(), l.Number+"-"+l.Name) {
				t.Errorf("lab %s is not the learner's:\n%s", l.Number, running.printed())
			}
		}
		at.types(command{text: verify})
		running.ends(t)
	})
}

func needDocker(t *testing.T) {
	t.Helper()
	if err := exec.Command("docker", "info").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("docker info: %v", err)
		}
		t.Skip("this takes Docker, which does not answer here")
	}
}
