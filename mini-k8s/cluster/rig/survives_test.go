package rig

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What happens around a kubelet on a bad day, on a machine with a Docker of its own. Each part leaves pod "web" ready.
func TestAKubeletSurvives(t *testing.T) {
	r := New(t, 1)
	h := r.Hosts[0]
	r.Up()
	m := &machines{r, t}
	m.config("settings", "colour", "blue")
	m.always("web", func(p *corev1.Pod) {})
	m.always("files", func(p *corev1.Pod) { mountConfig(p, "settings") })
	web := m.running("web")
	m.running("files")
	restarts := int32(0)
	// back waits until the pod runs again, in the same place of the API, and is counted.
	back := func(t *testing.T, why string) {
		t.Helper()
		restarts++
		r.Eventually("web is back, after "+why, func() error {
			web = m.get("web")
			if !api.PodReady(web) || web.Status.ContainerStatuses[0].RestartCount != restarts {
				return fmt.Errorf("it is %+v, want %d restarts", web.Status, restarts)
			}
			return nil
		})
		m.getsFrom(h, "http://"+web.Status.PodIP+":8080", "web")
	}

	t.Run("the worker is killed", func(t *testing.T) {
		ids, status := m.ids(h), web.Status
		r.Workers[0].Stop(syscall.SIGKILL)
		m.getsFrom(h, "http://"+web.Status.PodIP+":8080", "web")
		r.Workers[0] = r.StartWorker(h)
		m.always("after", func(p *corev1.Pod) {})
		m.running("after") // so it has looked around
		m.delete("after")
		r.Eventually("the same containers are there", func() error {
			if now := m.ids(h); now != ids {
				return fmt.Errorf("they were\n%s\nand are\n%s", ids, now)
			}
			return nil
		})
		if now := m.get("web").Status; !equality.Semantic.DeepEqual(now, status) {
			t.Errorf("the status was\n%+v\nand is\n%+v", status, now)
		}
	})
	t.Run("the master is away", func(t *testing.T) {
		r.Master.Stop(syscall.SIGKILL)
		for _, name := range []string{"web", "files"} {
			id := m.containerOf(h, name)
			h.Run("docker", "kill", id)
			r.Eventually(name+" is started again with no master", func() error {
				if now := m.containerOf(h, name); now == id || now == "" {
					return fmt.Errorf("container %q, after %q", now, id)
				}
				return nil
			})
		}
		m.getsFrom(h, "http://"+web.Status.PodIP+":8080", "web")
		r.Master = r.StartMaster()
		r.Eventually("the master is back", func() error {
			_, err := client.Of[*corev1.Pod](r.Client).Get(t.Context(), "default", "web")
			return err
		})
		back(t, "the master was away")
	})
	t.Run("the pause container is killed", func(t *testing.T) {
		h.Run("docker", "kill", m.containerOf(h, "POD"))
		back(t, "its sandbox died")
	})
	t.Run("the network is taken away", func(t *testing.T) {
		network := m.lines(h, "mini-k8s-", "docker", "network", "ls", "--format", "{{.Name}}")[0]
		for _, container := range strings.Fields(h.Run("docker", "ps", "-q", "--filter", "label=mini-k8s.kind=sandbox")) {
			h.Run("docker", "network", "disconnect", "-f", network, container)
		}
		h.Run("docker", "network", "rm", network)
		back(t, "the network was removed")
	})
	t.Run("the bridge is taken away", func(t *testing.T) {
		bridge := strings.Fields(m.lines(h, "mk8s-", "ip", "-br", "link")[0])[0]
		h.Run("ip", "link", "delete", bridge)
		back(t, "the bridge was deleted")
	})
	t.Run("Docker is restarted", func(t *testing.T) {
		r.Dockers[0].Stop(syscall.SIGTERM)
		r.Dockers[0] = r.StartDocker(h)
		back(t, "Docker was restarted")
	})
	t.Run("the disk is full", func(t *testing.T) {
		const dir = "/var/lib/mini-k8s/worker-host-1/pods"
		m.delete("files")
		h.Run("mount", "-t", "tmpfs", "-o", "size=64k", "disk", dir)
		h.Try("dd", "if=/dev/zero", "of="+dir+"/ballast", "bs=1k", "count=1000") // fails when it is full
		m.always("late", func(p *corev1.Pod) { mountConfig(p, "settings") })
		r.Eventually("it is said that the disk is full", func() error { return m.said("FailedMount", "no space left on device") })
		if late := m.get("late"); late.Status.Phase != corev1.PodPending {
			t.Errorf("the pod is %s", late.Status.Phase)
		}
		h.Run("rm", dir+"/ballast")
		m.running("late")
		if web = m.running("web"); web.Status.ContainerStatuses[0].RestartCount != restarts {
			t.Errorf("pod web has been restarted: %+v", web.Status)
		}
	})
	r.Workers[0].Stop(os.Interrupt)
}

// always makes a pod that is started again whenever it ends.
func (m *machines) always(name string, change func(*corev1.Pod)) {
	m.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: m.Hosts[0].Name,
		TerminationGracePeriodSeconds: new(int64), Containers: []corev1.Container{{Name: "app", Image: images.HelloV1.Name,
			Env: []corev1.EnvVar{{Name: "POD_NAME", Value: name}}}}}}
	change(pod)
	if _, err := client.Of[*corev1.Pod](m.Client).Create(m.t.Context(), pod); err != nil {
		m.t.Fatal(err)
	}
}

func mountConfig(p *corev1.Pod, name string) {
	from := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
	p.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: from}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/etc/config"}}
}

func (m *machines) config(name, key, value string) {
	m.t.Helper()
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{key: value}}
	if _, err := client.Of[*corev1.ConfigMap](m.Client).Create(m.t.Context(), config); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machines) delete(name string) {
	m.t.Helper()
	if _, err := client.Of[*corev1.Pod](m.Client).Delete(m.t.Context(), "default", name, metav1.DeleteOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

// ids returns the host's containers that run, in order.
func (m *machines) ids(h *Host) string {
	ids := strings.Fields(h.Run("docker", "ps", "-q"))
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// containerOf returns the ID of a pod's container that runs, of its pause container if that is asked for; "" if there is none.
func (m *machines) containerOf(h *Host, pod string) string {
	kind := "container"
	if pod == "POD" {
		pod, kind = "web", "sandbox"
	}
	return strings.TrimSpace(h.Run("docker", "ps", "-q", "--filter", "label=mini-k8s.pod.name="+pod, "--filter", "label=mini-k8s.kind="+kind))
}

// said looks for an event.
func (m *machines) said(reason, words string) error {
	events, err := client.Of[*corev1.Event](m.Client).List(m.t.Context(), client.Selection{Namespace: "default"})
	if err == nil && !slices.ContainsFunc(events.Items, func(e *corev1.Event) bool { return e.Reason == reason && strings.Contains(e.Message, words) }) {
		err = errors.New("there is no such event")
	}
	return err
}
