package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/pki"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Clusters of hollow pods in this process. What a user sees of them is in command_test.go, and with real containers in
// docker_test.go.

func TestUpIsReadyAndDownLeavesNothing(t *testing.T) {
	setHome(t)
	before := ours()
	c := mustUp(t, Options{Nodes: 3, Demo: true})
	if got := ready(t, c.Client()); got != 3 {
		t.Errorf("%d nodes are ready", got)
	}
	demo, err := client.Of[*appsv1.Deployment](c.Client()).Get(t.Context(), "default", "hello")
	if err != nil || demo.Status.AvailableReplicas != 3 {
		t.Errorf("of the demo %d pods are available (%v)", demo.Status.AvailableReplicas, err)
	}
	if info, err := os.Stat(c.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig is %v (%v)", info, err)
	}
	if got := ready(t, connect(t, c.Kubeconfig())); got != 3 {
		t.Errorf("with the kubeconfig %d nodes are ready", got)
	}
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	mustBeEmpty(t, Home())
	eventually(t, "all goroutines have ended", func() bool { return len(ours()) <= len(before) }, func() string { return strings.Join(ours(), "\n\n") })
}

func TestDownTwice(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 1})
	for range 2 {
		start := time.Now()
		if err := c.Down(); err != nil || time.Since(start) > haltTimeout/2 {
			t.Errorf("Down took %v and returned %v", time.Since(start), err)
		}
	}
	for range 2 {
		var out bytes.Buffer
		if err := Down(t.Context(), c.Name, &out); err != nil || !strings.Contains(out.String(), "There is no cluster") {
			t.Errorf("Down of what is gone says %q (%v)", out.String(), err)
		}
	}
}

func TestAKilledClusterGoesOn(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 2, Demo: true})
	before, settings := podNames(t, c.Client()), c.settings
	die(c)
	if got, err := Kubeconfig(c.Name); err == nil {
		t.Errorf("it counts as running: %s", got)
	}

	again := mustUp(t, Options{Name: c.Name, Nodes: 2, Demo: true})
	settings.Listen, again.settings.Listen = "", "" // another cluster on this machine may have taken the port meanwhile
	if again.settings != settings {
		t.Errorf("its settings were %+v and are %+v", settings, again.settings)
	}
	if after := podNames(t, again.Client()); !slices.Equal(after, before) {
		t.Errorf("its pods were %v and are %v", before, after)
	}
}

func TestAKilledClusterTakesAnotherPortIfItsOwnIsTaken(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 1})
	die(c)
	taken, err := net.Listen("tcp", c.settings.Listen)
	if err != nil {
		t.Skip("somebody was faster: ", err)
	}
	defer taken.Close()
	again := mustUp(t, Options{Name: c.Name, Nodes: 1})
	if got := ready(t, connect(t, again.Kubeconfig())); got != 1 || again.settings.Listen == c.settings.Listen {
		t.Errorf("at %s, which was at %s, %d nodes are ready", again.settings.Listen, c.settings.Listen, got)
	}
}

// The nodes of a cluster that was killed are still said to be ready, by a kubelet that is no more.
func TestUpWaitsForTheWorkersOfThisRun(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 5})
	die(c)
	again := mustUp(t, Options{Name: c.Name, Nodes: 3})
	for _, w := range again.workers {
		node, err := client.Of[*corev1.Node](again.Client()).Get(t.Context(), "", w.Node)
		if err != nil || node.Status.DaemonEndpoints.KubeletEndpoint.Port != w.Port() || !api.NodeReady(node) {
			t.Errorf("the worker on port %d is %+v (%v)", w.Port(), node.Status, err)
		}
	}
}

func TestWhatAKilledClusterWasStartedWith(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
		refuse string // words of the error; empty: it is taken
	}{
		{"another runtime", func(o *Options) { o.Runtime = Docker }, "started with --runtime hollow"},
		{"another range", func(o *Options) { o.ClusterCIDR = "10.99.0.0/16" }, "started with --cluster-cidr 10.98.0.0/16"},
		{"the same range in other words", func(o *Options) { o.ClusterCIDR = "10.98.3.4/16" }, ""},
		{"another range of services", func(o *Options) { o.ServiceCIDR = "10.95.0.0/16" }, "started with --service-cidr 10.96.0.0/16"},
		{"the same range of services", func(o *Options) { o.ServiceCIDR = "10.96.3.4/16" }, ""},
		{"another port", func(o *Options) { o.Listen = freeAddress(t) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.change != nil && test.refuse != "" && strings.Contains(test.name, "runtime") {
				needDocker(t)
			}
			setHome(t)
			c := mustUp(t, Options{Nodes: 1, ClusterCIDR: "10.98.0.0/16"})
			die(c)
			options := c.Options
			options.Out = io.Discard
			test.change(&options)
			again, err := Up(t.Context(), options)
			if err == nil {
				defer again.Down()
			}
			if (err == nil) != (test.refuse == "") || err != nil && !strings.Contains(err.Error(), test.refuse) {
				t.Fatalf("Up returned %v, want %q", err, test.refuse)
			}
			if _, err := os.Stat(filepath.Join(c.dir, "state.db")); err != nil {
				t.Errorf("the state: %v", err)
			}
			if err == nil && options.Listen != "" && again.master.URL() != "https://"+options.Listen {
				t.Errorf("the API server is at %s, want %s", again.master.URL(), options.Listen)
			}
			if err != nil {
				if err := Down(t.Context(), c.Name, io.Discard); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestTheSecondUpOfANameIsRefused(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 1})
	_, err := Up(t.Context(), c.Options)
	if err == nil || !strings.Contains(err.Error(), "runs already") || !strings.Contains(err.Error(), "mini-k8s down --name "+c.Name) {
		t.Errorf("the second Up returned %v", err)
	}
	if got := ready(t, c.Client()); got != 1 {
		t.Errorf("the first has %d nodes that are ready", got)
	}
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		t.Errorf("the first has lost its kubeconfig: %v", err)
	}
}

func TestTwoNamesSideBySide(t *testing.T) {
	setHome(t)
	first, second := mustUp(t, Options{Nodes: 1}), mustUp(t, Options{Nodes: 2})
	if first.settings.Listen == second.settings.Listen {
		t.Errorf("both listen on %s", first.settings.Listen)
	}
	if got := []int{ready(t, connect(t, first.Kubeconfig())), ready(t, connect(t, second.Kubeconfig()))}; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("they have %v nodes", got)
	}
	if err := first.Down(); err != nil {
		t.Fatal(err)
	}
	if got := ready(t, connect(t, second.Kubeconfig())); got != 2 {
		t.Errorf("after the first went down the second has %d nodes", got)
	}
}

func TestManyNodesShareTheRange(t *testing.T) {
	setHome(t)
	c := mustUp(t, Options{Nodes: 20, ClusterCIDR: "10.97.0.0/22"})
	ranges := map[string]bool{}
	for i := range 20 {
		node, err := client.Of[*corev1.Node](c.Client()).Get(t.Context(), "", fmt.Sprintf("node-%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		ranges[node.Spec.PodCIDR] = true
	}
	if len(ranges) != 20 {
		t.Errorf("20 nodes have the ranges %v", ranges)
	}
}

func TestNodeBits(t *testing.T) {
	for _, test := range []struct {
		cidr        string
		nodes, want int
	}{{"10.244.0.0/16", 3, 24}, {"10.244.0.0/16", 255, 24}, {"10.244.0.0/16", 256, 25}, {"10.244.0.0/16", 1000, 26},
		{"10.244.0.0/22", 3, 24}, {"10.244.0.0/22", 4, 25}, {"10.244.0.0/22", 255, 30}, {"10.244.0.0/22", 256, 0}} {
		if got := nodeBits(netip.MustParsePrefix(test.cidr), test.nodes); got != test.want {
			t.Errorf("%d nodes in %s: /%d, want /%d", test.nodes, test.cidr, got, test.want)
		}
	}
}

func TestAFailedUpLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name    string
		options Options
		words   string
	}{
		{"a name that is none", Options{Name: "Not_A_Name", Nodes: 1, Runtime: Hollow}, "use up to 20 of a-z"},
		{"a name that leads elsewhere", Options{Name: "../elsewhere", Nodes: 1, Runtime: Hollow}, "use up to 20 of a-z"},
		{"no nodes", Options{Name: "x", Runtime: Hollow}, "at least one"},
		{"no such runtime", Options{Name: "x", Nodes: 1, Runtime: "podman"}, "use docker or hollow"},
		{"a range that is none", Options{Name: "x", Nodes: 1, Runtime: Hollow, ClusterCIDR: "10.0.0.0"}, "use an IPv4 range"},
		{"a range that is too small", Options{Name: "x", Nodes: 1, Runtime: Hollow, ClusterCIDR: "10.0.0.0/24"}, "use an IPv4 range"},
		{"a range of services that is too small", Options{Name: "x", Nodes: 1, Runtime: Hollow, ServiceCIDR: "10.0.0.0/29"}, "--service-cidr \"10.0.0.0/29\": use an IPv4 range of a /28"},
		{"services among the pods", Options{Name: "x", Nodes: 1, Runtime: Hollow, ServiceCIDR: "10.244.128.0/20"}, "--service-cidr 10.244.128.0/20 overlaps --cluster-cidr 10.244.0.0/16"},
		{"more nodes than addresses", Options{Name: "x", Nodes: 256, Runtime: Hollow, ClusterCIDR: "10.0.0.0/22"}, "no room for 256 nodes"},
		{"a port that is taken", Options{Name: "x", Nodes: 1, Runtime: Hollow, Listen: taken.Addr().String()}, "--listen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := setHome(t)
			test.options.Out = io.Discard
			if _, err := Up(t.Context(), test.options); err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("Up returned %v, want %q", err, test.words)
			}
			mustBeEmpty(t, home)
		})
	}
}

func TestAnInterruptedUpLeavesNothing(t *testing.T) {
	for _, at := range []string{"Choosing", "Starting the master", "Starting 3 workers", "Deploying"} {
		t.Run(at, func(t *testing.T) {
			home, before := setHome(t), ours()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := Up(ctx, Options{Name: "broken-off", Nodes: 3, Runtime: Hollow, Demo: true, Out: when{at, cancel}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Up returned %v", err)
			}
			mustBeEmpty(t, home)
			eventually(t, "all goroutines have ended", func() bool { return len(ours()) <= len(before) }, func() string { return strings.Join(ours(), "\n\n") })
		})
	}
}

// when calls do when the text is written.
type when struct {
	text string
	do   func()
}

func (w when) Write(data []byte) (int, error) {
	if strings.Contains(string(data), w.text) {
		w.do()
	}
	return len(data), nil
}

func TestTheStateOfOthersStays(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		words string
	}{
		{"of a master", map[string]string{"state.db": "much", "pki/ca.crt": "precious"}, "holds the state of a `mini-k8s master`"},
		{"of a worker", map[string]string{"kubelet.conf": "precious"}, "holds the state of a `mini-k8s master` or worker"},
		{"with settings that cannot be read", map[string]string{"state.db": "much", "cluster.json": "{"}, "read what the cluster was started with"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := setHome(t)
			for name, text := range test.files {
				path := filepath.Join(home, "theirs", name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Up(t.Context(), Options{Name: "theirs", Nodes: 1, Runtime: Hollow, Out: io.Discard})
			for what, err := range map[string]error{"Up": err, "Down": Down(t.Context(), "theirs", io.Discard)} {
				if err == nil || !strings.Contains(err.Error(), test.words) {
					t.Errorf("%s returned %v, want %q", what, err, test.words)
				}
			}
			for name, text := range test.files {
				if got, err := os.ReadFile(filepath.Join(home, "theirs", name)); string(got) != text {
					t.Errorf("%s is %q now (%v)", name, got, err)
				}
			}
		})
	}
}

func TestDownRemovesWhatAFailureLeft(t *testing.T) {
	home := setHome(t)
	dir := filepath.Join(home, "half")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "mini-k8s.log"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), "half", io.Discard); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, home)
}

func TestKubeconfigOfTheClusterThatIsMeant(t *testing.T) {
	setHome(t)
	fails := func(name string, words ...string) {
		t.Helper()
		got, err := Kubeconfig(name)
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("Kubeconfig(%q) = %q, %v; want an error with %q", name, got, err, word)
			}
		}
	}
	is := func(name string, c *Cluster) {
		t.Helper()
		if got, err := Kubeconfig(name); err != nil || got != filepath.Join(Home(), c.Name, "kubeconfig") {
			t.Errorf("Kubeconfig(%q) = %q, %v", name, got, err)
		}
	}
	fails("", "no cluster runs here", "mini-k8s up")
	fails("a", `no cluster "a" runs here`, "mini-k8s up --name a")
	b := mustUp(t, Options{Name: "b", Nodes: 1})
	is("", b)
	is("b", b)
	fails("a", `no cluster "a" runs here`)
	a := mustUp(t, Options{Name: "a", Nodes: 1})
	fails("", "several clusters run here (a, b)", "--name")
	is("a", a)
	is("b", b)
	die(a) // one that was killed does not run
	is("", b)
	fails("a", `no cluster "a" runs here`)
}

func TestHome(t *testing.T) {
	t.Setenv("MINI_K8S_HOME", "/somewhere/else")
	if got := Dir("mini"); got != "/somewhere/else/mini" {
		t.Errorf("with MINI_K8S_HOME the state is in %s", got)
	}
	t.Setenv("MINI_K8S_HOME", "")
	want := "/var/lib/mini-k8s"
	if os.Geteuid() != 0 {
		t.Setenv("HOME", "/home/somebody")
		want = "/home/somebody/.mini-k8s"
	}
	if got := Home(); got != want {
		t.Errorf("without it the state is under %s, want %s", got, want)
	}
}

// Who gives the lock back removes it while others open it: still no two may have it at a time, and whoever gets
// it finds nothing of the one before.
func TestTheLockIsHeldByOneThoughItIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	var holders, turns atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for turns.Load() < 200 {
				release, err := lock(dir)
				if err != nil {
					if !strings.Contains(err.Error(), "runs already") {
						t.Error(err)
						return
					}
					continue
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Errorf("there is something of the holder before: %v", err)
				}
				if err := os.WriteFile(filepath.Join(dir, "state"), nil, 0o600); err != nil {
					t.Errorf("the directory was taken away: %v", err)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
				holders.Add(-1)
				release()
				release() // of a lock that another may have by now
				turns.Add(1)
			}
		})
	}
	all.Wait()
}

// setHome makes a directory the one under which clusters keep their state.
func setHome(t *testing.T) string {
	t.Helper()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	home := t.TempDir()
	t.Setenv("MINI_K8S_HOME", home)
	return home
}

var names atomic.Int32

// uniqueName returns a name that no other cluster on this machine has.
func uniqueName() string {
	return fmt.Sprintf("t%x-%d", time.Now().UnixNano()>>20&0xffffff, names.Add(1))
}

// mustUp starts a cluster, of hollow pods if the options do not say otherwise, which is gone at the end of the test.
func mustUp(t *testing.T, options Options) *Cluster {
	t.Helper()
	if options.Name == "" {
		options.Name = uniqueName()
	}
	if options.Runtime == "" {
		options.Runtime = Hollow
	}
	var out bytes.Buffer
	options.Out = &out
	c, err := Up(t.Context(), options)
	if err != nil {
		t.Fatalf("up: %v\n%s", err, out.String())
	}
	c.Out = io.Discard
	t.Cleanup(func() {
		if c.halt(); isRunning(c.dir) || loadable(c.dir) { // unless the test took it down, or another has gone on with it
			if err := c.Down(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func loadable(dir string) bool {
	_, exists, _ := loadSettings(dir)
	return exists
}

// die does to a cluster what the end of its process does.
func die(c *Cluster) {
	c.halt()
	c.release()
}

// connect returns the client that a user of the kubeconfig has.
func connect(t *testing.T, kubeconfig string) *client.Client {
	t.Helper()
	config, err := pki.ReadKubeconfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		t.Fatal(err)
	}
	return client.New(client.Config{Server: config.Server, TLS: tls, Name: "test"})
}

func list[T api.Object](t *testing.T, c *client.Client) []T {
	t.Helper()
	found, err := client.Of[T](c).List(t.Context(), client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	return found.Items
}

// ready counts the nodes that are.
func ready(t *testing.T, c *client.Client) int {
	t.Helper()
	return len(slices.DeleteFunc(list[*corev1.Node](t, c), func(n *corev1.Node) bool { return !api.NodeReady(n) }))
}

func podNames(t *testing.T, c *client.Client) []string {
	t.Helper()
	var names []string
	for _, pod := range list[*corev1.Pod](t, c) {
		names = append(names, pod.Name)
	}
	slices.Sort(names)
	return names
}

// create makes a pod of our image in the namespace default.
func create(t *testing.T, c *client.Client, name string, change func(*corev1.Pod)) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "app", Image: images.HelloV1.Name}}}}
	if change != nil {
		change(pod)
	}
	if _, err := client.Of[*corev1.Pod](c).Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c *client.Client, name string) *corev1.Pod {
	t.Helper()
	pod, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", name)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// eventually returns when the condition holds, and fails the test if it does not in time.
func eventually(t *testing.T, what string, holds func() bool, explain func() string) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s\n%s", what, explain())
		}
	}
}

// ours returns the stacks of the goroutines that run our code, but for the tests themselves.
func ours() []string {
	buffer := make([]byte, 8<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	return slices.DeleteFunc(strings.Split(string(buffer), "\n\n"), func(stack string) bool {
		return !strings.Contains(stack, "workshop/mini-k8s") || strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "testing.(*M).Run")
	})
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("in %s there are %v (%v)", dir, entries, err)
	}
}

// freeAddress returns one that nobody listens on for now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
