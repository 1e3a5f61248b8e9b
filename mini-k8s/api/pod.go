package api

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var pods = behaviour[*corev1.Pod]{
	columns: "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
	cells:   podCells,
	defaults: func(p *corev1.Pod) {
		// Two names of one field. In Kubernetes an admission plug-in does this.
		p.Spec.ServiceAccountName = cmp.Or(p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount, "default")
		p.Spec.DeprecatedServiceAccount = p.Spec.ServiceAccountName
		for _, c := range p.Spec.Containers {
			for i := range c.Ports {
				if port := &c.Ports[i]; p.Spec.HostNetwork {
					setDefault(&port.HostPort, port.ContainerPort)
				}
			}
		}
		defaultPodSpec(&p.Spec)
		setDefault(&p.Status.Phase, corev1.PodPending)
		setDefault(&p.Status.QOSClass, qosClass(&p.Spec))
	},
	validate: func(c *check, p, old *corev1.Pod) {
		path := field.NewPath("spec")
		if old == nil || !equal(p.Spec, old.Spec) { // most updates are of the status
			checkPodSpec(c, &p.Spec, path)
		}
		if old != nil {
			checkPodUpdate(c, &p.Spec, &old.Spec, path)
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
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			defaultContainer(&containers[i])
		}
	}
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
	volumes := map[string]bool{}
	for i, v := range s.Volumes {
		checkVolume(c, v, path.Child("volumes").Index(i))
		c.unique(path.Child("volumes").Index(i).Child("name"), v.Name, volumes)
	}
	checkPodRights(c, s.SecurityContext, path.Child("securityContext"))
	seen := map[string]bool{}
	checkContainers := func(containers []corev1.Container, path *field.Path) {
		for i := range containers {
			checkContainer(c, &containers[i], path.Index(i))
			checkMounts(c, containers[i].VolumeMounts, volumes, path.Index(i).Child("volumeMounts"))
			c.unique(path.Index(i).Child("name"), containers[i].Name, seen)
		}
	}
	checkContainers(s.InitContainers, path.Child("initContainers"))
	checkContainers(s.Containers, path.Child("containers"))
	checkHostPorts(c, s, path.Child("containers"))
	oneOf(c, path.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOf(c, path.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	atLeast(c, path.Child("terminationGracePeriodSeconds"), 0, s.TerminationGracePeriodSeconds)
	c.nameIfSet(path.Child("nodeName"), s.NodeName, validation.IsDNS1123Subdomain)
	c.nameIfSet(path.Child("hostname"), s.Hostname, validation.IsDNS1123Label)
	c.nameIfSet(path.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain)
	c.add(metavalidation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	for i, toleration := range s.Tolerations {
		checkToleration(c, toleration, path.Child("tolerations").Index(i))
	}
}

// checkHostPorts refuses what the node has only once.
func checkHostPorts(c *check, s *corev1.PodSpec, path *field.Path) {
	taken := map[string]bool{}
	for i, container := range s.Containers {
		for j, port := range container.Ports {
			at := path.Index(i).Child("ports").Index(j).Child("hostPort")
			if port.HostPort == 0 {
				continue
			}
			if s.HostNetwork && port.HostPort != port.ContainerPort {
				c.invalid(at, port.HostPort, "must match `containerPort` when `hostNetwork` is true")
			}
			c.unique(at, fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort), taken)
		}
	}
}

func checkToleration(c *check, t corev1.Toleration, path *field.Path) {
	if t.Operator != corev1.TolerationOpExists && t.Key == "" {
		c.invalid(path.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	}
	c.nameIfSet(path.Child("key"), t.Key, validation.IsQualifiedName)
	c.nameIfSet(path.Child("value"), t.Value, validation.IsValidLabelValue)
	oneOf(c, path.Child("operator"), cmp.Or(t.Operator, corev1.TolerationOpEqual), corev1.TolerationOpEqual, corev1.TolerationOpExists)
	if t.Operator == corev1.TolerationOpExists && t.Value != "" {
		c.invalid(path.Child("value"), t.Value, "value must be empty when `operator` is 'Exists'")
	}
	if t.Effect != "" {
		oneOf(c, path.Child("effect"), t.Effect, taintEffects...)
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		c.invalid(path.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
	}
}

// checkPodUpdate refuses changes to what the kubelet cannot change in a pod that may be running: all but the
// images, tolerations that are added and the deadline.
func checkPodUpdate(c *check, s, old *corev1.PodSpec, path *field.Path) {
	for _, t := range old.Tolerations {
		if !slices.ContainsFunc(s.Tolerations, func(now corev1.Toleration) bool { return now.MatchToleration(&t) }) {
			c.add(field.Forbidden(path.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds"))
			break
		}
	}
	allowed := s.DeepCopy()
	for _, lists := range [][2][]corev1.Container{{allowed.Containers, old.Containers}, {allowed.InitContainers, old.InitContainers}} {
		for i := range min(len(lists[0]), len(lists[1])) {
			lists[0][i].Image = lists[1][i].Image
		}
	}
	allowed.ActiveDeadlineSeconds, allowed.Tolerations = old.ActiveDeadlineSeconds, old.Tolerations
	if !equal(allowed, old) {
		c.add(field.Forbidden(path, "pod updates may not change fields other than `spec.containers[*].image`,"+
			"`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations)"))
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
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// SetPodCondition puts a condition in the place of the one of its type. Its transition time stays if its status does.
func SetPodCondition(p *corev1.Pod, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now().Rfc3339Copy()
	i := slices.IndexFunc(p.Status.Conditions, func(old corev1.PodCondition) bool { return old.Type == c.Type })
	if i < 0 {
		p.Status.Conditions = append(p.Status.Conditions, c)
		return
	}
	if old := p.Status.Conditions[i]; old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	p.Status.Conditions[i] = c
}

// PodFinished reports whether the pod has run to its end: it takes no resources and never comes back.
func PodFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
