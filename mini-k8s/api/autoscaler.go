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
	defaults: func(h *autoscalingv2.HorizontalPodAutoscaler) {
		setDefaultPtr(&h.Spec.MinReplicas, 1)
		if len(h.Spec.Metrics) == 0 {
			h.Spec.Metrics = cpuUtilization(80)
		}
		if h.Spec.Behavior != nil {
			DefaultScaling(h.Spec.Behavior)
		}
	},
	validate: func(c *check, h, old *autoscalingv2.HorizontalPodAutoscaler) {
		path := field.NewPath("spec")
		c.required(path.Child("scaleTargetRef", "kind"), h.Spec.ScaleTargetRef.Kind != "")
		c.required(path.Child("scaleTargetRef", "name"), h.Spec.ScaleTargetRef.Name != "")
		atLeast(c, path.Child("minReplicas"), 1, h.Spec.MinReplicas)
		if h.Spec.MaxReplicas < ptr.Deref(h.Spec.MinReplicas, 1) {
			c.invalid(path.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`")
		}
		if kind := h.Spec.ScaleTargetRef.Kind; kind != "" {
			oneOf(c, path.Child("scaleTargetRef", "kind"), kind, "Deployment", "ReplicaSet")
		}
		for i, metric := range h.Spec.Metrics {
			checkMetric(c, metric, path.Child("metrics").Index(i))
		}
		if b := h.Spec.Behavior; b != nil {
			checkScaling(c, b.ScaleUp, path.Child("behavior", "scaleUp"))
			checkScaling(c, b.ScaleDown, path.Child("behavior", "scaleDown"))
		}
	},
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
	if b.ScaleUp.Policies == nil {
		b.ScaleUp.Policies = []autoscalingv2.HPAScalingPolicy{four, double}
	}
	if b.ScaleDown.Policies == nil {
		b.ScaleDown.Policies = []autoscalingv2.HPAScalingPolicy{double}
	}
}

// checkMetric lets CPU and memory of pods through: nothing else is measured.
func checkMetric(c *check, m autoscalingv2.MetricSpec, path *field.Path) {
	oneOf(c, path.Child("type"), m.Type, autoscalingv2.ResourceMetricSourceType)
	for _, other := range []struct {
		name string
		set  bool
	}{{"object", m.Object != nil}, {"pods", m.Pods != nil},
		{"containerResource", m.ContainerResource != nil}, {"external", m.External != nil}} {
		if other.set {
			c.add(field.Forbidden(path.Child(other.name), "only CPU and memory of whole pods are measured here: use `resource`"))
		}
	}
	if c.required(path.Child("resource"), m.Resource != nil); m.Resource == nil {
		return
	}
	path = path.Child("resource")
	oneOf(c, path.Child("name"), m.Resource.Name, corev1.ResourceCPU, corev1.ResourceMemory)
	t, at := m.Resource.Target, path.Child("target")
	oneOf(c, at.Child("type"), t.Type, autoscalingv2.UtilizationMetricType, autoscalingv2.AverageValueMetricType)
	if (t.AverageUtilization == nil) == (t.AverageValue == nil) {
		c.invalid(at, "", "must set one of averageUtilization and averageValue, as its type says")
	}
	if t.AverageUtilization != nil {
		atLeast(c, at.Child("averageUtilization"), 1, t.AverageUtilization)
	}
	if t.AverageValue != nil && t.AverageValue.Sign() <= 0 {
		c.invalid(at.Child("averageValue"), t.AverageValue.String(), "must be positive")
	}
}

func checkScaling(c *check, rules *autoscalingv2.HPAScalingRules, path *field.Path) {
	if rules == nil {
		return
	}
	if window := ptr.Deref(rules.StabilizationWindowSeconds, 0); window < 0 || window > 3600 {
		c.invalid(path.Child("stabilizationWindowSeconds"), window, "must be between 0 and 3600")
	}
	oneOf(c, path.Child("selectPolicy"), ptr.Deref(rules.SelectPolicy, autoscalingv2.MaxChangePolicySelect),
		autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
	if rules.Policies != nil && len(rules.Policies) == 0 {
		c.required(path.Child("policies"), false)
	}
	for i, policy := range rules.Policies {
		at := path.Child("policies").Index(i)
		oneOf(c, at.Child("type"), policy.Type, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)
		atLeast(c, at.Child("value"), 1, &policy.Value)
		if policy.PeriodSeconds < 1 || policy.PeriodSeconds > 1800 {
			c.invalid(at.Child("periodSeconds"), policy.PeriodSeconds, "must be between 1 and 1800")
		}
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
