package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var pods = behaviour[*corev1.Pod]{
	columns: "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
	cells:   podCells,
	update: func(c *check, p, old *corev1.Pod) {
		checkPodUpdate(c, &p.Spec, &old.Spec, field.NewPath("spec"))
	},
	fields: "spec.nodeName spec.restartPolicy status.phase status.podIP",
}

// defaultPod fills in what is of a pod alone and of no template. In Kubernetes an admission plug-in does this.
func defaultPod(p *corev1.Pod) {
	s := &p.Spec
	s.ServiceAccountName = cmp.Or(s.ServiceAccountName, s.DeprecatedServiceAccount, "default")
	s.DeprecatedServiceAccount = s.ServiceAccountName // two names of one field
	for _, c := range s.Containers {
		for i := 0; i < len(c.Ports) && s.HostNetwork; i++ {
			setDefault(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
		}
	}
	defaultTolerations(s)
	setDefault(&p.Status.QOSClass, qosClass(s))
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
			limit := c.Resources.Limits[name]
			request, asked := c.Resources.Requests[name]
			if !asked {
				request = limit
			}
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

func checkPodSpec(c *check, s *corev1.PodSpec, at *field.Path) {
	c.add(metavalidation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
	volumes, names := map[string]bool{}, map[string]bool{}
	for i, v := range s.Volumes {
		c.unique(at.Child("volumes").Index(i).Child("name"), v.Name, volumes)
	}
	checkContainers := func(containers []corev1.Container, at *field.Path) {
		for i, container := range containers {
			c.unique(at.Index(i).Child("name"), container.Name, names)
			for j, m := range container.VolumeMounts {
				if m.Name != "" && !volumes[m.Name] {
					c.add(field.NotFound(at.Index(i).Child("volumeMounts").Index(j).Child("name"), m.Name))
				}
			}
		}
	}
	checkContainers(s.InitContainers, at.Child("initContainers"))
	checkContainers(s.Containers, at.Child("containers"))
	for i := range s.InitContainers {
		checkInitContainer(c, &s.InitContainers[i], at.Child("initContainers").Index(i))
	}
	checkHostPorts(c, s, at.Child("containers"))
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

func checkToleration(c *check, t *corev1.Toleration, at *field.Path) {
	if t.Operator != corev1.TolerationOpExists && t.Key == "" {
		c.invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
	}
	if t.Operator == corev1.TolerationOpExists && t.Value != "" {
		c.invalid(at.Child("value"), t.Value, "value must be empty when `operator` is 'Exists'")
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		c.invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
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
