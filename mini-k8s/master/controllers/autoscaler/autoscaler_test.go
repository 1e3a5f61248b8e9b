package autoscaler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/controllers/deployment"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// load is the work that all pods share, in thousandths of a CPU. Below 0 there are no metrics.
type load struct {
	atomic.Int64
	asked atomic.Int64
}

// start runs the control plane of one Deployment whose pods ask for 100m each, and an autoscaler that wants them to use
// half of it.
func start(t *testing.T, bench *mastertest.Bench, replicas int32, change func(*autoscalingv2.HorizontalPodAutoscaler)) *load {
	l := &load{}
	bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
		if !strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/") {
			return do()
		}
		l.asked.Add(1)
		if l.Load() < 0 {
			return mastertest.Refusal(apierrors.NewServiceUnavailable("no metrics")), nil
		}
		var ready []*corev1.Pod
		pods, err := client.Of[*corev1.Pod](bench.Client).List(r.Context(), client.Selection{})
		if err != nil {
			return nil, err // the test is over
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil {
				ready = append(ready, p)
			}
		}
		list := struct {
			Items []api.Metrics `json:"items"`
		}{}
		for _, p := range ready {
			list.Items = append(list.Items, api.Metrics{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Timestamp: metav1.Now(),
				Containers: []api.ContainerMetrics{{Usage: corev1.ResourceList{
					corev1.ResourceCPU: *resource.NewMilliQuantity(l.Load()/int64(len(ready)), resource.DecimalSI)}}}})
		}
		data, err := json.Marshal(list)
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(data))}, err
	})
	deps := bench.Deps()
	bench.Start(mastertest.Kubelet(deps, nil))
	bench.Start(replicaset.New(deps).Run)
	bench.Start(deployment.New(deps).Run)
	bench.Start(New(deps).Run)
	d := mastertest.Deployment("web", replicas, "hello:1")
	d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	mastertest.Create(t, bench.Client, d)
	time.Sleep(10 * time.Minute) // its pods have started long ago
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 10, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"},
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: cpu("50%")}}}}
	if change != nil {
		change(h)
	}
	mastertest.Create(t, bench.Client, h)
	return l
}

func replicas(t *testing.T, bench *mastertest.Bench) int32 {
	t.Helper()
	mastertest.Settle()
	return *mastertest.Get[*appsv1.Deployment](t, bench.Client, "default", "web").Spec.Replicas
}

func expect(t *testing.T, bench *mastertest.Bench, want int32) {
	t.Helper()
	if got := replicas(t, bench); got != want {
		t.Errorf("%d replicas, want %d", got, want)
	}
}

func conditions(t *testing.T, bench *mastertest.Bench) string {
	t.Helper()
	var all []string
	for _, c := range mastertest.Get[*autoscalingv2.HorizontalPodAutoscaler](t, bench.Client, "default", "web").Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(all, ", ")
}

func TestDeploymentGrowsWithItsLoadAndShrinksWithPatience(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		l := start(t, bench, 1, nil)
		l.Store(50)
		time.Sleep(20 * time.Second)
		expect(t, bench, 1)
		if got := conditions(t, bench); got != "AbleToScale=True ReadyForNewScale, ScalingActive=True ValidMetricFound, ScalingLimited=False DesiredWithinRange" {
			t.Errorf("conditions: %s", got)
		}
		l.Store(300) // is work for six
		time.Sleep(10 * time.Second)
		if got := replicas(t, bench); got <= 1 || got > 6 {
			t.Errorf("soon after: %d replicas", got)
		}
		time.Sleep(10 * time.Minute) // until the pods that were made have started long ago, too
		expect(t, bench, 6)
		events := mastertest.Events(t, bench.Client, "web")
		if text := fmt.Sprint(events); !strings.Contains(text, "SuccessfulRescale") || !strings.Contains(text, "cpu resource above target") {
			t.Errorf("events: %s", text)
		}
		l.Store(50)
		time.Sleep(4 * time.Minute)
		expect(t, bench, 6)
		if got := conditions(t, bench); !strings.Contains(got, "AbleToScale=True ScaleDownStabilized") {
			t.Errorf("conditions: %s", got)
		}
		time.Sleep(2 * time.Minute)
		expect(t, bench, 1)
		status := mastertest.Get[*autoscalingv2.HorizontalPodAutoscaler](t, bench.Client, "default", "web").Status
		if status.CurrentReplicas != 1 || status.DesiredReplicas != 1 || *status.CurrentMetrics[0].Resource.Current.AverageUtilization != 50 || status.LastScaleTime == nil {
			t.Errorf("status: %+v", status)
		}
		writes := len(bench.Wire.Writes())
		time.Sleep(time.Hour)
		if got := bench.Wire.Writes()[writes:]; len(got) > 0 {
			t.Errorf("writes while nothing changes: %v", got)
		}
	})
}

func TestBoundsHoldWhateverTheLoad(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		least := int32(2)
		l := start(t, bench, 1, func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.MinReplicas, h.Spec.MaxReplicas = &least, 4 })
		l.Store(-1) // even if nobody knows the load
		expect(t, bench, 2)
		l.Store(5000)
		time.Sleep(10 * time.Minute)
		expect(t, bench, 4)
		if got := conditions(t, bench); !strings.Contains(got, "ScalingLimited=True TooManyReplicas") {
			t.Errorf("conditions: %s", got)
		}
		mastertest.Change(t, bench.Client, "default", "web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 20 })
		time.Sleep(5 * time.Second)
		expect(t, bench, 4)
		l.Store(0)
		time.Sleep(10 * time.Minute)
		expect(t, bench, 2)
		if got := conditions(t, bench); !strings.Contains(got, "ScalingLimited=True TooFewReplicas") {
			t.Errorf("conditions: %s", got)
		}
	})
}

func TestNothingChangesWhileNobodyKnowsTheLoad(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		l := start(t, bench, 3, nil)
		l.Store(-1)
		time.Sleep(time.Hour)
		expect(t, bench, 3)
		if got := conditions(t, bench); !strings.Contains(got, "ScalingActive=False FailedGetResourceMetric") {
			t.Errorf("conditions: %s", got)
		}
		if e := mastertest.Events(t, bench.Client, "web"); len(e) == 0 {
			t.Error("no event tells of it")
		}
	})
}

func TestTargetThatIsSwitchedOffOrGoneIsLeftAlone(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		l := start(t, bench, 3, nil)
		l.Store(5000)
		mastertest.Change(t, bench.Client, "default", "web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 })
		time.Sleep(time.Minute)
		expect(t, bench, 0)
		if got := conditions(t, bench); !strings.Contains(got, "ScalingActive=False ScalingDisabled") {
			t.Errorf("conditions: %s", got)
		}
		mastertest.Delete[*appsv1.Deployment](t, bench.Client, "default", "web", "")
		time.Sleep(time.Minute)
		if got := conditions(t, bench); !strings.Contains(got, "AbleToScale=False FailedGetScale") {
			t.Errorf("conditions: %s", got)
		}
		mastertest.Delete[*autoscalingv2.HorizontalPodAutoscaler](t, bench.Client, "default", "web", "")
		time.Sleep(time.Minute)
		asked := l.asked.Load()
		time.Sleep(time.Hour)
		if more := l.asked.Load() - asked; more > 0 {
			t.Errorf("metrics were asked for %d times for an autoscaler that is gone", more)
		}
	})
}
