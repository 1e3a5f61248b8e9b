package api

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var pods = behaviour[*corev1.Pod]{
	columns: "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
	cells:   podCells,
	defaults: func(p *corev1.Pod) {
		defaultPodSpec(&p.Spec)
		setDefault(&p.Status.Phase, corev1.PodPending)
		setDefault(&p.Status.QOSClass, qosClass(&p.Spec))
	},
	validate: func(c *check, p, old *corev1.Pod) {
		if old != nil {
			checkPodUpdate(c, &p.Spec, &old.Spec)
		} else {
			checkPodSpec(c, &p.Spec, field.NewPath("spec"))
		}
	},
	fields: func(p *corev1.Pod) map[string]string {
		return map[string]string{
			"spec.nodeName":      p.Spec.NodeName,
			"spec.restartPolicy": string(p.Spec.RestartPolicy),
			"status.phase":       string(p.Status.Phase),
			"status.podIP":       p.Status.PodIP,
		}
	},
}

func defaultPodSpec(s *corev1.PodSpec) {
	setDefault(&s.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&s.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&s.SchedulerName, corev1.DefaultSchedulerName)
	setDefaultPtr(&s.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	setDefaultPtr(&s.SecurityContext, corev1.PodSecurityContext{})
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			defaultContainer(&containers[i])
		}
	}
}

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		if imageTag(c.Image) == "latest" {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			setDefault(&from.FieldRef.APIVersion, "v1")
		}
	}
	// A limit without a request is the request as well.
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			if c.Resources.Requests == nil {
				c.Resources.Requests = corev1.ResourceList{}
			}
			c.Resources.Requests[name] = limit
		}
	}
}

// imageTag returns the tag of an image reference, "latest" if it has none, and "" if it names a digest.
func imageTag(image string) string {
	if strings.Contains(image, "@") {
		return ""
	}
	name := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok {
		return tag
	}
	return "latest"
}

// qosClass tells how the kernel treats the pod when memory runs out: Guaranteed pods go last, BestEffort first.
func qosClass(s *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, bestEffort := true, true
	for _, c := range s.Containers {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				bestEffort = false
			}
			if limit.IsZero() || request.Cmp(limit) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case bestEffort:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func checkPodSpec(c *check, s *corev1.PodSpec, path *field.Path) {
	c.required(path.Child("containers"), len(s.Containers) > 0)
	seen := map[string]bool{}
	checkContainers := func(containers []corev1.Container, path *field.Path) {
		for i := range containers {
			checkContainer(c, &containers[i], path.Index(i))
			if name := containers[i].Name; seen[name] {
				c.add(field.Duplicate(path.Index(i).Child("name"), name))
			}
			seen[containers[i].Name] = true
		}
	}
	checkContainers(s.InitContainers, path.Child("initContainers"))
	checkContainers(s.Containers, path.Child("containers"))
	oneOf(c, path.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	atLeast(c, path.Child("terminationGracePeriodSeconds"), 0, s.TerminationGracePeriodSeconds)
	if s.NodeName != "" {
		c.name(path.Child("nodeName"), s.NodeName, validation.IsDNS1123Subdomain)
	}
}

func checkContainer(c *check, container *corev1.Container, path *field.Path) {
	c.name(path.Child("name"), container.Name, validation.IsDNS1123Label)
	image := strings.TrimSpace(container.Image)
	if c.required(path.Child("image"), image != ""); image != "" && image != container.Image {
		c.invalid(path.Child("image"), container.Image, "must not have leading or trailing whitespace")
	}
	oneOf(c, path.Child("imagePullPolicy"), container.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	for i, port := range container.Ports {
		at := path.Child("ports").Index(i)
		c.port(at.Child("containerPort"), port.ContainerPort)
		if port.HostPort != 0 {
			c.port(at.Child("hostPort"), port.HostPort)
		}
		oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
	for i, env := range container.Env {
		at := path.Child("env").Index(i)
		c.name(at.Child("name"), env.Name, validation.IsEnvVarName)
		if env.Value != "" && env.ValueFrom != nil {
			c.invalid(at.Child("valueFrom"), "", "may not be specified when `value` is not empty")
		}
	}
	checkResources(c, container.Resources, path.Child("resources"))
}

func checkResources(c *check, r corev1.ResourceRequirements, path *field.Path) {
	for list, quantities := range map[string]corev1.ResourceList{"limits": r.Limits, "requests": r.Requests} {
		for name, quantity := range quantities {
			if quantity.Sign() < 0 {
				c.invalid(path.Child(list).Key(string(name)), quantity.String(), "must be greater than or equal to 0")
			}
		}
	}
	for name, request := range r.Requests {
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			c.invalid(path.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		}
	}
}

// checkPodUpdate refuses changes to what the kubelet cannot change in a pod that may be running: all but the
// images, tolerations that are added and the deadline.
func checkPodUpdate(c *check, s, old *corev1.PodSpec) {
	allowed := s.DeepCopy()
	for _, lists := range [][2][]corev1.Container{{allowed.Containers, old.Containers}, {allowed.InitContainers, old.InitContainers}} {
		for i := range lists[0] {
			if i < len(lists[1]) && lists[0][i].Image != "" {
				lists[0][i].Image = lists[1][i].Image
			}
		}
	}
	allowed.ActiveDeadlineSeconds, allowed.Tolerations = old.ActiveDeadlineSeconds, old.Tolerations
	allowed.TerminationGracePeriodSeconds = old.TerminationGracePeriodSeconds
	if !equal(allowed, old) {
		c.add(field.Forbidden(field.NewPath("spec"), "pod updates may not change fields other than `spec.containers[*].image`, "+
			"`spec.initContainers[*].image`, `spec.activeDeadlineSeconds` and `spec.tolerations` (only additions)"))
	}
}

// PodRequests returns what the pod asks of a node: the sum of its containers, or an init container's if that is
// more, for they run one after the other before the rest.
func PodRequests(p *corev1.Pod) (cpu, memory resource.Quantity) {
	for _, c := range p.Spec.Containers {
		cpu.Add(*c.Resources.Requests.Cpu())
		memory.Add(*c.Resources.Requests.Memory())
	}
	for _, c := range p.Spec.InitContainers {
		if q := c.Resources.Requests.Cpu(); q.Cmp(cpu) > 0 {
			cpu = *q
		}
		if q := c.Resources.Requests.Memory(); q.Cmp(memory) > 0 {
			memory = *q
		}
	}
	return cpu, memory
}

// PodReady reports whether the pod's Ready condition is true.
func PodReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// SetPodCondition puts a condition in the place of the one of its type. Its transition time stays if its status does.
func SetPodCondition(p *corev1.Pod, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now().Rfc3339Copy()
	for i, old := range p.Status.Conditions {
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			p.Status.Conditions[i] = c
			return
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, c)
}

// PodFinished reports whether the pod has run to its end: it takes no resources and never comes back.
func PodFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
