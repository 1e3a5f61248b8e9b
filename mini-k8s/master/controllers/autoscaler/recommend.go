package autoscaler

// How many pods would be right, by one metric. All here is pure.

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"workshop/mini-k8s/api"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

const (
	// tolerance is by how much pods may be busier or idler than wanted with no change, unless the autoscaler says.
	tolerance = 0.1
	// startUp is for how long after its start a pod's CPU does not count unless it is ready, and settling how soon a pod
	// must have been ready for the first time to count later though it is not.
	startUp  = 5 * time.Minute
	settling = 30 * time.Second
)

// sample is what is known of the target's pods.
type sample struct {
	pods    []*corev1.Pod
	usage   map[string]api.Metrics // by the pods' names
	failure error                  // why there is no usage
	now     time.Time
}

// recommend returns how many pods would be right by a metric, and its current value.
//
// The ratio of how busy pods are to how busy they are to be, times the pods that there are: that is the formula. Pods that
// do not tell count for what speaks against the change; if it turns round with them, there is none.
func recommend(replicas int32, metric *autoscalingv2.ResourceMetricSource, s sample, up, down float64) (
	wanted int32, value autoscalingv2.MetricValueStatus, err error) {
	if s.failure != nil {
		return 0, value, s.failure
	}
	var known, silent, young share
	for _, pod := range s.pods {
		if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		wanted, err := wantedOf(pod, metric)
		if err != nil {
			return 0, value, err
		}
		usage, told := s.usageOf(pod, metric.Name)
		switch {
		case pod.Status.Phase == corev1.PodPending || metric.Name == corev1.ResourceCPU && told && s.starting(pod):
			young = young.plus(share{1, 0, wanted})
		case !told:
			silent = silent.plus(share{1, 0, wanted})
		default:
			known = known.plus(share{1, usage, wanted})
		}
	}
	if known.count == 0 {
		return 0, value, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	ratio, all := known.ratio(), known
	if ratio < 1 {
		silent.usage = silent.wanted * max(1, 100/float64(ptr.Deref(metric.Target.AverageUtilization, 100))) // all that they ask for
		all = all.plus(silent)
	} else if ratio > 1 {
		all = all.plus(silent).plus(young) // idle
	}
	after := all.ratio()
	wanted = int32(min(math.Ceil(after*all.count-1e-9), math.MaxInt32)) // 3.0000000000000004 is 3
	tolerated := func(ratio float64) bool { return ratio <= 1+up && ratio >= 1-down }
	// It turns round with those who do not tell, or some replicas have no pods yet, or some pods are too many already.
	turned := (ratio < 1) != (after < 1) || (after < 1) != (wanted < replicas)
	if tolerated(ratio) || tolerated(after) || turned {
		wanted = replicas
	}
	return wanted, known.value(metric), nil
}

// share is what some of the pods use and are to use, in thousandths of the metric's unit.
type share struct{ count, usage, wanted float64 }

func (s share) plus(o share) share {
	return share{s.count + o.count, s.usage + o.usage, s.wanted + o.wanted}
}

func (s share) ratio() float64 { return s.usage / s.wanted }

// value returns how busy the pods are, as the status tells it.
func (s share) value(metric *autoscalingv2.ResourceMetricSource) (value autoscalingv2.MetricValueStatus) {
	value.AverageValue = resource.NewMilliQuantity(int64(s.usage/s.count), resource.DecimalSI)
	if metric.Name == corev1.ResourceMemory {
		value.AverageValue = resource.NewQuantity(int64(s.usage/s.count/1000), resource.BinarySI)
	}
	if percent := metric.Target.AverageUtilization; percent != nil {
		value.AverageUtilization = ptr.To(int32(s.usage * float64(*percent) / s.wanted))
	}
	return value
}

// wantedOf returns how much a pod is to use, which may be a part of what it asks for.
func wantedOf(pod *corev1.Pod, metric *autoscalingv2.ResourceMetricSource) (wanted float64, err error) {
	if value := metric.Target.AverageValue; value != nil {
		return float64(value.MilliValue()), nil
	}
	for _, c := range pod.Spec.Containers {
		asked, ok := c.Resources.Requests[metric.Name]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", metric.Name, c.Name, pod.Name)
		}
		wanted += float64(asked.MilliValue()) * float64(*metric.Target.AverageUtilization) / 100
	}
	return wanted, nil
}

func (s sample) usageOf(pod *corev1.Pod, name corev1.ResourceName) (usage float64, told bool) {
	metrics, told := s.usage[pod.Name]
	for _, c := range metrics.Containers {
		used := c.Usage[name]
		usage += float64(used.MilliValue())
	}
	return usage, told
}

// starting reports whether a pod's CPU is that of its start, which passes.
func (s sample) starting(pod *corev1.Pod) bool {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	if i < 0 || pod.Status.StartTime == nil {
		return true
	}
	condition, started := pod.Status.Conditions[i], pod.Status.StartTime.Time
	ready, since := condition.Status == corev1.ConditionTrue, condition.LastTransitionTime.Time
	if s.now.Sub(started) < startUp {
		metrics := s.usage[pod.Name]
		return !ready || metrics.Timestamp.Add(-metrics.Window.Duration).Before(since)
	}
	return !ready && since.Sub(started) < settling
}
