package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cmdline"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	"github.com/urfave/cli/v2"
)

// bench is a cluster of an API server and nothing else, over TLS and with a kubeconfig, as a user has it.
type bench struct {
	t          *testing.T
	kubeconfig string
	client     *client.Client // to prepare and to look, past the commands
}

// newBench starts an API server. wrap, if not nil, stands between it and the network.
func newBench(t *testing.T, wrap func(http.Handler) http.Handler) *bench {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "db"))
	must(err)
	t.Cleanup(func() { s.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	server, err := apiserver.New(ctx, apiserver.Config{Store: s})
	must(err)
	ca, err := pki.LoadOrCreate(t.TempDir())
	must(err)
	pair, err := ca.Issue("apiserver", "127.0.0.1")
	must(err)
	handler := server.Handler()
	if wrap != nil {
		handler = wrap(handler)
	}
	web := httptest.NewUnstartedServer(handler)
	web.TLS, err = pki.ServerTLS(ca.CertPEM, pair)
	must(err)
	web.StartTLS()
	t.Cleanup(web.Close)
	admin, err := ca.Issue("admin")
	must(err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(pki.Kubeconfig{Cluster: "mini-k8s", Server: web.URL, CAPEM: ca.CertPEM, User: "admin", Pair: admin}.Write(path))
	return &bench{t: t, kubeconfig: path, client: client.New(client.Config{Name: "test", Transport: client.InMemory(server.As("admin"))})}
}

// run runs a command line as a user types it.
func (b *bench) run(line string) (out, errOut string, err error) {
	return b.runWith(context.Background(), "", nil, line)
}

func (b *bench) runWith(ctx context.Context, stdin string, out *syncBuffer, line string) (string, string, error) {
	if out == nil {
		out = &syncBuffer{}
	}
	var errOut syncBuffer
	app := &cli.App{Name: "mini-k8s", Commands: Commands(), Reader: strings.NewReader(stdin), Writer: out, ErrWriter: &errOut,
		ExitErrHandler: func(*cli.Context, error) {}}
	args := append([]string{"mini-k8s"}, strings.Fields(line)...)
	args = append(args, "--kubeconfig", b.kubeconfig)
	err := app.RunContext(ctx, cmdline.Arrange(app, args))
	return out.String(), errOut.String(), err
}

// ok runs a command that must succeed and returns what it printed.
func (b *bench) ok(line string) string {
	b.t.Helper()
	out, errOut, err := b.run(line)
	if err != nil {
		b.t.Fatalf("mini-k8s %s: %v\n%s%s", line, err, out, errOut)
	}
	return out
}

// fails runs a command that must fail with a message that has all the words.
func (b *bench) fails(line string, words ...string) {
	b.t.Helper()
	out, _, err := b.run(line)
	if err == nil {
		b.t.Fatalf("mini-k8s %s: no error, but %q", line, out)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			b.t.Errorf("mini-k8s %s: the error does not say %q: %v", line, word, err)
		}
	}
}

// file writes a manifest and returns its path.
func (b *bench) file(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// apply applies a manifest.
func (b *bench) apply(content string) string {
	b.t.Helper()
	return b.ok("apply -f " + b.file("manifest.yaml", content))
}

// follow starts a command that does not end, and returns what ends it and what it has printed.
func (b *bench) follow(line string) (out *syncBuffer, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	out = &syncBuffer{}
	done := make(chan error, 1)
	go func() {
		_, _, err := b.runWith(ctx, "", out, line)
		done <- err
	}()
	return out, func() error { cancel(); return <-done }
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "hello:v1"}]}
`

const pod = `apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec: {containers: [{name: web, image: "hello:v1"}]}
`

func TestWithoutAClusterTheErrorSaysWhatToDo(t *testing.T) {
	t.Setenv("MINI_K8S_HOME", t.TempDir())
	b := &bench{t: t}
	b.fails("get pods", "no cluster runs here", "mini-k8s up", "KUBECONFIG")
	b.kubeconfig = filepath.Join(t.TempDir(), "absent")
	b.fails("get pods", "absent", "mini-k8s up")
	b = newBench(t, nil)
	b.fails("get pods --bogus", "bogus", "mini-k8s get --help")
	b.fails("get jobs", `no kind "jobs"`, "deployments/deploy")
}

func TestAServerThatIsDownIsExplained(t *testing.T) {
	b := newBench(t, nil)
	text, _ := os.ReadFile(b.kubeconfig)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.Contains(line, "server:") {
			lines[i] = "    server: https://127.0.0.1:1"
		}
	}
	os.WriteFile(b.kubeconfig, []byte(strings.Join(lines, "\n")), 0o600)
	b.fails("get pods", "https://127.0.0.1:1 running?", "mini-k8s up")
}

func TestVersionTellsClientAndServer(t *testing.T) {
	out := newBench(t, nil).ok("version")
	if !strings.Contains(out, "Client: v1.") || !strings.Contains(out, "Server: v1.") {
		t.Error(out)
	}
}
