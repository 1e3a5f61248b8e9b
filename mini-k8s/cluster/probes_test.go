package cluster

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The life of pods that are containers: what probes, hooks, limits and grace periods come to.

func TestDockerPodsLiveByTheirProbes(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "1", "--demo=false")
	everySecond := func(way corev1.ProbeHandler, failures int32) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: way, PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: failures}
	}
	healthz := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}
	pods := map[string]func(*corev1.Container, *corev1.Pod){
		"ready": func(c *corev1.Container, pod *corev1.Pod) {
			pod.Labels = map[string]string{"app": "hello"}
			c.ReadinessProbe = everySecond(healthz, 2)
		},
		"live": func(c *corev1.Container, _ *corev1.Pod) { c.LivenessProbe = everySecond(healthz, 1) },
		"slow": func(c *corev1.Container, _ *corev1.Pod) {
			c.Env = []corev1.EnvVar{{Name: "DELAY", Value: "3s"}}
			c.StartupProbe = everySecond(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, 60)
			c.LivenessProbe = everySecond(healthz, 1)
		},
		"asked": func(c *corev1.Container, _ *corev1.Pod) {
			c.ReadinessProbe = everySecond(corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/hello", "get", "http://127.0.0.1:8080/healthz"}}}, 1)
		},
		"greedy": func(c *corev1.Container, _ *corev1.Pod) {
			c.Args = []string{"eat", "64"}
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}
		},
		"stubborn": func(c *corev1.Container, _ *corev1.Pod) { c.Args = []string{"stay"} },
		"polite": func(c *corev1.Container, _ *corev1.Pod) {
			c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hello", "sleep", "1"}}},
				PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 2}}}
		},
		"too-big": func(c *corev1.Container, pod *corev1.Pod) {
			pod.Spec.NodeName = "node-1"
			c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
		},
	}
	for name, change := range pods {
		create(t, u.client(), name, func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
			change(&pod.Spec.Containers[0], pod)
		})
	}

	t.Run("readiness takes a pod out of its service and puts it back", func(t *testing.T) {
		u.service("hello", nil)
		u.serves("hello", 1)
		u.tell("ready", "/ill")
		u.serves("hello", 0)
		if pod := get(t, u.client(), "ready"); pod.Status.ContainerStatuses[0].Ready || pod.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("its container is %+v", pod.Status.ContainerStatuses[0])
		}
		u.tell("ready", "/well")
		u.serves("hello", 1)
		u.reports("ready", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
	})
	t.Run("liveness restarts", func(t *testing.T) {
		u.becomesReady("live")
		u.tell("live", "/ill")
		u.restarted(get(t, u.client(), "live"), 1)
		u.reports("live", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 503")
		u.reports("live", "Killing", "Container app failed liveness probe, will be restarted")
	})
	t.Run("one that starts slowly is given the time", func(t *testing.T) {
		c := u.becomesReady("slow").Status.ContainerStatuses[0]
		if c.RestartCount != 0 || !*c.Started {
			t.Errorf("it is %+v", c)
		}
		u.reports("slow", "Unhealthy", "Startup probe failed: dial tcp")
	})
	t.Run("a program in the container is asked", func(t *testing.T) {
		u.becomesReady("asked")
		u.tell("asked", "/ill")
		eventually(t, "it is not ready", func() bool { return !api.PodReady(get(t, u.client(), "asked")) }, u.log)
		u.reports("asked", "Unhealthy", "Readiness probe failed: hello: GET http://127.0.0.1:8080/healthz: 503 Service Unavailable")
	})
	t.Run("who eats too much is killed", func(t *testing.T) {
		// Docker forgets why if the death is told before the reason, as happens on a busy machine; the next run tells.
		eventually(t, "it was killed for that", func() bool {
			c := get(t, u.client(), "greedy").Status.ContainerStatuses
			return len(c) > 0 && slices.ContainsFunc([]corev1.ContainerState{c[0].State, c[0].LastTerminationState}, func(s corev1.ContainerState) bool {
				return s.Terminated != nil && s.Terminated.Reason == "OOMKilled" && s.Terminated.ExitCode == 137
			})
		}, u.log)
	})
	t.Run("SIGKILL comes when the grace is over, not before", func(t *testing.T) {
		u.becomesReady("stubborn")
		if took := u.deletes("stubborn", 2); took < time.Second || took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("hooks come after the start and before the end", func(t *testing.T) {
		since := u.becomesReady("polite").Status.ContainerStatuses[0].State.Running.StartedAt
		eventually(t, "its readiness tells of the hook", func() bool {
			for _, c := range get(t, u.client(), "polite").Status.Conditions {
				if c.Type == corev1.PodReady {
					return c.LastTransitionTime.Sub(since.Time) >= time.Second
				}
			}
			return false
		}, u.log)
		if took := u.deletes("polite", 30); took < 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("kubectl top shows what they use", func(t *testing.T) {
		for _, what := range []string{"ready", "node-1"} {
			command := "pods"
			if what == "node-1" {
				command = "nodes"
			}
			if out := u.kubectl("top", command); !regexp.MustCompile(`(?m)^` + what + ` +\d+m .*\b[1-9]\d*Mi`).MatchString(out) {
				t.Errorf("kubectl top %s says\n%s", command, out)
			}
		}
	})
	t.Run("a full node refuses", func(t *testing.T) {
		pod := get(t, u.client(), "too-big")
		if pod.Status.Phase != corev1.PodFailed || pod.Status.Reason != "OutOfcpu" || !strings.Contains(pod.Status.Message, "requested: 1000000") {
			t.Errorf("it is %+v", pod.Status)
		}
	})
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func (u *user) becomesReady(name string) (pod *corev1.Pod) {
	u.t.Helper()
	eventually(u.t, "pod "+name+" is ready", func() bool {
		pod = get(u.t, u.client(), name)
		return api.PodReady(pod)
	}, func() string { return fmt.Sprintf("%+v\n%s", pod.Status, u.log()) })
	return pod
}

// tell makes a request to the program in a pod.
func (u *user) tell(name, path string) {
	u.t.Helper()
	response, err := http.Post("http://"+get(u.t, u.client(), name).Status.PodIP+":8080"+path, "", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	response.Body.Close()
}

// reports waits for an event of a pod that says so.
func (u *user) reports(name, reason, message string) {
	u.t.Helper()
	var said []string
	eventually(u.t, "an event of "+name+" says "+message, func() bool {
		said = nil
		for _, event := range list[*corev1.Event](u.t, u.client()) {
			if event.InvolvedObject.Name == name {
				said = append(said, event.Reason+": "+event.Message)
			}
		}
		return strings.Contains(strings.Join(said, "\n"), reason+": "+message)
	}, func() string { return strings.Join(said, "\n") })
}

// deletes deletes a pod, with so many seconds of grace, and returns how long that took.
func (u *user) deletes(name string, grace int64) time.Duration {
	u.t.Helper()
	start := time.Now()
	if _, err := client.Of[*corev1.Pod](u.client()).Delete(u.t.Context(), "default", name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		u.t.Fatal(err)
	}
	eventually(u.t, name+" is gone", func() bool {
		for _, pod := range list[*corev1.Pod](u.t, u.client()) {
			if pod.Name == name {
				return false
			}
		}
		return true
	}, u.log)
	return time.Since(start)
}
