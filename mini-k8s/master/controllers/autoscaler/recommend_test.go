package autoscaler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// cpu is a metric: "50%" of what is asked for, or "100m".
func cpu(target string) *autoscalingv2.ResourceMetricSource {
	m := &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU}
	if percent, is := strings.CutSuffix(target, "%"); is {
		var n int32
		fmt.Sscan(percent, &n)
		m.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &n}
		return m
	}
	q := resource.MustParse(target)
	m.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &q}
	return m
}

// pods returns a sample of pods that each ask for 100m, in so many words: what each uses, such as "80m", or what is
// the matter with it.
func pods(words string) sample {
	s := sample{now: now, usage: map[string]api.Metrics{}}
	for i, word := range strings.Fields(words) {
		name := fmt.Sprint("p", i)
		ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
		started, ready := ago(time.Hour), corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: ago(59 * time.Minute)}
		p := mastertest.Pod(name, mastertest.Requests("100m", "1Mi"))
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &started}
		use, matter, _ := strings.Cut(word, "/")
		switch matter {
		case "":
		case "pending":
			p.Status.Phase = corev1.PodPending
		case "failed":
			p.Status.Phase = corev1.PodFailed
		case "leaving":
			p.DeletionTimestamp = &started
		case "starting":
			started = ago(time.Minute)
			ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, started
		case "ready-a-moment-ago":
			started = ago(time.Minute)
			ready.LastTransitionTime = ago(5 * time.Second)
		case "young":
			started = ago(2 * time.Minute)
			ready.LastTransitionTime = ago(time.Minute)
		case "never-ready":
			ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, ago(time.Hour)
		case "no-longer-ready":
			ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, ago(time.Minute)
		case "asks-nothing":
			p.Spec.Containers[0].Resources.Requests = nil
		default:
			panic(matter)
		}
		p.Status.Conditions = []corev1.PodCondition{ready}
		if use != "?" {
			s.usage[name] = api.Metrics{Timestamp: ago(0), Window: metav1.Duration{Duration: 10 * time.Second},
				Containers: []api.ContainerMetrics{{Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(use)}}}}
		}
		s.pods = append(s.pods, p)
	}
	return s
}

func TestRecommendationIsTheRatioOfIsAndShouldBeTimesThePods(t *testing.T) {
	for _, row := range []struct {
		name     string
		replicas int32
		target   string
		pods     string
		want     string // "replicas utilization%", or a part of the error
	}{
		{"as busy as they should be", 2, "50%", "50m 50m", "2 50%"},
		{"twice as busy", 2, "50%", "100m 100m", "4 100%"},
		{"half as busy", 4, "50%", "25m 25m 25m 25m", "2 25%"},
		{"a part of a pod is a pod", 2, "50%", "60m 60m", "3 60%"},
		{"an even number stays even", 3, "10%", "30m 30m 30m", "9 30%"},
		{"a little busier is no reason", 2, "50%", "55m 55m", "2 55%"},
		{"a little idler is none", 2, "50%", "45m 45m", "2 45%"},
		{"it is the sum that counts", 2, "50%", "10m 90m", "2 50%"},
		{"idle", 3, "50%", "0m 0m 0m", "0 0%"},
		{"by value", 2, "100m", "250m 150m", "4 200m"},
		{"a pod that is silent counts as idle when the others are too busy", 3, "50%", "100m 100m ?", "4 100%"},
		{"and turns round no one", 3, "50%", "60m 60m ?", "3 60%"},
		{"a silent pod counts as busy when the others are idle", 3, "50%", "10m 10m ?", "3 10%"},
		{"by value it counts as it should be", 4, "100m", "20m 20m 20m ?", "2 20m"},
		{"a pod that starts counts as idle when the others are too busy", 2, "50%", "100m 400m/starting", "2 100%"},
		{"and not at all when they are idle", 3, "50%", "20m 20m 400m/starting", "1 20%"},
		{"a pending pod is one that starts", 2, "50%", "100m ?/pending", "2 100%"},
		{"the metrics of a pod that was ready after they begin count", 1, "50%", "100m/young", "2 100%"},
		{"but not those from before", 2, "50%", "50m 400m/ready-a-moment-ago", "2 50%"},
		{"one that was never ready does not count", 2, "50%", "50m 400m/never-ready", "2 50%"},
		{"one that was, does", 2, "50%", "50m 150m/no-longer-ready", "4 100%"},
		{"those that leave or have failed are none", 2, "50%", "50m 50m 400m/leaving 400m/failed", "2 50%"},
		{"too few pods yet are no reason to shrink", 10, "50%", "100m 100m", "10 100%"},
		{"nobody tells", 2, "50%", "? ?", "did not receive metrics"},
		{"no pods", 2, "50%", "", "did not receive metrics"},
		{"part of nothing", 2, "50%", "50m 50m/asks-nothing", "missing request for cpu in container"},
		{"nothing is needed for a value", 1, "100m", "200m/asks-nothing", "2 200m"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, value, err := recommend(row.replicas, cpu(row.target), pods(row.pods), 0.1, 0.1)
			got := fmt.Sprint(n, " ", value.AverageValue)
			if value.AverageUtilization != nil {
				got = fmt.Sprintf("%d %d%%", n, *value.AverageUtilization)
			}
			if err != nil {
				got = err.Error()
			}
			if got != row.want && (err == nil || !strings.Contains(got, row.want)) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestToleranceIsAsTheAutoscalerSays(t *testing.T) {
	if n, _, _ := recommend(2, cpu("50%"), pods("55m 55m"), 0.05, 0.1); n != 3 {
		t.Errorf("with 5 %% upwards: %d", n)
	}
	if n, _, _ := recommend(10, cpu("50%"), pods(strings.Repeat("40m ", 10)), 0.1, 0.3); n != 10 {
		t.Errorf("with 30 %% downwards: %d", n)
	}
}

func TestFailureOfTheMetricsIsTold(t *testing.T) {
	failure := errors.New("no answer")
	if _, _, err := recommend(2, cpu("50%"), sample{failure: failure}, 0.1, 0.1); !errors.Is(err, failure) {
		t.Error(err)
	}
}
