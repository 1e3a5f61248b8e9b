package api

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
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
		defaultTolerations(&p.Spec)
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

// DefaultTolerationSeconds is for how long a pod stays on a node that has fallen silent, unless it says otherwise itself. It
// is short, to be watched; in Kubernetes it is 300, and an admission plug-in sets it.
const DefaultTolerationSeconds = 30

func defaultTolerations(s *corev1.PodSpec) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		tolerates := func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
				(t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}
		if !slices.ContainsFunc(s.Tolerations, tolerates) {
			s.Tolerations = append(s.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists,
				Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(DefaultTolerationSeconds))})
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
	grace := ptr.Deref(s.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	checkContainers := func(containers []corev1.Container, path *field.Path) {
		for i := range containers {
			checkContainer(c, &containers[i], path.Index(i))
			checkProbes(c, &containers[i], grace, path.Index(i))
			checkMounts(c, containers[i].VolumeMounts, volumes, path.Index(i).Child("volumeMounts"))
			c.unique(path.Index(i).Child("name"), containers[i].Name, seen)
		}
	}
	checkContainers(s.InitContainers, path.Child("initContainers"))
	for i := range s.InitContainers {
		checkInitContainer(c, &s.InitContainers[i], path.Child("initContainers").Index(i))
	}
	checkContainers(s.Containers, path.Child("containers"))
	checkHostPorts(c, s, path.Child("containers"))
	oneOf(c, path.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOf(c, path.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	atLeast(c, path.Child("terminationGracePeriodSeconds"), 0, s.TerminationGracePeriodSeconds)
	if deadline := s.ActiveDeadlineSeconds; deadline != nil && (*deadline < 1 || *deadline > math.MaxInt32) {
		c.invalid(path.Child("activeDeadlineSeconds"), *deadline, validation.InclusiveRangeError(1, math.MaxInt32))
	}
	for i, gate := range s.ReadinessGates {
		c.name(path.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType), validation.IsQualifiedName)
	}
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
	if was, is := old.ActiveDeadlineSeconds, s.ActiveDeadlineSeconds; was != nil && (is == nil || *is > *was) {
		c.invalid(path.Child("activeDeadlineSeconds"), ptr.Deref(is, 0), fmt.Sprint("must be less than or equal to previous value ", *was))
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

// IsSidecar tells the init containers that go on beside the pod's containers from those that have to end (KEP-753).
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// PodRequests returns what the pod asks of a node: the sum of its containers and sidecars, or what an init container
// takes beside the sidecars before it, if that is more, for those run one after the other before the rest.
func PodRequests(p *corev1.Pod) (cpu, memory resource.Quantity) {
	return request(p, corev1.ResourceCPU), request(p, corev1.ResourceMemory)
}

func request(p *corev1.Pod, name corev1.ResourceName) (total resource.Quantity) {
	var beside, most resource.Quantity
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		taken := beside.DeepCopy()
		if taken.Add(c.Resources.Requests[name]); IsSidecar(c) {
			beside = taken
		}
		if taken.Cmp(most) > 0 {
			most = taken
		}
	}
	total = beside
	for _, c := range p.Spec.Containers {
		total.Add(c.Resources.Requests[name])
	}
	if most.Cmp(total) > 0 {
		return most
	}
	return total
}

// PodReady reports whether the pod's Ready condition is true.
func PodReady(p *corev1.Pod) bool {
	_, ready := PodReadySince(p)
	return ready
}

// PodReadySince returns since when it has been.
func PodReadySince(p *corev1.Pod) (since time.Time, ready bool) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
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
