package kubelet

// Which pods a node runs: what it has room for, until their time is over. The scheduler sees to it that there is room; who
// binds a pod by hand does not.

import (
	"fmt"
	"sync"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refusal is why a node does not run a pod.
type refusal struct{ reason, message string }

// admission knows which pods are in.
type admission struct {
	mu   sync.Mutex          // guards all below, and is held while a pod is judged: two must not take the same room
	room corev1.ResourceList // nil while nobody is judged
	in   map[types.UID]bool
}

func (a *admission) open(room corev1.ResourceList) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.room, a.in = room, map[types.UID]bool{}
}

func (a *admission) forget(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.in, uid)
}

// admit lets a pod in, or says why not. One that has a start time was let in before, by this kubelet or another.
func (k *Kubelet) admit(pod *corev1.Pod) refusal {
	a := &k.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	isIn := func(p *corev1.Pod) bool { return a.in[p.UID] || p.Status.StartTime != nil }
	if a.room == nil || isIn(pod) || pod.DeletionTimestamp != nil {
		return refusal{}
	}
	var others []*corev1.Pod
	for _, p := range k.all() {
		if p.UID != pod.UID && isIn(p) && !api.PodFinished(p) {
			others = append(others, p)
		}
	}
	if r := refusalOf(pod, others, a.room); r != (refusal{}) {
		return r
	}
	a.in[pod.UID] = true
	return refusal{}
}

// refusalOf says why there is no room for a pod beside others, nothing if there is.
func refusalOf(pod *corev1.Pod, others []*corev1.Pod, room corev1.ResourceList) refusal {
	cpu, memory := api.PodRequests(pod)
	wanted := map[corev1.ResourceName]int64{corev1.ResourceCPU: cpu.MilliValue(), corev1.ResourceMemory: memory.Value(), corev1.ResourcePods: 1}
	used := map[corev1.ResourceName]int64{corev1.ResourcePods: int64(len(others))}
	for _, p := range others {
		cpu, memory := api.PodRequests(p)
		used[corev1.ResourceCPU] += cpu.MilliValue()
		used[corev1.ResourceMemory] += memory.Value()
	}
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

// doomOf says why a pod has to end, whatever its containers do, "" if nothing: the node refuses it, its time is over, or so
// it was said before.
func doomOf(pod *corev1.Pod, m *memory, now time.Time) (reason, message string) {
	switch end, limited := deadlineOf(pod); {
	case pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "":
		return pod.Status.Reason, pod.Status.Message
	case m.refusal.reason != "":
		return m.refusal.reason, "Pod was rejected: " + m.refusal.message
	case limited && !now.Before(end):
		return "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
	}
	return "", ""
}

// deadlineOf returns when a pod's time is over, if it is limited and has begun.
func deadlineOf(pod *corev1.Pod) (end time.Time, limited bool) {
	seconds := pod.Spec.ActiveDeadlineSeconds
	if seconds == nil || pod.Status.StartTime == nil {
		return time.Time{}, false
	}
	return pod.Status.StartTime.Add(time.Duration(*seconds) * time.Second), true
}
