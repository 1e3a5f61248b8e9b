package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

// Sessions with programs from and in this process, so that what is left of them can be seen.

func TestDockerSessionsLeaveNothing(t *testing.T) {
	u := newDockerUser(t)
	setHome(t)
	c := mustUp(t, Options{Name: u.name, Nodes: 1, Runtime: Docker})
	create(t, c.Client(), "app", nil)
	eventually(t, "the pod is ready", func() bool { return api.PodReady(get(t, c.Client(), "app")) }, func() string { return "" })
	s := &sessions{t: t, cluster: c}
	protocols := map[string]func(*rest.Config, string, *url.URL) (remotecommand.Executor, error){
		"WebSocket": func(config *rest.Config, method string, url *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, http.MethodGet, url.String())
		},
		"SPDY": remotecommand.NewSPDYExecutor,
	}
	for name, executor := range protocols {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			defer all.Wait()
			atOnce := make(chan bool, 8)
			for i := range 100 {
				atOnce <- true
				all.Go(func() {
					defer func() { <-atOnce }()
					if command := [][]string{{"cat"}, {"sleep", "1"}, nil, nil}[i%4]; command != nil {
						ctx, cancel := context.WithCancel(t.Context())
						reader, writer := io.Pipe()
						go io.WriteString(writer, "hi")
						defer writer.Close()
						if err := s.exec(ctx, executor, &leaving{reader, cancel}, io.Discard, command...); !errors.Is(err, context.Canceled) {
							t.Errorf("left: %v", err)
						}
						return
					}
					var exit utilexec.CodeExitError
					if err := s.exec(t.Context(), executor, strings.NewReader("unread"), io.Discard, "exit", fmt.Sprint(i)); !errors.As(err, &exit) || exit.Code != i {
						t.Errorf("exit %d: %v", i, err)
					}
				})
			}
		})
	}
	t.Run("port-forward", func(t *testing.T) {
		for range 5 {
			s.forward()
		}
	})
	eventually(t, "all that served sessions has ended", func() bool { return len(serving()) == 0 }, func() string {
		return strings.Join(serving(), "\n\n")
	})

	idle := make(chan error)
	reads, types := io.Pipe()
	go func() { idle <- s.exec(t.Context(), protocols["WebSocket"], reads, types, "cat") }() // what it hears it says again, for ever
	io.WriteString(types, "hi")
	started := time.Now()
	c.halt()
	if took := time.Since(started); took > 4*time.Second {
		t.Errorf("with a session that goes on it took %v to end", took)
	}
	types.Close()
	if err := <-idle; err == nil {
		t.Error("a session that was broken off says that all is well")
	}
}

// sessions opens them from outside, as kubectl does.
type sessions struct {
	t       *testing.T
	cluster *Cluster
}

func (s *sessions) target(subresource string, query url.Values) (*rest.Config, *url.URL) {
	config, err := clientcmd.BuildConfigFromFlags("", s.cluster.Kubeconfig())
	if err != nil {
		s.t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		s.t.Fatal(err)
	}
	target.Path, target.RawQuery = api.KindOf[*corev1.Pod]().Path("default", "app", subresource), query.Encode()
	return config, target
}

func (s *sessions) exec(ctx context.Context, executor func(*rest.Config, string, *url.URL) (remotecommand.Executor, error), stdin io.Reader, stdout io.Writer, command ...string) error {
	query := url.Values{"stdout": {"true"}, "stderr": {"true"}, "command": append([]string{"/hello"}, command...)}
	if stdin != nil {
		query.Set("stdin", "true")
	}
	config, target := s.target("exec", query)
	e, err := executor(config, http.MethodPost, target)
	if err != nil {
		return err
	}
	return e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: io.Discard})
}

// forward asks the pod something over a forwarded port, and leaves without a word.
func (s *sessions) forward() {
	config, target := s.target("portforward", nil)
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		s.t.Fatal(err)
	}
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	f, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target), []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		s.t.Fatal(err)
	}
	asks := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
	defer asks.CloseIdleConnections()
	response, err := asks.Get(fmt.Sprintf("http://127.0.0.1:%d", ports[0].Local))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() // after the connection under it is gone
	close(stop)
	if err := <-ended; err != nil {
		s.t.Error(err)
	}
}

// leaving is the input of a client who leaves after the first word.
type leaving struct {
	io.Reader
	leave func()
}

func (l *leaving) Read(data []byte) (int, error) {
	n, err := l.Reader.Read(data)
	l.leave()
	return n, err
}

// serving returns the stacks of the goroutines that serve sessions: those of the client look after its connection a while longer.
func serving() []string {
	buffer := make([]byte, 16<<20)
	all := strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n")
	marks := []string{"httpstream", "spdystream", "websocket", "httputil", "Kubelet).session", "Kubelet).forward", "runtime.talk", "politeConn"}
	return slices.DeleteFunc(all, func(stack string) bool {
		return strings.Contains(stack, "client-go") || !slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(stack, mark) })
	})
}
