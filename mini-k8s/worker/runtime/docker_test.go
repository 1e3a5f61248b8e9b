package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"workshop/mini-k8s/images"
)

func TestDocker(t *testing.T) {
	testRuntime(t, newDocker(t, dockerOrSkip(t)))
}

func TestDockerWithNoNodeSeesThoseOfAll(t *testing.T) {
	docker := dockerOrSkip(t)
	r := newDocker(t, docker)
	mustStartSandbox(t, r, newPod(t, r))

	options := r.options
	options.Node = ""
	if pods, err := NewDocker(docker, options).Pods(t.Context()); err != nil || len(pods) != 1 {
		t.Errorf("without a node it sees %+v (%v), want one pod", pods, err)
	}
}

func TestDockerShowsAContainerThatCannotStartAsExited(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	id, err := r.StartContainer(t.Context(), mustStartSandbox(t, r, pod), pod,
		ContainerSpec{Name: "web", Image: images.HelloV1.Name, Command: []string{"/no-such-program"}})
	if err == nil || id == "" {
		t.Fatalf("StartContainer returned ID %q and error %v; want both", id, err)
	}
	c := mustContainer(t, r, pod.UID, id)
	if c.State != Exited || c.ExitCode != 128 || !strings.Contains(c.Message, "no-such-program") || c.FinishedAt.IsZero() {
		t.Errorf("the container is %+v; want it exited with code 128 and a message", c)
	}
}

func TestDockerSandboxOutlivesItsContainersAndShowsItsOwnDeath(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	sandbox := mustStartSandbox(t, r, pod)
	id := mustStart(t, r, sandbox, pod, "web", 0)
	if err := r.RemoveContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if held := mustPod(t, r, pod.UID).Sandbox; *held != sandbox {
		t.Errorf("without its container the sandbox is %+v, was %+v", held, sandbox)
	}
	if err := r.Signal(t.Context(), sandbox.ID, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sandbox is shown as dead", func() bool { return !mustPod(t, r, pod.UID).Sandbox.Running })
}

func TestDockerServesOnHostPortUnderThePodsName(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	pod := newPod(t, r)
	pod.Spec.Containers = []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{
		{ContainerPort: 8080, HostPort: int32(free.Addr().(*net.TCPAddr).Port), HostIP: "127.0.0.1"}}}}
	mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0)
	eventually(t, "the pod answers by its name on "+address, func() bool {
		response, err := http.Get("http://" + address)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var body bytes.Buffer
		body.ReadFrom(response.Body)
		return strings.HasPrefix(body.String(), "hello from web-1 ")
	})
}

func TestDockerLogs(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	id := mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0, "log", "3")
	eventually(t, "the container ends", func() bool { return mustContainer(t, r, pod.UID, id).State == Exited })

	two, none := int64(2), int64(0)
	for _, test := range []struct {
		name    string
		options LogOptions
		lines   int
	}{
		{"all of both streams", LogOptions{}, 6},
		{"the last two", LogOptions{Tail: &two}, 2},
		{"the last none", LogOptions{Tail: &none}, 0},
		{"since long ago", LogOptions{Since: time.Now().Add(-time.Hour)}, 6},
		{"since later", LogOptions{Since: time.Now().Add(time.Hour)}, 0},
		{"follow the dead", LogOptions{Follow: true}, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := logOf(t, r, id, test.options); strings.Count(got, "\n") != test.lines || strings.Contains(got, "\x00") {
				t.Errorf("the log is %q, want %d lines", got, test.lines)
			}
		})
	}
	stamp, _, _ := strings.Cut(logOf(t, r, id, LogOptions{Timestamps: true}), " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
		t.Error(err)
	}
}

func logOf(t *testing.T, r Runtime, id string, options LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Logs(t.Context(), id, options, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDockerStartsContainersWithWhatTheSpecSays(t *testing.T) {
	docker := dockerOrSkip(t)
	r := newDocker(t, docker)
	pod := newPod(t, r)
	id, err := r.StartContainer(t.Context(), mustStartSandbox(t, r, pod), pod, ContainerSpec{
		Name: "web", Image: images.HelloV1.Name, WorkingDir: "/tmp", Env: []string{"PORT=8081"},
		Resources: requirements("100m", "64Mi", "64", "128Mi")}) // more CPUs than this machine has
	if err != nil {
		t.Fatal(err)
	}
	got, err := docker.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got.HostConfig.Memory != 128<<20 || got.HostConfig.CPUShares != 102 || got.Config.WorkingDir != "/tmp" ||
		!slices.Contains(got.Config.Env, "PORT=8081") || !slices.Contains(got.Config.Env, "VERSION=v1") {
		t.Errorf("Docker has %+v, %+v", got.Config, got.HostConfig.Resources)
	}
}

func TestDockerSendsEveryPodAfterALostEventStream(t *testing.T) {
	dockerOrSkip(t)
	line := &line{}
	r := newDocker(t, line.client(t))
	first, second := newPod(t, r), newPod(t, r)
	mustStartSandbox(t, r, first)
	events := r.Events(t.Context())
	waitEvent(t, events, first.UID) // it began with the pods that are there
	mustStartSandbox(t, r, second)
	waitEvent(t, events, second.UID) // the stream is there
	line.cut()
	waitEvent(t, events, first.UID) // nothing happened to it, so only the look at all pods tells of it

	third := newPod(t, r)
	mustStartSandbox(t, r, third)
	waitEvent(t, events, third.UID)
}

func TestHostnameIsNotTooLong(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Name = strings.Repeat("a", 70)
	if config, _ := NewDocker(nil, Options{}).sandboxConfig(pod); len(config.Hostname) != 63 {
		t.Errorf("the hostname is %q", config.Hostname)
	}
}

func TestResources(t *testing.T) {
	for _, test := range []struct {
		name string
		in   corev1.ResourceRequirements
		want container.Resources
	}{
		{"nothing asked, nothing limited", corev1.ResourceRequirements{}, container.Resources{}},
		{"half a CPU, limit one and a half", requirements("500m", "", "1500m", "64Mi"),
			container.Resources{CPUShares: 512, CPUPeriod: 100_000, CPUQuota: 150_000, Memory: 64 << 20, MemorySwap: 64 << 20}},
		{"the least that Linux takes", requirements("1m", "", "1m", ""),
			container.Resources{CPUShares: 2, CPUPeriod: 100_000, CPUQuota: 1000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := resources(test.in); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func requirements(cpuRequest, memoryRequest, cpuLimit, memoryLimit string) corev1.ResourceRequirements {
	list := func(cpu, memory string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
			if value != "" {
				out[name] = resource.MustParse(value)
			}
		}
		return out
	}
	return corev1.ResourceRequirements{Requests: list(cpuRequest, memoryRequest), Limits: list(cpuLimit, memoryLimit)}
}

// BenchmarkStartPod compares us with the four requests that nobody can do without, in turns, as the machine's load
// changes with time.
func BenchmarkStartPod(b *testing.B) {
	docker := dockerOrSkip(b)
	r := newDocker(b, docker)
	start := func(image, network string) string {
		c, err := docker.ContainerCreate(b.Context(), &container.Config{Image: image},
			&container.HostConfig{NetworkMode: container.NetworkMode(network)}, nil, nil, "")
		if err == nil {
			err = docker.ContainerStart(b.Context(), c.ID, container.StartOptions{})
		}
		if err != nil {
			b.Fatal(err)
		}
		return c.ID
	}
	var ours, bare []time.Duration
	for b.Loop() {
		pod := newPod(b, r)
		before := time.Now()
		mustStart(b, r, mustStartSandbox(b, r, pod), pod, "web", 0)
		ours = append(ours, time.Since(before))
		r.RemovePod(b.Context(), pod.UID)

		before = time.Now()
		pause := start(images.Pause.Name, r.options.Network)
		web := start(images.HelloV1.Name, "container:"+pause)
		bare = append(bare, time.Since(before))
		r.RemoveContainer(b.Context(), web)
		r.RemoveContainer(b.Context(), pause)
	}
	slices.Sort(ours)
	slices.Sort(bare)
	b.ReportMetric(float64(ours[len(ours)/2].Milliseconds()), "ms/ours")
	b.ReportMetric(float64(bare[len(bare)/2].Milliseconds()), "ms/bare")
}

// newDocker returns a runtime of a cluster of its own, which must have nothing left at the end of the test.
func newDocker(t testing.TB, docker *client.Client) *Docker {
	r := NewDocker(docker, Options{Cluster: fmt.Sprintf("test-%d", time.Now().UnixNano()), Node: "node-1", Network: "bridge"})
	t.Cleanup(func() {
		if pods, err := r.Pods(context.WithoutCancel(t.Context())); err != nil || len(pods) != 0 {
			t.Errorf("the test left the pods %+v (%v)", pods, err)
		}
	})
	return r
}

var ensureImages = sync.OnceValue(func() error {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer docker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := docker.Ping(ctx); err != nil {
		return errors.Join(errNoDocker, err)
	}
	return images.Ensure(ctx, docker, images.Pause, images.HelloV1)
})

var errNoDocker = errors.New("no Docker daemon answers")

func dockerOrSkip(t testing.TB) *client.Client {
	t.Helper()
	if err := ensureImages(); errors.Is(err, errNoDocker) && os.Getenv("CI") != "true" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	docker.NegotiateAPIVersion(t.Context()) // the event stream does not wait for that
	return docker
}

// line is a connection to Docker that can be cut.
type line struct {
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func (l *line) client(t *testing.T) *client.Client {
	plain, err := client.NewClientWithOpts(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := plain.Dialer()(ctx)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.conns = append(l.conns, conn)
		}
		return conn, err
	}}
	docker, err := client.NewClientWithOpts(client.WithHost(plain.DaemonHost()),
		client.WithHTTPClient(&http.Client{Transport: transport}), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := docker.Ping(t.Context()); err != nil { // negotiates, which is a request
		t.Fatal(err)
	}
	return docker
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}

func TestDockerRunsProgramsInContainers(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	id := mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0)
	run := func(ctx context.Context, args ...string) (int, string, error) {
		var output bytes.Buffer
		code, err := r.Exec(ctx, id, args, Streams{Stdout: &output, Stderr: &output})
		return code, output.String(), err
	}
	if code, _, err := run(t.Context(), "/hello", "exit", "3"); code != 3 || err != nil {
		t.Errorf("a program that ends with 3: code %d, error %v", code, err)
	}
	if code, output, err := run(t.Context(), "/hello", "log", "1"); code != 0 || err != nil || !strings.Contains(output, "line 1\n") || !strings.Contains(output, "error line 1\n") {
		t.Errorf("a program that writes to both streams: code %d, error %v, output %q", code, err, output)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := run(ctx, "/hello", "sleep"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that hangs: error %v", err)
	}
	if code, _, err := run(t.Context(), "/no-such-program"); code == 0 && err == nil {
		t.Error("a program that is not there succeeded")
	}
	if err := r.RemoveContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t.Context(), "/hello", "exit", "0"); err == nil || !strings.Contains(err.Error(), "/hello") {
		t.Errorf("in a container that is gone: error %v", err)
	}
}
