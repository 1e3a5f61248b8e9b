package api

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func checkHook(c *check, hook *corev1.LifecycleHandler, at *field.Path) {
	if hook.TCPSocket != nil { // Kubernetes takes it, and fails whenever it is to be called
		c.add(field.Forbidden(at.Child("tcpSocket"), "hooks are called by exec, httpGet and sleep"))
	}
	c.oneWay(at, hook.Exec != nil, hook.HTTPGet != nil, hook.Sleep != nil)
}

func checkProbe(c *check, p *corev1.Probe, at *field.Path) {
	if p.GRPC != nil {
		c.add(field.Forbidden(at.Child("grpc"), "this version of mini-k8s probes by exec, httpGet and tcpSocket"))
	}
	c.oneWay(at, p.Exec != nil, p.HTTPGet != nil, p.TCPSocket != nil, p.GRPC != nil)
}

// oneWay wants one way to ask to be there.
func (c *check) oneWay(at *field.Path, there ...bool) {
	there = slices.DeleteFunc(there, func(is bool) bool { return !is })
	if len(there) == 0 {
		c.add(field.Required(at, "must specify a handler type"))
	} else if len(there) > 1 {
		c.add(field.Forbidden(at, "may not specify more than 1 handler type"))
	}
}

// checkInitContainer refuses what makes sense only for one that goes on.
func checkInitContainer(c *check, container *corev1.Container, path *field.Path) {
	if container.RestartPolicy != nil {
		oneOf(c, path.Child("restartPolicy"), *container.RestartPolicy, corev1.ContainerRestartPolicyAlways)
		return
	}
	for name, set := range map[string]bool{"lifecycle": container.Lifecycle != nil, "startupProbe": container.StartupProbe != nil,
		"livenessProbe": container.LivenessProbe != nil, "readinessProbe": container.ReadinessProbe != nil} {
		if set {
			c.add(field.Forbidden(path.Child(name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
}
