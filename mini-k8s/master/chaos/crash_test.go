package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// crashes is how many of each loop there are about in a short test, at other writes each time.
const crashes = 2

// TestCrashBetweenAnyTwoWritesConverges lets each loop in turn end at its first write, its second and so on, until the
// scenario has no more: it is told the news late, and another one goes on. What comes of it is always the same.
func TestCrashBetweenAnyTwoWritesConverges(t *testing.T) {
	for _, row := range []struct {
		loop     string
		scenario []act
	}{
		{"deployment-controller", []act{deploy, roll, grow, remove(metav1.DeletePropagationBackground)}},
		{"replicaset-controller", []act{deploy, roll, grow, shrink}},
		{"scheduler", []act{deploy, grow}},
		{"endpoints-controller", []act{deploy, roll, shrink, removeService}},
		{"garbage-collector", []act{deploy, remove(metav1.DeletePropagationForeground)}},
		{"garbage-collector", []act{deploy, remove(metav1.DeletePropagationOrphan)}},
		{"namespace-controller", []act{deploy, removeNamespace}},
		{"node-controller", []act{deploy, silence, speak, silence, forget}},
		{"horizontal-pod-autoscaler", []act{deploy, autoscale}},
	} {
		t.Run(row.loop+" "+describe(row.scenario), func(t *testing.T) {
			want, writes := play(t, row.loop, row.scenario, 0)
			t.Logf("%d writes", writes)
			every := 1 + writes/crashes
			if long() {
				every = 1
			}
			for k := 1 + rand.IntN(every); k <= writes && !t.Failed(); k += every {
				t.Run(fmt.Sprint("write ", k), func(t *testing.T) {
					if got, _ := play(t, row.loop, row.scenario, k); got != want {
						t.Errorf("in the end (-want, +got):\n%s", difference(want, got))
					}
				})
			}
		})
	}
}

// act is what somebody does to the cluster.
type act struct {
	name string
	do   func(*scene)
	wait time.Duration // until it is over, 10 s if 0
}

type scene struct {
	*plane
	t *testing.T
}

func describe(acts []act) string {
	var names []string
	for _, a := range acts {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// play does all acts and returns what there is in the end, and how often the loop has written. It crashes at its k-th
// write; 0 is never.
func play(t *testing.T, loop string, acts []act, k int) (state string, writes int) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		c := &crash{agent: loop, at: k, met: make(chan struct{})}
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/") {
				return metrics(r, bench.Client)
			}
			response, err := c.carry(r, do)
			if err == nil && r.URL.Query().Get("watch") != "" {
				mastertest.Lag(response, func() time.Duration { return 50 * time.Millisecond })
			}
			return response, err
		})
		follow(bench, t)
		s := &scene{newPlane(bench, 3), t}
		over := make(chan struct{})
		go func() {
			defer close(over)
			time.Sleep(10 * time.Second)
			for _, a := range acts {
				a.do(s)
				time.Sleep(cmp.Or(a.wait, 10*time.Second))
			}
			time.Sleep(10 * time.Second) // a binding that is not answered takes that long
		}()
		if k > 0 {
			select {
			case <-c.met:
				s.stop(loop)
				c.mu.Lock()
				c.dead = false
				c.mu.Unlock()
				s.start(loop)
			case <-over:
			}
		}
		<-over
		state, writes = s.state(), c.writes
		before := len(bench.Wire.Writes("/leases/"))
		time.Sleep(20 * time.Second)
		if more := bench.Wire.Writes("/leases/")[before:]; len(more) > 0 {
			t.Errorf("it does not come to rest: %v", more)
		}
	})
	return state, writes
}

const namespaceName = "team"

var (
	deploy = act{"deploy", func(s *scene) {
		mastertest.Create(s.t, s.bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName}})
		d := mastertest.Deployment("web", 3, "hello:1")
		d.Namespace = namespaceName
		d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}
		mastertest.Create(s.t, s.bench.Client, d)
		mastertest.Create(s.t, s.bench.Client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName, Name: "web"},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}})
	}, 0}
	roll   = change("roll", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "hello:2" })
	grow   = change("grow", func(d *appsv1.Deployment) { *d.Spec.Replicas = 5 })
	shrink = change("shrink", func(d *appsv1.Deployment) { *d.Spec.Replicas = 1 })

	removeService = act{"remove the service", func(s *scene) {
		mastertest.Delete[*corev1.Service](s.t, s.bench.Client, namespaceName, "web", "")
	}, 0}
	removeNamespace = act{"remove the namespace", func(s *scene) {
		mastertest.Delete[*corev1.Namespace](s.t, s.bench.Client, "", namespaceName, "")
	}, 0}
	silence = act{"silence", func(s *scene) { s.machines["node-3"].kill() }, 70 * time.Second}
	speak   = act{"speak", func(s *scene) { s.machines["node-3"].start(s.bench) }, 0}
	forget  = act{"forget the node", func(s *scene) { mastertest.Delete[*corev1.Node](s.t, s.bench.Client, "", "node-3", "") }, time.Minute}

	// autoscale asks for pods that use half of what they ask for; each uses all of it.
	autoscale = act{"autoscale", func(s *scene) {
		utilization := int32(50)
		mastertest.Create(s.t, s.bench.Client, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName, Name: "web"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 5, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"},
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &utilization}}}}}})
	}, 30 * time.Second}
)

func change(name string, how func(*appsv1.Deployment)) act {
	return act{name, func(s *scene) { mastertest.Change(s.t, s.bench.Client, namespaceName, "web", how) }, 0}
}

func remove(policy metav1.DeletionPropagation) act {
	return act{"remove (" + string(policy) + ")", func(s *scene) {
		mastertest.Delete[*appsv1.Deployment](s.t, s.bench.Client, namespaceName, "web", policy)
	}, 0}
}

func difference(want, got string) (text string) {
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			text += "-" + line
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			text += "+" + line
		}
	}
	return text
}

// state tells what there is, in words that are the same for all that is as good.
func (s *scene) state() string {
	t, c := s.t, s.bench.Client
	lines := map[string]int{}
	note := func(format string, args ...any) { lines[fmt.Sprintf(format, args...)]++ }
	for _, ns := range mastertest.List[*corev1.Namespace](t, c) {
		note("namespace %s %s", ns.Name, ns.Status.Phase)
	}
	for _, node := range mastertest.List[*corev1.Node](t, c) {
		note("node %s %s %d taints", node.Name, node.Spec.PodCIDR, len(node.Spec.Taints))
	}
	for _, d := range mastertest.List[*appsv1.Deployment](t, c) {
		st := d.Status
		note("deployment %s of %d, %d updated, %d available, seen: %v", d.Name, st.Replicas, st.UpdatedReplicas, st.AvailableReplicas, st.ObservedGeneration == d.Generation)
	}
	for _, rs := range mastertest.List[*appsv1.ReplicaSet](t, c) {
		note("replicaset %s of %d, %d available, owned: %v", rs.Name, *rs.Spec.Replicas, rs.Status.AvailableReplicas, ownerOf(rs) != "")
	}
	addresses := map[string]bool{}
	for _, p := range mastertest.List[*corev1.Pod](t, c) {
		note("pod of %s ready: %v, stopping: %v, placed: %v, owned: %v", p.Spec.Containers[0].Image, api.PodReady(p), p.DeletionTimestamp != nil, p.Spec.NodeName != "", ownerOf(p) != "")
		addresses[p.Status.PodIP] = api.PodReady(p) && p.DeletionTimestamp == nil
	}
	for _, e := range mastertest.List[*corev1.Endpoints](t, c) {
		for _, subset := range e.Subsets {
			for _, a := range subset.Addresses {
				note("endpoint, ready: %v", addresses[a.IP])
			}
		}
	}
	for _, slice := range mastertest.List[*discoveryv1.EndpointSlice](t, c) {
		note("slice of %d", len(slice.Endpoints))
	}
	for _, a := range mastertest.List[*corev1.ServiceAccount](t, c) {
		note("account %s/%s", a.Namespace, a.Name)
	}
	for _, m := range mastertest.List[*corev1.ConfigMap](t, c) {
		note("config map %s/%s", m.Namespace, m.Name)
	}
	var text strings.Builder
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&text, "  %d %s\n", lines[line], line)
	}
	return text.String()
}
