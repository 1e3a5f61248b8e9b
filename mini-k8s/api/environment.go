package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func checkVariable(c *check, v *corev1.EnvVar, at *field.Path) {
	if v.ValueFrom == nil {
		return
	}
	if at = at.Child("valueFrom"); *v.ValueFrom == (corev1.EnvVarSource{}) {
		c.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`")
	} else if v.Value != "" {
		c.invalid(at, "", "may not be specified when `value` is not empty")
	}
}

// checkEnvFrom checks where a container has many variables from.
func checkEnvFrom(c *check, from *corev1.EnvFromSource, at *field.Path) {
	if (from.ConfigMapRef == nil) == (from.SecretRef == nil) {
		c.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
	}
}

// PodFields are those of a pod that a variable may be set from, beside its labels and annotations. They are known when
// the kubelet starts the container.
var PodFields = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

func checkFieldRef(c *check, ref *corev1.ObjectFieldSelector, at *field.Path) {
	path := ref.FieldPath
	entry := strings.HasSuffix(path, "']") && (strings.HasPrefix(path, "metadata.labels['") || strings.HasPrefix(path, "metadata.annotations['"))
	if path != "" && !entry {
		oneOf(c, at.Child("fieldPath"), path, PodFields...)
	}
}
