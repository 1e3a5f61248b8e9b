package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/worker/network"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	docker "github.com/docker/docker/client"
)

// The bench for the tests that use mini-k8s as its users do, as a program:
//
//	u := newUser(t)                          // has a home of their own, in which clusters keep their state
//	u.run("up", "--name", u.name, "-d")      // must succeed; returns what was printed
//	u.fails(1, "words", "up", ...)           // must exit with 1 and say the words
//	p := u.start("up", "--name", u.name)     // goes on until p.stop(signal); p.says(text) waits
//	u.kubectl("get", "pods")
//	u.leavesNothing()                        // of the user's clusters
//
// Whatever a test does, at its end the user's processes are ended and all that carries the name of one of their
// clusters is removed, and nothing else: other clusters on this machine never notice.

func TestMain(m *testing.M) {
	code := m.Run()
	if dir := binaryDir; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var binaryDir string

// buildBinary builds the program, and beside it the programs of the images, as `make build` does.
var buildBinary = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "mini-k8s-test-"); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "mini-k8s")
	args := []string{"build", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "workshop/mini-k8s")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	arch, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		return "", err
	}
	for _, image := range images.All() {
		to := filepath.Join(binaryDir, "images", strings.TrimSpace(string(arch)), image.Program)
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, "workshop/mini-k8s/images/"+image.Program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=") // the same bytes as package images would build
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", image.Program, err, out)
		}
	}
	return path, nil
})

// user is somebody who uses mini-k8s.
type user struct {
	t            *testing.T
	name         string // of a cluster that they may start
	home, binary string
	env          []string
	before       machine
	docker       *docker.Client // nil if they do without
}

// newUser returns a user who does without Docker.
func newUser(t *testing.T) *user {
	t.Helper()
	binary, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, name: uniqueName(), home: t.TempDir(), binary: binary}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !slices.Contains([]string{"KUBECONFIG", "MINI_K8S_HOME", "MINI_K8S_NAME", "MINI_K8S_TOKEN"}, name) {
			u.env = append(u.env, variable)
		}
	}
	u.env = append(u.env, "MINI_K8S_HOME="+u.home, "KUBECACHEDIR="+t.TempDir(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	t.Cleanup(u.killAll)
	return u
}

// newDockerUser returns one who has Docker, or skips the test.
func newDockerUser(t *testing.T) *user {
	t.Helper()
	d := needDocker(t)
	u := newUser(t)
	u.docker = d
	u.before = look(t)
	t.Cleanup(func() {
		u.killAll()
		u.removeAll(u.name)
		if err := volumes.Remove(u.home); err != nil { // memory may be mounted there
			t.Error(err)
		}
	})
	return u
}

// needDocker skips the test if there is no daemon; with CI=true it fails.
func needDocker(t *testing.T) *docker.Client {
	t.Helper()
	d, err := ConnectDocker(t.Context())
	if err == nil && (os.Geteuid() != 0 || network.Limits() != "") {
		err = errors.New(network.Limits())
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("this takes a Docker that we rule:", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// another returns a second user on the same machine, with the same program and a home of their own.
func (u *user) another() *user {
	u.t.Helper()
	if u.docker != nil {
		return newDockerUser(u.t)
	}
	return newUser(u.t)
}

func (u *user) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = u.env
	cmd.WaitDelay = time.Second
	return cmd
}

// try runs a command of mini-k8s and returns what it printed and its exit code.
func (u *user) try(args ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	cmd := u.command(ctx, u.binary, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		u.t.Fatalf("mini-k8s %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func (u *user) run(args ...string) string {
	u.t.Helper()
	stdout, stderr, code := u.try(args...)
	if code != 0 {
		u.t.Fatalf("mini-k8s %s: exit code %d\n%s%s\n%s", strings.Join(args, " "), code, stdout, stderr, u.log())
	}
	return stdout
}

// fails runs a command that must exit with the code and say the words.
func (u *user) fails(code int, words string, args ...string) {
	u.t.Helper()
	stdout, stderr, got := u.try(args...)
	if got != code || !strings.Contains(stdout+stderr, words) {
		u.t.Errorf("mini-k8s %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, words, stdout, stderr)
	}
}

// up starts the user's cluster in the background.
func (u *user) up(args ...string) {
	u.t.Helper()
	u.run(append([]string{"up", "--detach", "--name", u.name}, args...)...)
}

// kubectl runs the real kubectl against the user's cluster.
func (u *user) kubectl(args ...string) string {
	u.t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil && os.Getenv("CI") == "true" {
		u.t.Fatal(err)
	} else if err != nil {
		u.t.Skip("this takes kubectl:", err)
	}
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	cmd := u.command(ctx, path, args...)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+u.kubeconfig())
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut.String())
	}
	return string(out)
}

func (u *user) kubeconfig() string { return filepath.Join(u.home, u.name, "kubeconfig") }

func (u *user) client() *client.Client {
	u.t.Helper()
	return connect(u.t, u.kubeconfig())
}

// log returns what the user's clusters have logged, for a test that fails.
func (u *user) log() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(u.home, "*", "mini-k8s.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		fmt.Fprintf(&all, "%s:\n%s", file, text)
	}
	return all.String()
}

// process is a command that goes on.
type process struct {
	u      *user
	cmd    *exec.Cmd
	mu     sync.Mutex // guards printed
	text   strings.Builder
	ended  chan struct{}
	failed error
}

func (u *user) start(args ...string) *process {
	u.t.Helper()
	p := &process{u: u, cmd: u.command(context.WithoutCancel(u.t.Context()), u.binary, args...), ended: make(chan struct{})}
	reader, writer := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	if err := p.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(reader)
		for {
			r, _, err := lines.ReadRune() // progress is told before its line has ended
			if err != nil {
				return
			}
			p.mu.Lock()
			p.text.WriteRune(r)
			p.mu.Unlock()
		}
	}()
	go func() {
		p.failed = p.cmd.Wait()
		writer.Close()
		<-read
		close(p.ended)
	}()
	return p
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *process) says(text string) {
	p.u.t.Helper()
	eventually(p.u.t, "it says "+text, func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return strings.Contains(p.printed(), text)
		}
	}, p.printed)
	if !strings.Contains(p.printed(), text) {
		p.u.t.Fatalf("it ended (%v) and said only\n%s", p.failed, p.printed())
	}
}

// stop sends the signal and returns the exit code.
func (p *process) stop(signal os.Signal) int {
	p.u.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.u.t.Errorf("%v: %v", signal, err)
	}
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		p.u.t.Fatalf("%v does not stop it:\n%s", signal, p.printed())
	}
	return p.cmd.ProcessState.ExitCode()
}

// processes returns those of the user: they run our program and have the user's home in their environment.
func (u *user) processes() []int {
	var found []int
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != u.binary {
			continue
		}
		environment, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "environ"))
		if slices.Contains(strings.Split(string(environment), "\x00"), "MINI_K8S_HOME="+u.home) {
			var pid int
			fmt.Sscanf(link, "/proc/%d/exe", &pid)
			found = append(found, pid)
		}
	}
	return found
}

func (u *user) killAll() {
	for _, pid := range u.processes() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(10 * time.Second); len(u.processes()) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
}

// removeAll removes what is left of a cluster in Docker, past the code that is being tested.
func (u *user) removeAll(cluster string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range u.containers(cluster) {
		u.docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
	}
	if err := network.Remove(ctx, u.docker, cluster); err != nil && !strings.Contains(err.Error(), "No such file") {
		u.t.Errorf("clean up: %v", err)
	}
}

// containers returns those of a cluster, running or not.
func (u *user) containers(cluster string) []container.Summary {
	found, err := u.docker.ContainerList(context.WithoutCancel(u.t.Context()),
		container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", runtime.LabelCluster+"="+cluster))})
	if err != nil {
		u.t.Error(err)
	}
	return found
}

// machine is what a cluster can leave on one: lines that say what there is.
type machine map[string]bool

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+ ?`)

// look returns what is there now.
func look(t *testing.T) machine {
	t.Helper()
	found := machine{}
	for _, command := range []string{"docker ps -a --no-trunc --format {{.Names}}{{.Labels}}", "docker network ls --format {{.Name}}", "iptables-save", "nft list ruleset", "ip route"} {
		words := strings.Fields(command)
		out, err := exec.Command(words[0], words[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ":") { // times and counters
				continue
			}
			found[words[0]+": "+counters.ReplaceAllString(strings.TrimSpace(line), "")] = true
		}
	}
	return found
}

// leavesNothing fails the test if something of the user's clusters is left: processes, state, containers, networks or
// packet rules.
func (u *user) leavesNothing() {
	u.t.Helper()
	eventually(u.t, "all processes have ended", func() bool { return len(u.processes()) == 0 }, func() string { return fmt.Sprint(u.processes()) })
	mustBeEmpty(u.t, u.home)
	if u.docker == nil {
		return
	}
	for _, c := range u.containers(u.name) {
		u.t.Errorf("there is the container %s (%s)", c.Names, c.State)
	}
	for line := range u.since() {
		u.t.Errorf("there is more than before: %s", line)
	}
}

// since returns what is there of the user's cluster and was not: whatever a cluster makes has its name or that of one
// of its bridges in it. Other clusters come and go meanwhile, also such as are no test's.
func (u *user) since() machine {
	u.t.Helper()
	marks := []string{u.name}
	for i := range 10 {
		marks = append(marks, network.Bridge(u.name, fmt.Sprintf("node-%d", i+1)))
	}
	now := look(u.t)
	maps.DeleteFunc(now, func(line string, _ bool) bool {
		return u.before[line] || !slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(line, mark) })
	})
	return now
}
