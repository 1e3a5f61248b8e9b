package api

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func checkEnv(c *check, container *corev1.Container, path *field.Path) {
	for i, env := range container.Env {
		at := path.Child("env").Index(i)
		c.name(at.Child("name"), env.Name, validation.IsRelaxedEnvVarName)
		if env.ValueFrom != nil {
			checkEnvSource(c, env, at.Child("valueFrom"))
		}
	}
	checkEnvFrom(c, container.EnvFrom, path.Child("envFrom"))
}

// PodFields are those of a pod that a variable may be set from, beside its labels and annotations. They are known when
// the kubelet starts the container.
var PodFields = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

func checkEnvSource(c *check, env corev1.EnvVar, path *field.Path) {
	from := env.ValueFrom
	if *from == (corev1.EnvVarSource{}) {
		c.invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`")
	} else if env.Value != "" {
		c.invalid(path, "", "may not be specified when `value` is not empty")
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		checkKeyRef(c, ref.Name, ref.Key, path.Child("configMapKeyRef"))
	}
	if ref := from.SecretKeyRef; ref != nil {
		checkKeyRef(c, ref.Name, ref.Key, path.Child("secretKeyRef"))
	}
	if ref := from.ResourceFieldRef; ref != nil {
		checkResourceRef(c, ref, path.Child("resourceFieldRef"))
	}
	if from.FieldRef == nil {
		return
	}
	at, name := path.Child("fieldRef", "fieldPath"), from.FieldRef.FieldPath
	entry := strings.HasSuffix(name, "']") && (strings.HasPrefix(name, "metadata.labels['") || strings.HasPrefix(name, "metadata.annotations['"))
	if c.required(at, name != ""); name != "" && !entry {
		oneOf(c, at, name, PodFields...)
	}
}

// checkEnvFrom checks where a container has many variables from.
func checkEnvFrom(c *check, sources []corev1.EnvFromSource, path *field.Path) {
	for i, from := range sources {
		at := path.Index(i)
		c.nameIfSet(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName)
		switch {
		case (from.ConfigMapRef == nil) == (from.SecretRef == nil):
			c.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
		case from.ConfigMapRef != nil:
			c.required(at.Child("configMapRef", "name"), from.ConfigMapRef.Name != "")
		default:
			c.required(at.Child("secretRef", "name"), from.SecretRef.Name != "")
		}
	}
}

// divisors are the units in which a variable may tell of a resource.
var divisors = map[corev1.ResourceName][]string{
	corev1.ResourceCPU:    {"0", "1m", "1"},
	corev1.ResourceMemory: {"0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
}

func checkResourceRef(c *check, ref *corev1.ResourceFieldSelector, at *field.Path) {
	oneOf(c, at.Child("resource"), ref.Resource, "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
	_, name, _ := strings.Cut(ref.Resource, ".")
	if units := divisors[corev1.ResourceName(name)]; units != nil && !slices.Contains(units, ref.Divisor.String()) {
		c.invalid(at.Child("divisor"), ref.Divisor.String(),
			fmt.Sprintf("only divisor's values %s are supported with the %s resource", strings.Join(units[1:], ", "), name))
	}
}

func checkKeyRef(c *check, name, key string, at *field.Path) {
	c.required(at.Child("name"), name != "")
	c.name(at.Child("key"), key, validation.IsConfigMapKey)
}
