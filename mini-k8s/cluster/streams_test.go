package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/images"

	"github.com/creack/pty"
	corev1 "k8s.io/api/core/v1"
)

// Talking to programs in containers: logs, exec, attach and port-forward, with each kubectl.

func TestDockerKubectlTalksToPrograms(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "1")
	u.serving(3)
	u.service("hello", nil)
	create(t, u.client(), "two", func(pod *corev1.Pod) {
		pod.Spec.Containers = []corev1.Container{{Name: "a", Image: images.HelloV1.Name, Args: []string{"sleep"}}, {Name: "b", Image: images.HelloV1.Name}}
	})
	create(t, u.client(), "wrote", func(pod *corev1.Pod) {
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Spec.Containers = []corev1.Container{{Name: "a", Image: images.HelloV1.Name, Args: []string{"log", "5"}, TTY: true},
			{Name: "b", Image: images.HelloV1.Name, Args: []string{"log", "1"}, TTY: true}} // with a terminal both outputs are in order
	})
	create(t, u.client(), "crashed", func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Args, pod.Spec.Containers[0].TTY = []string{"log", "1"}, true // again and again
	})
	eventually(t, "the pods are as they shall be", func() bool {
		return api.PodReady(get(t, u.client(), "two")) && get(t, u.client(), "wrote").Status.Phase == corev1.PodSucceeded && restarts(get(t, u.client(), "crashed")) > 0
	}, u.log)
	for _, binary := range kubectls(t) {
		t.Run(filepath.Base(binary), func(t *testing.T) {
			k := &kubectl{t: t, user: u, binary: binary}
			t.Run("exec", k.testExec)
			t.Run("exec with a terminal", k.testTerminal)
			t.Run("attach and run", k.testAttach)
			t.Run("port-forward", k.testPortForward)
			t.Run("logs", k.testLogs)
			t.Run("viewer", k.testViewer)
		})
	}
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func restarts(pod *corev1.Pod) int32 {
	if len(pod.Status.ContainerStatuses) == 0 {
		return 0
	}
	return pod.Status.ContainerStatuses[0].RestartCount
}

// kubectls returns the one of the PATH and those that the environment variable KUBECTLS lists.
func kubectls(t *testing.T) []string {
	t.Helper()
	binary, err := exec.LookPath("kubectl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("this takes kubectl:", err)
	}
	return append([]string{binary}, filepath.SplitList(os.Getenv("KUBECTLS"))...)
}

// kubectl is one version of it, in the hands of a user.
type kubectl struct {
	t      *testing.T
	user   *user
	binary string
}

func (k *kubectl) command(ctx context.Context, line string) *exec.Cmd {
	cmd := k.user.command(ctx, k.binary, strings.Fields(line)...)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+k.user.kubeconfig())
	return cmd
}

// session is a call of kubectl, and what must come of it.
type session struct {
	line   string
	stdin  string
	stdout string // all of it
	stderr string // a part
	code   int
}

// run calls kubectl for each session.
func (k *kubectl) run(t *testing.T, sessions ...session) {
	for _, s := range sessions {
		name, _, _ := strings.Cut(s.line, " --token")
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := k.command(ctx, s.line)
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.stdin), &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
				t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
			}
			if code := cmd.ProcessState.ExitCode(); code != s.code || stdout.String() != s.stdout || !strings.Contains(stderr.String(), s.stderr) {
				t.Errorf("exit code %d, want %d\nprints\n%.500s\nwant\n%.500s\nand to stderr\n%s\nwant\n%s", code, s.code, &stdout, s.stdout, &stderr, s.stderr)
			}
		})
	}
}

func (k *kubectl) testExec(t *testing.T) {
	const much = 5_000_000
	k.run(t,
		session{line: "exec deploy/hello -- /hello exit 0"},
		session{line: "exec deploy/hello -- /hello exit 3", stderr: "exit code 3", code: 3},
		session{line: "exec deploy/hello -- /hello log 2", stdout: "line 1\nline 2\n", stderr: "error line 1\nerror line 2\n"},
		session{line: "exec deploy/hello -- /hello cat", stdin: "not passed on", stderr: "0 bytes"},
		session{line: "exec -i deploy/hello -- /hello cat", stdin: "hi\nyou", stdout: "hi\nyou", stderr: "6 bytes"},
		session{line: "exec -i deploy/hello -- /hello cat", stdin: strings.Repeat("a", much), stdout: strings.Repeat("a", much), stderr: fmt.Sprint(much, " bytes")},
		session{line: "exec -i deploy/hello -- /hello exit 5", stdin: strings.Repeat("unread ", much/10), stderr: "exit code 5", code: 5},
		session{line: "exec two -c b -- /hello get http://localhost:8080/healthz", stdout: "ok\n"},
		session{line: "exec two -c c -- /hello", stderr: "container c is not valid for pod two", code: 1},
		session{line: "exec deploy/hello -- /hello size", stderr: "inappropriate ioctl for device", code: 1},
		session{line: "exec wrote -c a -- /hello", stderr: "cannot exec into a container in a completed pod", code: 1},
		session{line: "exec none -- /hello", stderr: `pods "none" not found`, code: 1},
	)
	// What Docker says of it, and whether the code is 126 or 127, is its own.
	out, err := k.command(t.Context(), "exec deploy/hello -- no-such-program").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `"no-such-program": executable file not found`) || !strings.Contains(string(out), "exit code 12") {
		t.Errorf("a program that does not exist: %v\n%s", err, out)
	}
}

// testTerminal looks at the size of a terminal as the program sees it.
func (k *kubectl) testTerminal(t *testing.T) {
	p := k.onTerminal(t, "exec -it deploy/hello -- /hello size")
	p.says("80 x 24")
	p.resize(100, 30)
	p.says("100 x 30")
	p.resize(77, 11)
	p.says("77 x 11")
	p.types("\x03") // Ctrl-C, which the terminal in the container makes a signal of
	if code := p.ends(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.printed())
	}
	p = k.onTerminal(t, "exec -it deploy/hello -- /hello cat")
	p.types("something\n")
	p.says("something\r\nsomething\r\n") // what was typed, and what the program makes of it
	p.types("\x04")                      // Ctrl-D
	if code := p.ends(); code != 0 || !strings.Contains(p.printed(), "10 bytes") {
		t.Errorf("exit code %d\n%s", code, p.printed())
	}
}

func (k *kubectl) testAttach(t *testing.T) {
	k.run(t,
		session{line: "run piped -i --rm --restart=Never --quiet --image=" + images.HelloV1.Name + " -- cat", stdin: "hi\n", stdout: "hi\n"},
		session{line: "attach wrote -c a", stderr: "cannot attach a container in a completed pod", code: 1},
	)
	p := k.onTerminal(t, "run typed -it --rm --restart=Never --image="+images.HelloV1.Name+" -- size")
	p.resize(90, 20)
	p.says("90 x 20")
	p.types("\x03")
	p.says(`pod "typed" deleted`)
	if code := p.ends(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.printed())
	}
	p = k.onTerminal(t, "attach two -c b")
	p.says("If you don't see a command prompt")
	ip := get(t, k.user.client(), "two").Status.PodIP
	eventually(t, "what the program writes is seen", func() bool {
		k.user.ask(ip)
		return strings.Contains(p.printed(), "GET / from")
	}, p.printed)
	p.types("\x03") // for kubectl
	p.ends()
	if pod := get(t, k.user.client(), "two"); restarts(pod) != 0 || !api.PodReady(pod) {
		t.Errorf("after its client has left the pod is %+v", pod.Status)
	}
}

func (k *kubectl) testPortForward(t *testing.T) {
	for _, target := range []string{"pod/two :8080", "deployment/hello :8080", "service/hello :80"} {
		port, stop := k.forward(t, target)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				asks := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
				response, err := asks.Get("http://" + port)
				if err != nil {
					t.Errorf("%s: %v", target, err)
					return
				}
				defer response.Body.Close()
				if text, err := io.ReadAll(response.Body); err != nil || !strings.HasPrefix(string(text), "hello from ") {
					t.Errorf("%s answers %q (%v)", target, text, err)
				}
			})
		}
		all.Wait()
		stop("")
	}
	port, stop := k.forward(t, "pod/two :81")
	if conn, err := net.Dial("tcp", port); err != nil {
		t.Error(err)
	} else {
		conn.Read(make([]byte, 1)) // until it is told
		conn.Close()
	}
	stop("connect: connection refused")
	k.run(t,
		session{line: "port-forward wrote :80", stderr: "unable to forward port because pod is not running", code: 1},
		session{line: "port-forward none :80", stderr: `pods "none" not found`, code: 1},
	)
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward returns the address from which kubectl forwards. stop waits until it has said the words, and ends it.
func (k *kubectl) forward(t *testing.T, line string) (address string, stop func(words string)) {
	p := k.onTerminal(t, "port-forward "+line)
	p.says("Forwarding from 127.0.0.1")
	p.says("\n")
	return forwarding.FindStringSubmatch(p.printed())[1], func(words string) {
		p.says(words)
		p.types("\x03")
		p.ends()
	}
}

func (k *kubectl) testLogs(t *testing.T) {
	lines := func(prefix string, from, to int) (all string) {
		for i := from; i <= to; i++ {
			all += fmt.Sprintf("%sline %d\r\n%serror line %d\r\n", prefix, i, prefix, i)
		}
		return all
	}
	k.run(t,
		session{line: "logs wrote -c a --tail=1", stdout: "error line 5\r\n"},
		session{line: "logs wrote -c b -f", stdout: lines("", 1, 1)},
		session{line: "logs wrote -c b --prefix", stdout: lines("[pod/wrote/b] ", 1, 1)},
		session{line: "logs wrote -c a --limit-bytes=10", stdout: lines("", 1, 1)[:10]},
		session{line: "logs wrote -c b --since-time=2020-01-01T00:00:00Z", stdout: lines("", 1, 1)},
		session{line: "logs wrote -c b --since=1h", stdout: lines("", 1, 1)},
		session{line: "logs wrote -c b --since-time=2100-01-01T00:00:00Z"},
		session{line: "logs crashed --previous", stdout: lines("", 1, 1)},
		session{line: "logs two -c a --previous", stderr: `previous terminated container "a" in pod "two" not found`, code: 1},
		session{line: "logs two -c none", stderr: "container none is not valid for pod two", code: 1},
		session{line: "logs -l app=hello --tail=0"},
	)
	for line, want := range map[string]string{
		"logs wrote -c b --timestamps":         `^\d{4}-\d\d-\d\dT[\d:.]+Z line 1\r\n`,
		"logs wrote --all-containers --prefix": `(?s)(\[pod/wrote/(a\] line 5|b\] line 1)\r\n.*){2}`,
		"logs -l app=hello --prefix --tail=1":  `(?s)\[pod/hello-.*\[pod/hello-.*\[pod/hello-`,
	} {
		out, err := k.command(t.Context(), line).CombinedOutput()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%s: %v, prints\n%s\nwant\n%s", line, err, out, want)
		}
	}
}

// testViewer tries what shows nothing, but does something.
func (k *kubectl) testViewer(t *testing.T) {
	token := strings.TrimSpace(k.user.run("token", "--name", k.user.name, "--user", "viewer"))
	as := func(line string) string { return line + " --token=" + token }
	k.run(t,
		session{line: "exec --token=" + token + " two -c b -- /hello exit 0", stderr: `user "viewer" may not`, code: 1},
		session{line: as("logs wrote -c a --tail=1"), stdout: "error line 5\r\n"},
		session{line: as("attach two -c b"), stderr: `user "viewer" may not`, code: 1},
		session{line: as("port-forward two :80"), stderr: `user "viewer" may not`, code: 1},
	)
}

// onTerminal starts kubectl on a terminal of 80 x 24 characters.
func (k *kubectl) onTerminal(t *testing.T, line string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	p := &terminal{t: t, cmd: k.command(ctx, line), ended: make(chan struct{})}
	var err error
	if p.side, err = pty.StartWithSize(p.cmd, &pty.Winsize{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		io.Copy(&p.text, p.side) // fails when the other side is closed
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		p.side.Close()
	})
	return p
}

// terminal is one with a program on it.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	side  *os.File // where the person sits
	text  seen
	ended chan struct{}
}

type seen struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *seen) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(data)
}

func (p *terminal) printed() string {
	p.text.mu.Lock()
	defer p.text.mu.Unlock()
	return p.text.text.String()
}

func (p *terminal) says(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("it says %q", text), func() bool { return strings.Contains(p.printed(), text) }, p.printed)
}

func (p *terminal) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.side, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) resize(width, height uint16) {
	p.t.Helper()
	if err := pty.Setsize(p.side, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits until it has ended and returns the exit code.
func (p *terminal) ends() int {
	p.t.Helper()
	eventually(p.t, "it ends", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}, p.printed)
	return p.cmd.ProcessState.ExitCode()
}
