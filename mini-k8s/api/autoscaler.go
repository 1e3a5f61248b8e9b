package api

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var autoscalers = behaviour[*autoscalingv2.HorizontalPodAutoscaler]{
	columns: "Name Reference Targets MinPods MaxPods Replicas Age",
	cells: func(h *autoscalingv2.HorizontalPodAutoscaler) []any {
		reference := h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		return []any{h.Name, reference, autoscalerTargets(h), deref(h.Spec.MinReplicas, 1), h.Spec.MaxReplicas,
			h.Status.CurrentReplicas, age(h.CreationTimestamp)}
	},
	defaults: func(h *autoscalingv2.HorizontalPodAutoscaler) { setDefaultPtr(&h.Spec.MinReplicas, 1) },
	validate: func(c *check, h, old *autoscalingv2.HorizontalPodAutoscaler) {
		path := field.NewPath("spec")
		c.required(path.Child("scaleTargetRef", "kind"), h.Spec.ScaleTargetRef.Kind != "")
		c.required(path.Child("scaleTargetRef", "name"), h.Spec.ScaleTargetRef.Name != "")
		atLeast(c, path.Child("minReplicas"), 1, h.Spec.MinReplicas)
		if h.Spec.MaxReplicas < deref(h.Spec.MinReplicas, 1) {
			c.invalid(path.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`")
		}
	},
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
		cpu := &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: percent}}
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: cpu}}
	}
	return h
}
