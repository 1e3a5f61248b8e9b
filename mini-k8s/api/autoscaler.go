package api

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var autoscalers = behaviour[*autoscalingv2.HorizontalPodAutoscaler]{
	columns: "Name Reference Targets MinPods MaxPods Replicas Age",
	cells: func(h *autoscalingv2.HorizontalPodAutoscaler) []any {
		reference := h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		return []any{h.Name, reference, autoscalerTargets(h), ptr.Deref(h.Spec.MinReplicas, 1), h.Spec.MaxReplicas,
			h.Status.CurrentReplicas, age(h.CreationTimestamp)}
	},
}

func defaultMetrics(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
	if len(s.Metrics) == 0 {
		s.Metrics = cpuUtilization(80)
	}
}

func checkAutoscaler(c *check, s *autoscalingv2.HorizontalPodAutoscalerSpec, at *field.Path) {
	if s.MaxReplicas < ptr.Deref(s.MinReplicas, 1) {
		c.invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
}

func checkTarget(c *check, t *autoscalingv2.MetricTarget, at *field.Path) {
	if t.AverageValue != nil && t.AverageValue.Sign() <= 0 {
		c.invalid(at.Child("averageValue"), t.AverageValue.String(), "must be positive")
	}
}

// DefaultScaling fills in how fast a target may grow and shrink where that is not said (KEP-853).
func DefaultScaling(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
	double := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}
	four := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}
	setDefaultPtr(&b.ScaleUp, autoscalingv2.HPAScalingRules{})
	setDefaultPtr(&b.ScaleDown, autoscalingv2.HPAScalingRules{})
	setDefaultPtr(&b.ScaleUp.StabilizationWindowSeconds, 0)
	setDefaultPtr(&b.ScaleDown.StabilizationWindowSeconds, 300)
	setDefaultPtr(&b.ScaleUp.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	setDefaultPtr(&b.ScaleDown.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if len(b.ScaleUp.Policies) == 0 {
		b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{four, double}
	}
	if len(b.ScaleDown.Policies) == 0 {
		b.ScaleDown.Policies = []autoscalingv2.HPAScalingPolicy{double}
	}
}

// autoscalerTargets returns the current and the wanted value of each metric: "cpu: 12%/50%".
func autoscalerTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	current := map[corev1.ResourceName]string{}
	for _, m := range h.Status.CurrentMetrics {
		if m.Resource != nil && m.Resource.Current.AverageUtilization != nil {
			current[m.Resource.Name] = fmt.Sprintf("%d%%", *m.Resource.Current.AverageUtilization)
		}
	}
	var all []string
	for _, m := range h.Spec.Metrics {
		if m.Resource != nil && m.Resource.Target.AverageUtilization != nil {
			now, ok := current[m.Resource.Name]
			if !ok {
				now = "<unknown>"
			}
			all = append(all, fmt.Sprintf("%s: %s/%d%%", m.Resource.Name, now, *m.Resource.Target.AverageUtilization))
		}
	}
	return strings.ReplaceAll(orNone(all...), ",", ", ")
}

// AutoscalerFromV1 returns what an autoscaler of version v1 says in the words of v2, which can say more.
//
// In Kubernetes: every kind is converted between all of its versions through a hub.
func AutoscalerFromV1(sent *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	target := sent.Spec.ScaleTargetRef
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: sent.ObjectMeta, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: target.Kind, Name: target.Name, APIVersion: target.APIVersion},
		MinReplicas:    sent.Spec.MinReplicas, MaxReplicas: sent.Spec.MaxReplicas,
	}}
	if percent := sent.Spec.TargetCPUUtilizationPercentage; percent != nil {
		h.Spec.Metrics = cpuUtilization(*percent)
	}
	return h
}

// cpuUtilization asks for pods that use so many percent of the CPU that they ask for.
func cpuUtilization(percent int32) []autoscalingv2.MetricSpec {
	return []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name:   corev1.ResourceCPU,
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}}
}
