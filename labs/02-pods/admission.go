package kubelet

// Which pods a node runs: what it has room for. The scheduler sees to it that there is room; who
// binds a pod by hand does not.

import (
	"fmt"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

// refusal is why a node does not run a pod.
type refusal struct{ reason, message string }

// admit lets a pod in, or says why not. One that has a start time was let in before, by this kubelet or another.
func (k *Kubelet) admit(pod *corev1.Pod, m *memory) refusal {
	k.admission.Lock()
	defer k.admission.Unlock()
	isIn := func(p *corev1.Pod) bool {
		remembered, known := k.memory.Load(p.UID)
		return p.Status.StartTime != nil || known && remembered.(*memory).admitted
	}
	if k.room == nil || isIn(pod) || pod.DeletionTimestamp != nil {
		return refusal{}
	}
	var others []*corev1.Pod
	for _, p := range k.all() {
		if p.UID != pod.UID && isIn(p) && !api.PodFinished(p) {
			others = append(others, p)
		}
	}
	r := refusalOf(pod, others, k.room)
	m.admitted = r.reason == ""
	return r
}

// refusalOf says why there is no room for a pod beside others, nothing if there is.
func refusalOf(pod *corev1.Pod, others []*corev1.Pod, room corev1.ResourceList) refusal {
	wanted, used := requestsOf(pod), requestsOf(others...)
	for _, name := range []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory} {
		quantity := room[name]
		capacity := quantity.Value()
		if name == corev1.ResourceCPU {
			capacity = quantity.MilliValue()
		}
		if wanted[name] > 0 && used[name]+wanted[name] > capacity {
			return refusal{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
				name, wanted[name], used[name], capacity)}
		}
	}
	return refusal{}
}

// requestsOf returns what pods ask of a node, of CPUs in thousandths.
func requestsOf(pods ...*corev1.Pod) map[corev1.ResourceName]int64 {
	sum := map[corev1.ResourceName]int64{corev1.ResourcePods: int64(len(pods))}
	for _, p := range pods {
		cpu, memory := api.PodRequests(p)
		sum[corev1.ResourceCPU] += cpu.MilliValue()
		sum[corev1.ResourceMemory] += memory.Value()
	}
	return sum
}

// refusedBefore returns why the pod has to end, whatever its containers do, nothing if it has not: the node has refused it,
// or its status says so already.
func refusedBefore(pod *corev1.Pod, m *memory) refusal {
	if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "" {
		return refusal{pod.Status.Reason, pod.Status.Message}
	}
	return refusal{m.refusal.reason, "Pod was rejected: " + m.refusal.message}
}
