package api

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	validate: func(d, old *appsv1.Deployment) field.ErrorList {
		path := field.NewPath("spec")
		errs := validateWorkload(d.Spec.Replicas, d.Spec.Selector, &d.Spec.Template, path)
		if limit := d.Spec.RevisionHistoryLimit; limit != nil && *limit < 0 {
			errs = append(errs, field.Invalid(path.Child("revisionHistoryLimit"), *limit, "must be greater than or equal to 0"))
		}
		errs = append(errs, validateStrategy(&d.Spec.Strategy, path.Child("strategy"))...)
		if old != nil {
			errs = append(errs, validateSelectorUpdate(d.Spec.Selector, old.Spec.Selector, path)...)
		}
		return errs
	},
}

var replicaSets = behaviour[*appsv1.ReplicaSet]{
	columns: "Name Desired Current Ready Age Containers* Images* Selector*",
	cells:   replicaSetCells,
	defaults: func(rs *appsv1.ReplicaSet) {
		setDefaultPtr(&rs.Spec.Replicas, 1)
		defaultPodSpec(&rs.Spec.Template.Spec)
	},
	validate: func(rs, old *appsv1.ReplicaSet) field.ErrorList {
		path := field.NewPath("spec")
		errs := validateWorkload(rs.Spec.Replicas, rs.Spec.Selector, &rs.Spec.Template, path)
		if old != nil {
			errs = append(errs, validateSelectorUpdate(rs.Spec.Selector, old.Spec.Selector, path)...)
		}
		return errs
	},
}

// validateWorkload checks what Deployments and ReplicaSets have in common. A selector that does not match the
// template's own labels would have the controller make pods for ever, for it would never see them.
func validateWorkload(count *int32, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if count != nil && *count < 0 {
		errs = append(errs, field.Invalid(path.Child("replicas"), *count, "must be greater than or equal to 0"))
	}
	if selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(path.Child("selector"), selector, "empty selector is invalid for deployment"))
		}
		if parsed, err := metav1.LabelSelectorAsSelector(selector); err == nil && !parsed.Matches(labels.Set(template.Labels)) {
			errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
		}
	}
	errs = append(errs, metavalidation.ValidateLabels(template.Labels, path.Child("template", "metadata", "labels"))...)
	errs = append(errs, validatePodSpec(&template.Spec, path.Child("template", "spec"))...)
	if template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("template", "spec", "restartPolicy"), template.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("type"), s.Type, appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)
	if s.Type == appsv1.RecreateDeploymentStrategyType && s.RollingUpdate != nil {
		errs = append(errs, field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"))
	}
	if s.RollingUpdate == nil {
		return errs
	}
	values := map[string]int{}
	for name, value := range map[string]*intstr.IntOrString{"maxSurge": s.RollingUpdate.MaxSurge, "maxUnavailable": s.RollingUpdate.MaxUnavailable} {
		n, err := intstr.GetScaledValueFromIntOrPercent(value, 100, true)
		if err != nil || n < 0 {
			errs = append(errs, field.Invalid(path.Child("rollingUpdate", name), value.String(),
				"must be a non-negative number or a percentage (e.g. '1' or '25%')"))
		}
		values[name] = n
	}
	if len(errs) == 0 && values["maxSurge"] == 0 && values["maxUnavailable"] == 0 {
		errs = append(errs, field.Invalid(path.Child("rollingUpdate", "maxUnavailable"), s.RollingUpdate.MaxUnavailable.String(),
			"may not be 0 when `maxSurge` is 0"))
	}
	return errs
}

func validateSelectorUpdate(selector, old *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if equal(selector, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("selector"), selector, "field is immutable")}
}
