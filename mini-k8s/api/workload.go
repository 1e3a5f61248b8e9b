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
	update: func(c *check, d, old *appsv1.Deployment) {
		c.unchanged(field.NewPath("spec", "selector"), d.Spec.Selector, old.Spec.Selector)
	},
}

var replicaSets = behaviour[*appsv1.ReplicaSet]{
	columns: "Name Desired Current Ready Age Containers* Images* Selector*",
	cells:   replicaSetCells,
	update: func(c *check, rs, old *appsv1.ReplicaSet) {
		c.unchanged(field.NewPath("spec", "selector"), rs.Spec.Selector, old.Spec.Selector)
	},
}

func checkDeployment(c *check, s *appsv1.DeploymentSpec, at *field.Path) {
	if deadline := ptr.Deref(s.ProgressDeadlineSeconds, 0); deadline <= s.MinReadySeconds {
		c.invalid(at.Child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds")
	}
	checkSelector(c, s.Selector, s.Template.Labels, at)
}

func checkReplicaSet(c *check, s *appsv1.ReplicaSetSpec, at *field.Path) {
	checkSelector(c, s.Selector, s.Template.Labels, at)
}

// checkSelector refuses one that does not match the template's own labels: the controller would make pods for ever, for it
// would never see them.
func checkSelector(c *check, selector *metav1.LabelSelector, own labels.Set, at *field.Path) {
	if c.required(at.Child("selector"), selector != nil); selector == nil {
		return
	}
	c.add(metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		c.invalid(at.Child("selector"), selector, "empty selector is invalid for deployment")
	}
	if parsed, err := metav1.LabelSelectorAsSelector(selector); err == nil && !parsed.Matches(own) {
		c.invalid(at.Child("template", "metadata", "labels"), own, "`selector` does not match template `labels`")
	}
}

func checkTemplate(c *check, t *corev1.PodTemplateSpec, at *field.Path) {
	c.add(metavalidation.ValidateLabels(t.Labels, at.Child("metadata", "labels"))...)
	c.add(apivalidation.ValidateAnnotations(t.Annotations, at.Child("metadata", "annotations"))...)
	oneOf(c, at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, corev1.RestartPolicyAlways)
	if t.Spec.ActiveDeadlineSeconds != nil {
		c.add(field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
}

func defaultStrategy(s *appsv1.DeploymentStrategy) {
	if s.Type != appsv1.RecreateDeploymentStrategyType {
		setDefaultPtr(&s.RollingUpdate, appsv1.RollingUpdateDeployment{})
	}
}

func checkStrategy(c *check, s *appsv1.DeploymentStrategy, at *field.Path) {
	if s.RollingUpdate != nil && s.Type == appsv1.RecreateDeploymentStrategyType {
		c.add(field.Forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"))
	}
}

func checkRollingUpdate(c *check, r *appsv1.RollingUpdateDeployment, at *field.Path) {
	bound := func(name string, value *intstr.IntOrString) (none bool) {
		n, err := intstr.GetScaledValueFromIntOrPercent(value, 100, true)
		if err != nil || n < 0 {
			c.invalid(at.Child(name), value.String(), "must be a non-negative number or a percentage (e.g. '1' or '25%')")
		} else if name == "maxUnavailable" && value.Type == intstr.String && n > 100 {
			c.invalid(at.Child(name), value.String(), "must not be greater than 100%")
		}
		return err == nil && n == 0
	}
	noSurge, noneMissing := bound("maxSurge", r.MaxSurge), bound("maxUnavailable", r.MaxUnavailable)
	if noSurge && noneMissing {
		c.invalid(at.Child("maxUnavailable"), r.MaxUnavailable.String(), "may not be 0 when `maxSurge` is 0")
	}
}
