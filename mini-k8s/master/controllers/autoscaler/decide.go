package autoscaler

// From what the metrics recommend to what is done. All here is pure but for the memory that it is given.

import (
	"fmt"
	"slices"

	"workshop/mini-k8s/api"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

type behavior = autoscalingv2.HorizontalPodAutoscalerBehavior

// decide writes down in the status how many replicas the target is to have now, and why.
//
//  1. A target of 0 replicas is left alone: somebody has switched it off.
//  2. Outside of minReplicas and maxReplicas it comes back between them, whatever the metrics say.
//  3. Of what the metrics recommend the most counts. If one of them fails, the others can make it grow only.
//  4. Then the memory of the last minutes and the behavior that is asked for hold it back.
func decide(h *autoscalingv2.HorizontalPodAutoscaler, s *status, replicas int32, known sample, m *memory) {
	least, most := ptr.Deref(h.Spec.MinReplicas, 1), h.Spec.MaxReplicas
	s.CurrentReplicas, s.DesiredReplicas = replicas, replicas
	s.condition(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	switch {
	case replicas == 0:
		s.condition(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return
	case replicas > most:
		s.why, s.DesiredReplicas = "Current number of replicas above Spec.MaxReplicas", most
		return
	case replicas < least:
		s.why, s.DesiredReplicas = "Current number of replicas below Spec.MinReplicas", least
		return
	}
	rules := ptr.Deref(h.Spec.Behavior.DeepCopy(), behavior{})
	api.DefaultScaling(&rules)
	wanted, ok := s.consult(h, &rules, replicas, known)
	if !ok {
		return
	}
	calm := m.stabilize(&rules, replicas, wanted, known.now)
	switch {
	case calm > wanted:
		s.condition(autoscalingv2.AbleToScale, true, "ScaleDownStabilized",
			"recent recommendations were higher than current one, applying the highest recent recommendation")
	case calm < wanted:
		s.condition(autoscalingv2.AbleToScale, true, "ScaleUpStabilized",
			"recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		s.condition(autoscalingv2.AbleToScale, true, "ReadyForNewScale", "recommended size matches current size")
	}
	s.DesiredReplicas = s.limit(m.pace(&rules, replicas, calm, known.now), calm, least, most)
}

// consult asks all metrics. It is not ok if they cannot tell.
func (s *status) consult(h *autoscalingv2.HorizontalPodAutoscaler, rules *behavior, replicas int32, known sample) (wanted int32, ok bool) {
	s.CurrentMetrics = nil
	best := "" // the metric that wants the most
	for _, spec := range h.Spec.Metrics {
		metric := spec.Resource
		if metric == nil {
			continue // the API server has refused others
		}
		n, value, err := recommend(replicas, metric, known, toleranceOf(rules.ScaleUp), toleranceOf(rules.ScaleDown))
		if err != nil {
			s.failure = fmt.Errorf("failed to get %s utilization: %w", metric.Name, err)
			continue
		}
		s.CurrentMetrics = append(s.CurrentMetrics, autoscalingv2.MetricStatus{Type: spec.Type,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: metric.Name, Current: value}})
		if best == "" || n > wanted {
			wanted, best = n, string(metric.Name)+" resource"
		}
	}
	if s.failure != nil && wanted <= replicas {
		s.condition(autoscalingv2.ScalingActive, false, failedMetric, "the HPA was unable to compute the replica count: %v", s.failure)
		return 0, false
	}
	s.condition(autoscalingv2.ScalingActive, true, "ValidMetricFound",
		"the HPA was able to successfully calculate a replica count from %s", best)
	s.why = "All metrics below target"
	if wanted > replicas {
		s.why = best + " above target"
	}
	return wanted, true
}

func toleranceOf(rules *autoscalingv2.HPAScalingRules) float64 {
	if rules.Tolerance == nil {
		return tolerance
	}
	return rules.Tolerance.AsApproximateFloat64()
}

// limit keeps what the pace allows between the bounds, and says what was wanted beyond that.
func (s *status) limit(paced, wanted, least, most int32) int32 {
	bounded := max(least, min(most, paced))
	switch {
	case wanted > most && bounded == most:
		s.condition(autoscalingv2.ScalingLimited, true, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
	case wanted < least && bounded == least:
		s.condition(autoscalingv2.ScalingLimited, true, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
	case paced < wanted:
		s.condition(autoscalingv2.ScalingLimited, true, "ScaleUpLimit",
			"the desired replica count is increasing faster than the maximum scale rate")
	case paced > wanted:
		s.condition(autoscalingv2.ScalingLimited, true, "ScaleDownLimit",
			"the desired replica count is decreasing faster than the maximum scale rate")
	default:
		s.condition(autoscalingv2.ScalingLimited, false, "DesiredWithinRange", "the desired count is within the acceptable range")
	}
	return bounded
}

// status is what will be reported of an autoscaler.
type status struct {
	autoscalingv2.HorizontalPodAutoscalerStatus
	why     string // the target gets another size
	failure error  // of a metric
}

const failedMetric = "FailedGetResourceMetric"

// condition replaces the one of its type. Its transition time stays if its status does.
func (s *status) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, holds bool, reason, format string, args ...any) {
	c := autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason,
		Message: fmt.Sprintf(format, args...), LastTransitionTime: metav1.Now().Rfc3339Copy()}
	if holds {
		c.Status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(s.Conditions, func(old autoscalingv2.HorizontalPodAutoscalerCondition) bool { return old.Type == kind })
	if i < 0 {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if s.Conditions[i].Status == c.Status {
		c.LastTransitionTime = s.Conditions[i].LastTransitionTime
	}
	s.Conditions[i] = c
}
