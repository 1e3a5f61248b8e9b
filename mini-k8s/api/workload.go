package api

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var deployments = behaviour[*appsv1.Deployment]{
	columns: "Name Ready Up-to-date Available Age Containers* Images* Selector*",
	cells:   deploymentCells,
	defaults: func(d *appsv1.Deployment) {
		setDefaultPtr(&d.Spec.Replicas, 1)
		setDefaultPtr(&d.Spec.RevisionHistoryLimit, 10)
		setDefaultPtr(&d.Spec.ProgressDeadlineSeconds, 600)
		setDefault(&d.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
		if d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
			setDefaultPtr(&d.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
			setDefaultPtr(&d.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
			setDefaultPtr(&d.Spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		}
		defaultPodSpec(&d.Spec.Template.Spec)
	},
	validate: func(c *check, d, old *appsv1.Deployment) {
		path := field.NewPath("spec")
		checkWorkload(c, d.Spec.Replicas, d.Spec.MinReadySeconds, d.Spec.Selector, &d.Spec.Template, path)
		atLeast(c, path.Child("revisionHistoryLimit"), 0, d.Spec.RevisionHistoryLimit)
		if deadline := ptr.Deref(d.Spec.ProgressDeadlineSeconds, 0); deadline <= d.Spec.MinReadySeconds {
			c.invalid(path.Child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds")
		}
		checkStrategy(c, &d.Spec.Strategy, path.Child("strategy"))
		if old != nil {
			c.unchanged(path.Child("selector"), d.Spec.Selector, old.Spec.Selector)
		}
	},
}

var replicaSets = behaviour[*appsv1.ReplicaSet]{
	columns: "Name Desired Current Ready Age Containers* Images* Selector*",
	cells:   replicaSetCells,
	defaults: func(rs *appsv1.ReplicaSet) {
		setDefaultPtr(&rs.Spec.Replicas, 1)
		defaultPodSpec(&rs.Spec.Template.Spec)
	},
	validate: func(c *check, rs, old *appsv1.ReplicaSet) {
		path := field.NewPath("spec")
		checkWorkload(c, rs.Spec.Replicas, rs.Spec.MinReadySeconds, rs.Spec.Selector, &rs.Spec.Template, path)
		if old != nil {
			c.unchanged(path.Child("selector"), rs.Spec.Selector, old.Spec.Selector)
		}
	},
}

// checkWorkload checks what Deployments and ReplicaSets have in common. A selector that does not match the
// template's own labels would have the controller make pods for ever, for it would never see them.
func checkWorkload(c *check, replicas *int32, minReady int32, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, path *field.Path) {
	atLeast(c, path.Child("replicas"), 0, replicas)
	atLeast(c, path.Child("minReadySeconds"), 0, &minReady)
	at, labelsAt := path.Child("selector"), path.Child("template", "metadata", "labels")
	if c.required(at, selector != nil); selector != nil {
		c.add(metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, at)...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			c.invalid(at, selector, "empty selector is invalid for deployment")
		}
		if parsed, err := metav1.LabelSelectorAsSelector(selector); err == nil && !parsed.Matches(labels.Set(template.Labels)) {
			c.invalid(labelsAt, template.Labels, "`selector` does not match template `labels`")
		}
	}
	c.add(metavalidation.ValidateLabels(template.Labels, labelsAt)...)
	c.add(apivalidation.ValidateAnnotations(template.Annotations, path.Child("template", "metadata", "annotations"))...)
	checkPodSpec(c, &template.Spec, path.Child("template", "spec"))
	oneOf(c, path.Child("template", "spec", "restartPolicy"), template.Spec.RestartPolicy, corev1.RestartPolicyAlways)
	if template.Spec.ActiveDeadlineSeconds != nil {
		c.add(field.Forbidden(path.Child("template", "spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
}

func checkStrategy(c *check, s *appsv1.DeploymentStrategy, path *field.Path) {
	oneOf(c, path.Child("type"), s.Type, appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)
	if s.RollingUpdate == nil {
		return
	}
	path = path.Child("rollingUpdate")
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		c.add(field.Forbidden(path, "may not be specified when strategy `type` is 'Recreate'"))
	}
	bound := func(name string, value *intstr.IntOrString) (none bool) {
		n, err := intstr.GetScaledValueFromIntOrPercent(value, 100, true)
		if err != nil || n < 0 {
			c.invalid(path.Child(name), value.String(), "must be a non-negative number or a percentage (e.g. '1' or '25%')")
		} else if name == "maxUnavailable" && value.Type == intstr.String && n > 100 {
			c.invalid(path.Child(name), value.String(), "must not be greater than 100%")
		}
		return err == nil && n == 0
	}
	noSurge, noneMissing := bound("maxSurge", s.RollingUpdate.MaxSurge), bound("maxUnavailable", s.RollingUpdate.MaxUnavailable)
	if noSurge && noneMissing {
		c.invalid(path.Child("maxUnavailable"), s.RollingUpdate.MaxUnavailable.String(), "may not be 0 when `maxSurge` is 0")
	}
}
