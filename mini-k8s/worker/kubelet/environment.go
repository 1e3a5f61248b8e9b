package kubelet

import (
	"fmt"
	"regexp"
	"strings"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// specOf returns what the runtime is to start. In the environment, references to the pod's own fields are resolved (the
// downward API), and $(NAME) is replaced by the variable of that name if it stands before; in the command and its
// arguments by any.
func specOf(pod *corev1.Pod, c *corev1.Container, attempt int, podIP, hostIP string) (runtime.ContainerSpec, error) {
	spec := runtime.ContainerSpec{Name: c.Name, Image: c.Image, Attempt: attempt, WorkingDir: c.WorkingDir, Resources: c.Resources,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce}
	known := map[string]string{}
	for _, v := range c.Env {
		value := expand(v.Value, known)
		if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
			var err error
			if value, err = fieldOf(pod, v.ValueFrom.FieldRef.FieldPath, podIP, hostIP); err != nil {
				return spec, fmt.Errorf("env %s: %w", v.Name, err)
			}
		}
		known[v.Name] = value
		spec.Env = append(spec.Env, v.Name+"="+value)
	}
	for _, word := range c.Command {
		spec.Command = append(spec.Command, expand(word, known))
	}
	for _, word := range c.Args {
		spec.Args = append(spec.Args, expand(word, known))
	}
	return spec, nil
}

// fieldOf returns what a fieldRef may ask for.
func fieldOf(pod *corev1.Pod, path, podIP, hostIP string) (string, error) {
	fields := map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "metadata.uid": string(pod.UID),
		"spec.nodeName": pod.Spec.NodeName, "spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.podIP": podIP, "status.podIPs": podIP, "status.hostIP": hostIP, "status.hostIPs": hostIP,
	}
	if value, ok := fields[path]; ok {
		return value, nil
	}
	for prefix, set := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix); ok && strings.HasSuffix(key, "']") {
			return set[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("fieldRef: %q cannot be referred to", path)
}

var reference = regexp.MustCompile(`\$\$|\$\(([^)]*)\)`)

// expand replaces $(NAME) where the name is known, and $$ by a single one.
func expand(text string, known map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, ok := known[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}
