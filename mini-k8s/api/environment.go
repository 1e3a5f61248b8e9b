package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func checkVariable(c *check, v *corev1.EnvVar, at *field.Path) {
	if v.ValueFrom != nil && v.Value != "" {
		c.invalid(at.Child("valueFrom"), "", "may not be specified when `value` is not empty")
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
