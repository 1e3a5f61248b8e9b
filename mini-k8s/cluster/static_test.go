package cluster

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/worker/network"

	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods that a worker is told of by files.

func (u *user) manifest(dir, name, image string) {
	u.t.Helper()
	const text = "{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: hello, image: '%s'}]}}"
	if err := os.WriteFile(filepath.Join(dir, name+".yaml"), fmt.Appendf(nil, text, name, image), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// runs waits until so many containers of the user's cluster run, with their pause containers.
func (u *user) runs(count int, p *process) []string {
	u.t.Helper()
	eventually(u.t, fmt.Sprint("containers of pods that run: ", count), func() bool {
		all := u.containers(u.name)
		return len(all) == 2*count && !slices.ContainsFunc(all, func(c container.Summary) bool { return c.State != "running" })
	}, func() string { return fmt.Sprint(u.ids(), p.printed()) })
	return u.ids()
}

func TestDockerWorkerAloneRunsManifests(t *testing.T) {
	u := newDockerUser(t)
	node, dir := u.name, t.TempDir()
	u.name = fmt.Sprintf("alone-%.4x", sha256.Sum256([]byte(node)))
	u.fails(1, "--master, --manifests, or both", "worker", "--node", node)
	u.fails(1, "no such file", "worker", "--node", node, "--manifests", filepath.Join(dir, "gone"))
	u.manifest(dir, "web", images.HelloV1.Name)
	p := u.start("worker", "--node", node, "--manifests", dir)
	p.says(u.name)
	before := u.runs(1, p)
	for _, c := range u.containers(u.name) {
		for _, n := range c.NetworkSettings.Networks {
			if got := u.ask(n.IPAddress); !strings.Contains(got, "hello from web-"+node) {
				t.Errorf("the pod says %q", got)
			}
		}
	}
	p.stop(syscall.SIGKILL)
	p = u.start("worker", "--node", node, "--manifests", dir)
	u.manifest(dir, "other", images.HelloV1.Name)
	if now := u.runs(2, p); !slices.Contains(now, before[0]) || !slices.Contains(now, before[1]) {
		t.Errorf("after the worker was killed %v are there, before it %v", now, before)
	}
	for _, c := range u.containers(u.name) { // of all but the pause containers that fails
		u.docker.NetworkDisconnect(t.Context(), network.Name(u.name, node), c.ID, true)
	}
	if err := u.docker.NetworkRemove(t.Context(), network.Name(u.name, node)); err != nil {
		t.Fatal(err)
	}
	old := u.ids()
	eventually(t, "the pods are on a new network", func() bool {
		now := u.ids()
		return len(now) == 4 && !slices.ContainsFunc(now, func(id string) bool { return slices.Contains(old, id) })
	}, p.printed)
	u.manifest(dir, "web", images.HelloV2.Name)
	eventually(t, "the changed pod runs", func() bool {
		return slices.ContainsFunc(u.containers(u.name), func(c container.Summary) bool { return c.Image == images.HelloV2.Name && c.State == "running" })
	}, p.printed)
	for _, name := range []string{"web", "other"} {
		if err := os.Remove(filepath.Join(dir, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	u.runs(0, p)
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func TestDockerWorkerOfAMasterRunsManifests(t *testing.T) {
	u := newDockerUser(t)
	m := startMaster(u, "--cluster-cidr", "10.233.0.0/16", "--service-cidr", "10.234.0.0/16")
	dir := t.TempDir()
	u.manifest(dir, "web", images.HelloV1.Name)
	p := u.start("worker", "--master", m.url, "--node", "node-1", "--manifests", dir, "--token", strings.TrimSpace(u.run("token", "--dir", m.dir)))
	var pod *corev1.Pod
	isReady := func() bool {
		for _, pod = range list[*corev1.Pod](t, m.client()) {
			if pod.Name == "web-node-1" && api.PodReady(pod) {
				return true
			}
		}
		return false
	}
	eventually(t, "the mirror is ready", isReady, p.printed)
	if got := u.ask(pod.Status.PodIP); !strings.Contains(got, "hello from web-node-1") {
		t.Errorf("the pod says %q", got)
	}
	before, first := u.ids(), pod.UID
	if _, err := client.Of[*corev1.Pod](m.client()).Delete(t.Context(), "default", pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is another mirror", func() bool { return isReady() && pod.UID != first }, p.printed)
	if now := u.ids(); !slices.Equal(now, before) {
		t.Errorf("without its mirror the pod had %v and has %v", before, now)
	}
	if err := os.Remove(filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod and mirror are gone", func() bool { return len(u.ids()) == 0 && len(list[*corev1.Pod](t, m.client())) == 0 }, p.printed)
}
