package replicaset

import (
	"cmp"
	"slices"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

// victims returns the pods in the order in which they go when there are too many: those that serve least first, and
// of equal ones those whose loss leaves the rest spread best.
//  1. Those that are not on a node yet.
//  2. Those that are not running yet: pending ones, then those of which nobody knows.
//  3. Those that are not ready.
//  4. Those that have the most others on their node.
//  5. The youngest. All else being equal, the name decides.
//
// The slice that it is given stays as it is.
//
//lab:06 1
func victims(pods []*corev1.Pod) []*corev1.Pod {
	perNode := map[string]int{}
	for _, p := range pods {
		perNode[p.Spec.NodeName]++
	}
	phase := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	return slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int {
		return cmp.Or(
			no(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(phase[a.Status.Phase], phase[b.Status.Phase]),
			no(api.PodReady(a), api.PodReady(b)),
			cmp.Compare(perNode[b.Spec.NodeName], perNode[a.Spec.NodeName]),
			b.CreationTimestamp.Time.Compare(a.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// no puts the one that is not before the one that is.
func no(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
