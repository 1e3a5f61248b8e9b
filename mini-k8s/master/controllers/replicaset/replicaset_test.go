package replicaset

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// start runs the controller with kubelets.
func start(bench *mastertest.Bench) control.Deps {
	deps := bench.Deps()
	bench.Start(mastertest.Kubelet(deps, nil))
	bench.Start(New(deps).Run)
	return deps
}

// expectPods checks that there are so many pods, and that the ReplicaSet's status says so.
func expectPods(t *testing.T, bench *mastertest.Bench, name string, count int32) {
	t.Helper()
	mastertest.Settle()
	rs := mastertest.Get[*appsv1.ReplicaSet](t, bench.Client, "default", name)
	if got := owned(t, bench, rs); len(got) != int(count) {
		t.Errorf("%s has %d pods, want %d", name, len(got), count)
	}
	want := appsv1.ReplicaSetStatus{Replicas: count, TerminatingReplicas: new(int32), ReadyReplicas: count, AvailableReplicas: count, ObservedGeneration: rs.Generation}
	if !equality.Semantic.DeepEqual(rs.Status, want) {
		t.Errorf("%s has the status %+v, want %+v", name, rs.Status, want)
	}
}

// census counts, as the watch tells, how many pods there are, and the most there ever were.
type census struct {
	mu        sync.Mutex
	now, most int
}

func takeCensus(t *testing.T, bench *mastertest.Bench) *census {
	c := &census{}
	witness := control.NewInformer(client.Of[*corev1.Pod](bench.Client), client.Selection{})
	witness.Subscribe(t.Context(), func(old, pod *corev1.Pod) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if old == nil {
			c.now++
		}
		if pod == nil {
			c.now--
		}
		c.most = max(c.most, c.now)
	})
	bench.Start(witness.Run)
	return c
}

func (c *census) expect(t *testing.T, now, most int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != now || c.most != most {
		t.Errorf("%d pods and at most %d, want %d and %d", c.now, c.most, now, most)
	}
}

func TestNoPodIsMadeTwiceHoweverLateTheWatchTells(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "pods") {
				mastertest.Lag(response, func() time.Duration { return 300 * time.Millisecond })
			}
			return response, err
		})
		pods := takeCensus(t, bench)
		bench.Start(New(bench.Deps()).Run)
		mastertest.Create(t, bench.Client, mastertest.ReplicaSet("web", 6))
		for i := range 20 { // reasons to look, long before the pods are seen
			time.Sleep(10 * time.Millisecond)
			mastertest.Change(t, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) { rs.Annotations = map[string]string{"look": fmt.Sprint(i)} })
		}
		time.Sleep(10 * time.Second)
		pods.expect(t, 6, 6)
		scale(t, bench, 2)
		for i := range 20 {
			time.Sleep(10 * time.Millisecond)
			mastertest.Change(t, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) { rs.Annotations = map[string]string{"look": fmt.Sprint(i)} })
		}
		time.Sleep(10 * time.Second)
		pods.expect(t, 2, 6)
	})
}

func TestFailuresAreToldInEventsAndRetried(t *testing.T) {
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("the quota is used up"))
	for _, row := range []struct {
		name, method, path, reason string
		err                        error
	}{
		{"a pod cannot be made", "POST", "/pods", "FailedCreate", refused},
		{"a pod cannot be deleted", "DELETE", "/pods/", "FailedDelete", refused},
		{"the status has changed meanwhile", "PUT", "/web/status", "", apierrors.NewConflict(schema.GroupResource{Resource: "replicasets"}, "web", errors.New("faster"))},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				var mu sync.Mutex
				left := 5
				bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					if left > 0 && r.Method == row.method && strings.Contains(r.URL.Path, row.path) && strings.HasPrefix(r.UserAgent(), "replicaset") {
						left--
						return mastertest.Refusal(row.err), nil
					}
					return do()
				})
				start(bench)
				mastertest.Create(t, bench.Client, mastertest.ReplicaSet("web", 3))
				expectPods(t, bench, "web", 3)
				scale(t, bench, 2)
				expectPods(t, bench, "web", 2)
				if left > 0 {
					t.Fatalf("%d failures were not met", left)
				}
				var told int32
				for _, e := range mastertest.Events(t, bench.Client, "web") {
					if e.Type == corev1.EventTypeWarning {
						told += e.Count
						if e.Reason != row.reason || !strings.Contains(e.Message, "quota") {
							t.Errorf("event %s: %s", e.Reason, e.Message)
						}
					}
				}
				if want := map[bool]int32{true: 5}[row.reason != ""]; told != want {
					t.Errorf("%d warnings, want %d", told, want)
				}
			})
		})
	}
}

func TestStatusTellsOfPodsThatCannotBeMadeOrDeletedUntilThatIsOver(t *testing.T) {
	for _, row := range []struct {
		name, method, path string
		before, after      int32 // wanted
		want               string
	}{
		{"made", "POST", "/pods", 1, 3, "2 replicas, ReplicaFailure True FailedCreate, quota: true"},
		{"deleted", "DELETE", "/pods/", 4, 2, "3 replicas, ReplicaFailure True FailedDelete, quota: true"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				start(bench)
				mastertest.Create(t, bench.Client, mastertest.ReplicaSet("web", row.before))
				expectPods(t, bench, "web", row.before)
				var allowed atomic.Int32
				allowed.Store(1) // one of two
				bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					if r.Method == row.method && strings.Contains(r.URL.Path, row.path) && strings.HasPrefix(r.UserAgent(), "replicaset") && allowed.Add(-1) < 0 {
						return full(r, do)
					}
					return do()
				})
				scale(t, bench, row.after)
				mastertest.Settle()
				status := mastertest.Get[*appsv1.ReplicaSet](t, bench.Client, "default", "web").Status
				got := fmt.Sprintf("%d replicas", status.Replicas)
				for _, c := range status.Conditions {
					got += fmt.Sprintf(", %s %s %s, quota: %v", c.Type, c.Status, c.Reason, strings.Contains(c.Message, "exceeded quota"))
				}
				if got != row.want {
					t.Errorf("status: %s, want %s", got, row.want)
				}
				before := len(bench.Wire.Writes("/events", "/pods"))
				time.Sleep(time.Hour)
				if writes := bench.Wire.Writes("/events", "/pods")[before:]; len(writes) > 0 {
					t.Errorf("one failure is told more than once: %v", writes)
				}
				allowed.Store(10)
				time.Sleep(time.Minute)
				expectPods(t, bench, "web", row.after) // which wants no conditions
			})
		})
	}
}

func TestStatusTellsHowManyPodsAreStillStopping(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run) // without kubelets: who stops is not gone until the test says so
		rs := mastertest.ReplicaSet("web", 3)
		rs.Spec.Template.Spec.NodeName = "node-1"
		rs = mastertest.Create(t, bench.Client, rs)
		mastertest.Settle()
		scale(t, bench, 1)
		for want := int32(2); want >= 0; want-- {
			mastertest.Settle()
			if s := mastertest.Get[*appsv1.ReplicaSet](t, bench.Client, "default", "web").Status; s.Replicas != 1 || *s.TerminatingReplicas != want {
				t.Errorf("%d pods, and %d that stop, want 1 and %d", s.Replicas, *s.TerminatingReplicas, want)
			}
			for _, p := range owned(t, bench, rs) {
				if p.DeletionTimestamp != nil {
					client.Of[*corev1.Pod](bench.Client).Delete(t.Context(), "default", p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
					break
				}
			}
		}
	})
}

func TestReplicaSetThatIsGoingOrGoneMakesNoPods(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench)
		rs := mastertest.Create(t, bench.Client, mastertest.ReplicaSet("web", 3))
		mastertest.Settle()
		mastertest.Delete[*appsv1.ReplicaSet](t, bench.Client, "default", "web", metav1.DeletePropagationForeground) // nobody takes the finalizer off
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", owned(t, bench, rs)[0].Name, "")
		mastertest.Settle()
		if n := len(owned(t, bench, rs)); n != 2 {
			t.Errorf("%d pods after one was deleted, want 2", n)
		}
		mastertest.Change(t, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) { rs.Finalizers = nil })
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", owned(t, bench, rs)[0].Name, "")
		mastertest.Settle()
		if n := len(owned(t, bench, rs)); n != 1 {
			t.Errorf("%d pods after another was deleted, want 1", n)
		}
		again := mastertest.Create(t, bench.Client, mastertest.ReplicaSet("web", 2)) // of the same name: the last pod is not its
		expectPods(t, bench, "web", 2)
		if n := len(owned(t, bench, again)) + len(owned(t, bench, rs)); n != 3 {
			t.Errorf("%d pods in all, want 3", n)
		}
	})
}

func TestPodsAreOfTheTemplateAndNamedAfterTheirOwner(t *testing.T) {
	rs := mastertest.ReplicaSet("web", 1)
	rs.UID = "uid"
	rs.Spec.Template.Annotations = map[string]string{"a": "b"}
	p := podOf(rs)
	if p.GenerateName != "web-" || p.Labels["app"] != "web" || p.Annotations["a"] != "b" || !metav1.IsControlledBy(p, rs) || len(p.Spec.Containers) != 1 {
		t.Errorf("pod: %+v", p)
	}
	p.Labels["app"] = "changed"
	p.Spec.Containers[0].Image = "changed"
	if rs.Spec.Template.Labels["app"] != "web" || rs.Spec.Template.Spec.Containers[0].Image != "hello:1" {
		t.Error("the pod shares its parts with the template")
	}
}
