package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func defaultProbes(c *corev1.Container) {
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p == nil {
			continue
		}
		setDefault(&p.TimeoutSeconds, 1)
		setDefault(&p.PeriodSeconds, 10)
		setDefault(&p.SuccessThreshold, 1)
		setDefault(&p.FailureThreshold, 3)
		defaultHTTPGet(p.HTTPGet)
	}
	for _, hook := range hooksOf(c) {
		defaultHTTPGet(hook.HTTPGet)
	}
}

func defaultHTTPGet(get *corev1.HTTPGetAction) {
	if get != nil {
		setDefault(&get.Path, "/")
		setDefault(&get.Scheme, corev1.URISchemeHTTP)
	}
}

func hooksOf(c *corev1.Container) (hooks []*corev1.LifecycleHandler) {
	if c.Lifecycle != nil {
		hooks = []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop}
	}
	return slices.DeleteFunc(hooks, func(h *corev1.LifecycleHandler) bool { return h == nil })
}

// checkProbes checks the probes of a container, and its hooks; grace is how many seconds the pod has to stop.
func checkProbes(c *check, container *corev1.Container, grace int64, path *field.Path) {
	once := func(p *corev1.Probe, path *field.Path) {
		if checkProbe(c, p, path); p != nil && p.SuccessThreshold != 1 {
			c.invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")
		}
	}
	once(container.StartupProbe, path.Child("startupProbe"))
	once(container.LivenessProbe, path.Child("livenessProbe"))
	checkProbe(c, container.ReadinessProbe, path.Child("readinessProbe"))
	if p := container.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		c.invalid(path.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
	if container.Lifecycle != nil {
		checkHook(c, container.Lifecycle.PostStart, grace, path.Child("lifecycle", "postStart"))
		checkHook(c, container.Lifecycle.PreStop, grace, path.Child("lifecycle", "preStop"))
	}
}

func checkHook(c *check, hook *corev1.LifecycleHandler, grace int64, path *field.Path) {
	if hook == nil {
		return
	}
	if hook.TCPSocket != nil { // Kubernetes takes it, and fails whenever it is to be called
		c.add(field.Forbidden(path.Child("tcpSocket"), "hooks are called by exec, httpGet and sleep"))
	}
	checkHandler(c, corev1.ProbeHandler{Exec: hook.Exec, HTTPGet: hook.HTTPGet}, hook.Sleep != nil, path)
	if sleep := hook.Sleep; sleep != nil && (sleep.Seconds < 0 || sleep.Seconds > grace) {
		c.invalid(path.Child("sleep", "seconds"), sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace))
	}
}

func checkProbe(c *check, p *corev1.Probe, path *field.Path) {
	if p == nil {
		return
	}
	if p.GRPC != nil {
		c.add(field.Forbidden(path.Child("grpc"), "this version of mini-k8s probes by exec, httpGet and tcpSocket"))
	}
	checkHandler(c, p.ProbeHandler, p.GRPC != nil, path)
	atLeast(c, path.Child("initialDelaySeconds"), 0, &p.InitialDelaySeconds)
	atLeast(c, path.Child("timeoutSeconds"), 0, &p.TimeoutSeconds)
	atLeast(c, path.Child("periodSeconds"), 0, &p.PeriodSeconds)
	atLeast(c, path.Child("successThreshold"), 0, &p.SuccessThreshold)
	atLeast(c, path.Child("failureThreshold"), 0, &p.FailureThreshold)
	atLeast(c, path.Child("terminationGracePeriodSeconds"), 1, p.TerminationGracePeriodSeconds)
}

// checkHandler wants one way to ask, of those that are given and another one that is there or is not.
func checkHandler(c *check, h corev1.ProbeHandler, another bool, path *field.Path) {
	ways := 0
	for _, there := range []bool{h.Exec != nil, h.HTTPGet != nil, h.TCPSocket != nil, another} {
		if there {
			ways++
		}
	}
	if ways == 0 {
		c.add(field.Required(path, "must specify a handler type"))
	} else if ways > 1 {
		c.add(field.Forbidden(path, "may not specify more than 1 handler type"))
	}
	if h.Exec != nil {
		c.required(path.Child("exec", "command"), len(h.Exec.Command) > 0)
	}
	if get := h.HTTPGet; get != nil {
		path := path.Child("httpGet")
		c.checkPort(path.Child("port"), get.Port)
		oneOf(c, path.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
		for i, header := range get.HTTPHeaders {
			c.invalid(path.Child("httpHeaders").Index(i).Child("name"), header.Name, validation.IsHTTPHeaderName(header.Name)...)
		}
	}
	if h.TCPSocket != nil {
		c.checkPort(path.Child("tcpSocket", "port"), h.TCPSocket.Port)
	}
}

func (c *check) checkPort(path *field.Path, port intstr.IntOrString) {
	if port.Type == intstr.String {
		c.invalid(path, port.StrVal, validation.IsValidPortName(port.StrVal)...)
		return
	}
	c.port(path, port.IntVal)
}

// checkInitContainer refuses what makes sense only for one that goes on.
func checkInitContainer(c *check, container *corev1.Container, path *field.Path) {
	if container.RestartPolicy != nil {
		oneOf(c, path.Child("restartPolicy"), *container.RestartPolicy, corev1.ContainerRestartPolicyAlways)
		return
	}
	forbid := func(name string, set bool) {
		if set {
			c.add(field.Forbidden(path.Child(name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	forbid("lifecycle", container.Lifecycle != nil)
	forbid("startupProbe", container.StartupProbe != nil)
	forbid("livenessProbe", container.LivenessProbe != nil)
	forbid("readinessProbe", container.ReadinessProbe != nil)
}
