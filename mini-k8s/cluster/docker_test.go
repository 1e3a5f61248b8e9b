package cluster

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/worker/runtime"

	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Clusters whose pods are containers.

func TestDockerPodsServeAndHeal(t *testing.T) {
	u := newDockerUser(t)
	u.up()
	pods := u.serving(3)

	for _, pod := range pods {
		want := fmt.Sprintf("hello from %s on %s, version v1", pod.Name, pod.Spec.NodeName)
		if got := u.ask(pod.Status.PodIP); !strings.Contains(got, want) {
			t.Errorf("the host hears %q from pod %s, want %q", got, pod.Name, want)
		}
	}
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		server := pods[0]
		name := "asks-from-" + node
		create(t, u.client(), name, func(pod *corev1.Pod) {
			pod.Spec.NodeName, pod.Spec.RestartPolicy = node, corev1.RestartPolicyNever
			pod.Spec.Containers[0].Args = []string{"get", "http://" + server.Status.PodIP + ":8080"}
		})
		eventually(t, "pod "+name+" has its answer", func() bool { return get(t, u.client(), name).Status.Phase == corev1.PodSucceeded }, u.log)
		if got := u.kubectl("logs", name); !strings.Contains(got, "hello from "+server.Name) {
			t.Errorf("a pod on %s hears %q from the pod on %s", node, got, server.Spec.NodeName)
		}
	}
	if got := u.run("logs", pods[0].Name); !strings.Contains(got, "GET / from") {
		t.Errorf("mini-k8s logs says %q", got)
	}

	t.Run("a container that is removed is back", func(t *testing.T) {
		u.removeContainer(u.containerOf(pods[0].UID, "hello"))
		u.restarted(pods[0], 1)
	})
	t.Run("so is one that is killed", func(t *testing.T) {
		if err := u.docker.ContainerKill(t.Context(), u.containerOf(pods[1].UID, "hello"), "SIGKILL"); err != nil {
			t.Fatal(err)
		}
		u.restarted(pods[1], 1)
	})
	t.Run("a pod whose pause container dies is built anew", func(t *testing.T) {
		before := u.containerOf(pods[2].UID, "")
		u.removeContainer(before)
		u.restarted(pods[2], 1)
		if after := u.containerOf(pods[2].UID, ""); after == before || after == "" {
			t.Errorf("the pause container was %q and is %q", before, after)
		}
	})
	t.Run("a pod that is deleted is replaced", func(t *testing.T) {
		u.kubectl("delete", "pod", pods[0].Name, "--wait=false")
		eventually(t, "its containers are gone", func() bool { return u.containerOf(pods[0].UID, "") == "" }, u.log)
		if now := u.serving(3); slices.ContainsFunc(now, func(p *corev1.Pod) bool { return p.Name == pods[0].Name }) {
			t.Error("the pod is there")
		}
	})
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func TestDockerClusterSurvivesKill9(t *testing.T) {
	u := newDockerUser(t)
	u.up()
	pods := u.serving(3)
	before := u.ids()
	u.killAll()
	for _, pod := range pods {
		if got := u.ask(pod.Status.PodIP); !strings.Contains(got, pod.Name) {
			t.Errorf("without the cluster pod %s answers %q", pod.Name, got)
		}
	}
	u.up()
	after := u.serving(3)
	if now := u.ids(); !slices.Equal(now, before) {
		t.Errorf("the containers were\n%v and are\n%v", before, now)
	}
	for i, pod := range after {
		if pod.Name != pods[i].Name || pod.Status.ContainerStatuses[0].RestartCount != 0 || pod.Status.PodIP != pods[i].Status.PodIP {
			t.Errorf("pod %s at %s is pod %s at %s, restarted %d times", pods[i].Name, pods[i].Status.PodIP, pod.Name, pod.Status.PodIP,
				pod.Status.ContainerStatuses[0].RestartCount)
		}
	}
	u.killAll()
	u.run("down", "--name", u.name) // cleans up after it, too
	u.leavesNothing()
}

func TestDockerCtrlCLeavesNothing(t *testing.T) {
	for _, at := range []string{"The cluster is ready", "Starting 3 workers", "Deploying"} {
		u := newDockerUser(t)
		p := u.start("up", "--name", u.name)
		p.says(at)
		if code := p.stop(os.Interrupt); code != 0 {
			t.Errorf("interrupted at %q: exit code %d\n%s", at, code, p.printed())
		}
		u.leavesNothing()
	}
}

func TestDockerDownWhilePodsComeAndGoLeavesNothing(t *testing.T) {
	for _, replicas := range []string{"12", "0"} {
		u := newDockerUser(t)
		u.up()
		u.serving(3)
		u.kubectl("scale", "deployment", "hello", "--replicas", replicas)
		u.run("down", "--name", u.name)
		u.leavesNothing()
	}
}

func TestDockerClustersSideBySide(t *testing.T) {
	first := newDockerUser(t)
	first.up("--nodes", "2")
	pods := first.serving(3)
	second := first.another()
	second.up("--nodes", "2")
	for _, pod := range slices.Concat(pods, second.serving(3)) {
		if got := first.ask(pod.Status.PodIP); !strings.Contains(got, pod.Name) {
			t.Errorf("pod %s answers %q", pod.Name, got)
		}
	}
	second.run("down", "--name", second.name)
	second.leavesNothing()
	for _, pod := range first.serving(3) {
		if got := first.ask(pod.Status.PodIP); !strings.Contains(got, pod.Name) {
			t.Errorf("after the other went down pod %s answers %q", pod.Name, got)
		}
	}
}

// Docker belongs to the machine, but names of clusters to users: two users must not meet.
func TestDockerClusterOfAnotherUserIsNotTouched(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "1")
	pods := u.serving(3)
	other := newUser(t) // another $MINI_K8S_HOME
	other.fails(1, "whose state is not in", "up", "--name", u.name)
	other.run("down", "--name", u.name)
	if now := u.serving(3); now[0].UID != pods[0].UID || now[0].Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pods were %v and are %v", pods, now)
	}
}

func TestDockerWorkersJoinAMaster(t *testing.T) {
	u := newDockerUser(t)
	m := startMaster(u, "--cluster-cidr", "10.231.0.0/16", "--service-cidr", "10.232.0.0/16")
	token := strings.TrimSpace(u.run("token", "--dir", m.dir))
	join := func(node string, token ...string) *process {
		return u.start(append([]string{"worker", "--master", m.url, "--node", node}, token...)...)
	}
	one, two := join("node-1", "--token", token), join("node-2", "--token", token)
	eventually(t, "two nodes are ready", func() bool { return ready(t, m.client()) == 2 }, func() string { return one.printed() + two.printed() + m.printed() })
	var pods []*corev1.Pod
	for _, name := range []string{"a", "b", "c"} {
		pods = append(pods, m.run(t, name))
	}
	if code := one.stop(os.Interrupt); code != 0 {
		t.Errorf("the worker ended with %d:\n%s", code, one.printed())
	}
	before := u.ids()
	if len(before) != 6 {
		t.Errorf("after a worker has stopped there are the containers %v", before)
	}
	one = join("node-1")
	one.says("works for")
	m.run(t, "d")
	for _, pod := range pods {
		if got := u.ask(pod.Status.PodIP); !strings.Contains(got, "hello from") {
			t.Errorf("pod %s answers %q", pod.Name, got)
		}
		if now := get(t, m.client(), pod.Name); now.UID != pod.UID || now.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("pod %s is %+v", pod.Name, now.Status)
		}
	}
	if now := u.ids(); !slices.Equal(slices.DeleteFunc(now, func(id string) bool { return !slices.Contains(before, id) }), before) {
		t.Errorf("of the containers %v there are %v", before, now)
	}
	for _, pod := range append(pods, get(t, m.client(), "d")) {
		if _, err := client.Of[*corev1.Pod](m.client()).Delete(t.Context(), "default", pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the pods are gone", func() bool { return len(list[*corev1.Pod](t, m.client())) == 0 && len(u.ids()) == 0 }, func() string { return fmt.Sprint(u.ids()) })
	for _, p := range []*process{one, two, m.process} {
		if code := p.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%v ended with %d:\n%s", p.cmd.Args, code, p.printed())
		}
	}
}

// serving waits until so many pods of the demo are ready and nothing else of it is there, and returns them by name.
func (u *user) serving(count int) []*corev1.Pod {
	u.t.Helper()
	var pods []*corev1.Pod
	eventually(u.t, fmt.Sprintf("%d pods are ready", count), func() bool {
		pods = slices.DeleteFunc(list[*corev1.Pod](u.t, u.client()), func(p *corev1.Pod) bool { return p.Labels["app"] != "hello" })
		return len(pods) == count && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !api.PodReady(p) || p.DeletionTimestamp != nil })
	}, u.log)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

// restarted waits until the pod is ready after so many restarts, and answers.
func (u *user) restarted(pod *corev1.Pod, count int32) {
	u.t.Helper()
	var now *corev1.Pod
	eventually(u.t, fmt.Sprintf("pod %s is ready, restarts: %d", pod.Name, count), func() bool {
		now = get(u.t, u.client(), pod.Name)
		return api.PodReady(now) && now.UID == pod.UID && now.Status.ContainerStatuses[0].RestartCount == count
	}, func() string { return fmt.Sprintf("%+v\n%s", now.Status, u.log()) })
	if got := u.ask(now.Status.PodIP); !strings.Contains(got, pod.Name) {
		u.t.Errorf("pod %s answers %q", pod.Name, got)
	}
}

// ask returns what a pod answers, as soon as it does: a container that has started need not listen yet.
func (u *user) ask(ip string) string {
	u.t.Helper()
	var text string
	asks := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var err error
	eventually(u.t, ip+" answers", func() bool {
		var response *http.Response
		if response, err = asks.Get("http://" + ip + ":8080"); err != nil {
			return false
		}
		defer response.Body.Close()
		var data []byte
		data, err = io.ReadAll(response.Body)
		text = string(data)
		return err == nil
	}, func() string { return fmt.Sprint(err) })
	return text
}

// containerOf returns the ID of a pod's container that runs, of its pause container if the name is empty; "" if there
// is none.
func (u *user) containerOf(uid any, name string) string {
	for _, c := range u.containers(u.name) {
		if c.Labels[runtime.LabelUID] == fmt.Sprint(uid) && c.Labels[runtime.LabelContainer] == name && c.State == container.StateRunning {
			return c.ID
		}
	}
	return ""
}

func (u *user) removeContainer(id string) {
	u.t.Helper()
	if err := u.docker.ContainerRemove(u.t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		u.t.Fatal(err)
	}
}

// ids returns the cluster's containers in order.
func (u *user) ids() []string {
	var ids []string
	for _, c := range u.containers(u.name) {
		ids = append(ids, c.ID[:12])
	}
	slices.Sort(ids)
	return ids
}

func TestClustersThatStartAtTheSameMomentTakeDifferentAddresses(t *testing.T) {
	u := newDockerUser(t)
	started := []*process{u.start("up", "--name", u.name, "--nodes", "1", "--demo=false")}
	others := []*user{u}
	for range 2 {
		other := u.another()
		others = append(others, other)
		started = append(started, other.start("up", "--name", other.name, "--nodes", "1", "--demo=false"))
	}
	alone := u.another() // a worker without a master chooses as well
	node := alone.name
	alone.name = fmt.Sprintf("alone-%.4x", sha256.Sum256([]byte(node)))
	worker := alone.start("worker", "--node", node, "--manifests", t.TempDir())
	ranges := map[string]bool{}
	worker.says("network made")
	for i, p := range started {
		p.says("The cluster is ready")
		ranges[list[*corev1.Node](t, others[i].client())[0].Spec.PodCIDR] = true
	}
	if len(ranges) != len(started) {
		t.Errorf("%d clusters have the ranges %v", len(started), ranges)
	}
	for i, p := range started {
		if code := p.stop(os.Interrupt); code != 0 {
			t.Errorf("%s ended with %d:\n%s", others[i].name, code, p.printed())
		}
		others[i].leavesNothing()
	}
	alone.run("down", "--name", alone.name)
	alone.leavesNothing()
}
