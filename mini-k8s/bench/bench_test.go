// Package bench measures the system as a whole: `make bench` prints the figures. Nothing here passes or fails by a
// time; what can be compared is compared with a peer in the same run.
package bench

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker"
	"workshop/mini-k8s/worker/network"

	"github.com/docker/docker/api/types/container"
	docker "github.com/docker/docker/client"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// binary is the program under measurement, built once.
var binary string

func TestMain(m *testing.M) {
	if flag.Parse(); flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run()) // nothing is to be measured
	}
	dir, err := os.MkdirTemp("", "mini-k8s-bench-")
	if err == nil {
		binary = filepath.Join(dir, "mini-k8s")
		os.Setenv("MINI_K8S_HOME", filepath.Join(dir, "home"))
		err = build(binary, "workshop/mini-k8s")
	}
	for _, program := range []string{"pause", "hello"} { // beside it, as `make build` does
		if err == nil {
			err = build(filepath.Join(dir, "images", runtime.GOARCH, program), "workshop/mini-k8s/images/"+program)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the benchmarks:", err)
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(to, program string) error {
	command := exec.Command("go", "build", "-o", to, program)
	if strings.Contains(program, "/images/") {
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return nil
}

func connectDocker(b *testing.B) *docker.Client {
	b.Helper()
	d, err := cluster.ConnectDocker(b.Context())
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { d.Close() })
	return d
}

// up starts a cluster in the background and returns a client; the cluster goes with the benchmark.
func up(b *testing.B, name string, args ...string) *client.Client {
	b.Helper()
	command := exec.Command(binary, append([]string{"up", "--detach", "--demo=false", "--name", name}, args...)...)
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("mini-k8s up: %v\n%s", err, out)
	}
	b.Cleanup(func() { down(b, name) })
	return connect(b, filepath.Join(cluster.Dir(name), "kubeconfig"))
}

func down(b *testing.B, name string) {
	b.Helper()
	if out, err := exec.Command(binary, "down", "--name", name).CombinedOutput(); err != nil {
		b.Errorf("mini-k8s down: %v\n%s", err, out)
	}
}

func connect(b *testing.B, kubeconfig string) *client.Client {
	b.Helper()
	config, err := pki.ReadKubeconfig(kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		b.Fatal(err)
	}
	return client.New(client.Config{Server: config.Server, TLS: tls, Name: "bench"})
}

// BenchmarkUp is from the command to three Ready nodes.
func BenchmarkUp(b *testing.B) {
	for _, kind := range []string{cluster.Docker, cluster.Hollow} {
		b.Run(kind, func(b *testing.B) {
			if kind == cluster.Docker {
				if err := images.Ensure(b.Context(), connectDocker(b), images.All()...); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				command := exec.Command(binary, "up", "--detach", "--demo=false", "--name", "bench-up", "--runtime", kind)
				if out, err := command.CombinedOutput(); err != nil {
					b.Fatalf("mini-k8s up: %v\n%s", err, out)
				}
				b.StopTimer()
				down(b, "bench-up")
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPodStart is from the creation of a pod until it is seen to run, against the same two containers on the
// same network through the bare Docker API, in turns.
func BenchmarkPodStart(b *testing.B) {
	d := connectDocker(b)
	c := up(b, "bench-pod", "--nodes", "1")
	pods := client.Of[*corev1.Pod](c)
	var ours, bare []time.Duration
	for b.Loop() {
		ours = append(ours, startPod(b, pods))
		bare = append(bare, startBare(b, d))
	}
	slices.Sort(ours)
	slices.Sort(bare)
	mine, docker := ours[len(ours)/2], bare[len(bare)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(mine.Milliseconds()), "ms/pod")
	b.ReportMetric(float64(docker.Milliseconds()), "ms/bare")
	b.ReportMetric(float64(mine)/float64(docker), "ratio")
}

func startPod(b *testing.B, pods client.Resource[*corev1.Pod]) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	pod, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "bench-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "hello", Image: images.HelloV1.Name}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	selection := client.Selection{Namespace: "default", Fields: "metadata.name=" + pod.Name}
	took := time.Duration(0)
	for event, err := range pods.Watch(ctx, selection, pod.ResourceVersion) {
		if err != nil {
			b.Fatal(err)
		}
		if event.Object.Status.Phase == corev1.PodRunning {
			took = time.Since(start)
			break
		}
	}
	if _, err := pods.Delete(ctx, "default", pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		b.Fatal(err)
	}
	settle(ctx, b, pods)
	return took
}

// settle waits until no pod is left, and what the node still does for them is done.
func settle(ctx context.Context, b *testing.B, pods client.Resource[*corev1.Pod]) {
	for {
		list, err := pods.List(ctx, client.Selection{})
		if err != nil {
			b.Fatal(err)
		}
		if len(list.Items) == 0 {
			time.Sleep(300 * time.Millisecond)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startBare starts a pause and a hello container in its network, and inspects them, as a pod's two are.
func startBare(b *testing.B, d *docker.Client) time.Duration {
	ctx := b.Context()
	var made []string
	start := time.Now()
	run := func(config *container.Config, host *container.HostConfig) string {
		created, err := d.ContainerCreate(ctx, config, host, nil, nil, "")
		if err != nil {
			b.Fatal(err)
		}
		made = append(made, created.ID)
		if err := d.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := d.ContainerInspect(ctx, created.ID); err != nil {
			b.Fatal(err)
		}
		return created.ID
	}
	bridge := container.NetworkMode(network.Name("bench-pod", "node-1"))
	pause := run(&container.Config{Image: images.Pause.Name}, &container.HostConfig{NetworkMode: bridge})
	run(&container.Config{Image: images.HelloV1.Name}, &container.HostConfig{NetworkMode: container.NetworkMode("container:" + pause)})
	took := time.Since(start)
	for _, id := range slices.Backward(made) {
		if err := d.ContainerRemove(ctx, id, container.RemoveOptions{Force: true}); err != nil {
			b.Error(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	return took
}

// BenchmarkThousandPods is from the creation of a Deployment of 1,000 pods until all of them run, on 100 nodes, all
// in one process.
func BenchmarkThousandPods(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := up(b, "bench-thousand", "--runtime", "hollow", "--nodes", "100")
		b.StartTimer()
		runDeployment(b, c, 1000)
		b.StopTimer()
		down(b, "bench-thousand")
		b.StartTimer()
	}
}

// BenchmarkMaster is the same with the master in a process of its own and the nodes in this one, over TLS; then what
// the master takes with nothing to do.
func BenchmarkMaster(b *testing.B) {
	const idle = 20 * time.Second
	for b.Loop() {
		b.StopTimer()
		c, process, _ := startMaster(b)
		startNodes(b, c, 100, func(string) *client.Client { return c })
		b.StartTimer()
		start := time.Now()
		runDeployment(b, c, 1000)
		b.ReportMetric(time.Since(start).Seconds(), "s/1000pods")
		b.StopTimer()
		time.Sleep(5 * time.Second) // let it come to rest
		before := cpuTime(b, process.Pid)
		time.Sleep(idle)
		b.ReportMetric((cpuTime(b, process.Pid)-before).Seconds()/idle.Seconds()*100, "%core-idle")
		b.ReportMetric(float64(memory(b, process.Pid, "VmRSS:"))/1e6, "MB-idle")
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op")
}

func runDeployment(b *testing.B, c *client.Client, replicas int32) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	labels := map[string]string{"app": "bench"}
	deployments := client.Of[*appsv1.Deployment](c)
	created, err := deployments.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bench"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "hello", Image: images.HelloV1.Name}}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	for event, err := range deployments.Watch(ctx, client.Selection{Namespace: "default"}, created.ResourceVersion) {
		if err != nil {
			b.Fatal(err)
		}
		if event.Object.Status.ReadyReplicas == replicas {
			return
		}
	}
}

func startMaster(b *testing.B) (c *client.Client, process *os.Process, kubeconfig string) {
	b.Helper()
	dir := b.TempDir()
	command := exec.Command(binary, "master", "--name", "bench", "--dir", dir, "--listen", "127.0.0.1:0",
		"--cluster-cidr", "10.0.0.0/8", "--service-cidr", "172.20.0.0/16") // room for more nodes than a /16 has
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		command.Process.Signal(os.Interrupt)
		command.Wait()
	})
	kubeconfig = filepath.Join(dir, "kubeconfig")
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := pki.ReadKubeconfig(kubeconfig); err == nil {
			c := connect(b, kubeconfig)
			if _, err := client.Of[*corev1.Namespace](c).Get(b.Context(), "", "default"); err == nil {
				return c, command.Process, kubeconfig
			}
		}
		if time.Since(start) > 10*time.Second {
			b.Fatalf("the master does not come up:\n%s", output.String())
		}
	}
}

// startNodes runs hollow nodes in this process until the benchmark ends.
func startNodes(b *testing.B, c *client.Client, count int, clientOf func(node string) *client.Client) {
	b.Helper()
	ca, err := pki.LoadOrCreate(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	pair, err := ca.Issue("node:bench", "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	tls, err := pki.ServerTLS(ca.CertPEM, pair)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, count)
	b.Cleanup(func() {
		stop()
		for range count {
			<-ended
		}
	})
	for i := range count {
		name := fmt.Sprintf("node-%d", i+1)
		w, err := worker.New(worker.Config{Cluster: "bench", Node: name, Address: "127.0.0.1", Client: clientOf(name), TLS: tls,
			ClusterCIDR: "10.244.0.0/16"})
		if err != nil {
			b.Fatal(err)
		}
		go func() { ended <- w.Run(ctx) }()
	}
	nodes := client.Of[*corev1.Node](c)
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		list, err := nodes.List(ctx, client.Selection{})
		if err != nil {
			b.Fatal(err)
		}
		ready := 0
		for _, node := range list.Items {
			for _, condition := range node.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready == count {
			return
		}
		if time.Since(start) > 2*time.Minute {
			b.Fatalf("only %d of %d nodes are ready", ready, count)
		}
	}
}

// cpuTime returns the processor time that a process has used.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := cmp.Or(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // the kernel counts hundredths of a second
}

// memory returns what the kernel says of a process: VmRSS: is what it has now, VmHWM: the most that it has had.
func memory(b *testing.B, pid int, what string) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, what); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10
		}
	}
	b.Fatalf("no %s in /proc", what)
	return 0
}
