package replicaset

import (
	"cmp"
	"slices"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

// victims returns the pods to delete when there are too many: those that serve least, and of equal ones those
// whose loss leaves the rest spread best.
func victims(pods []*corev1.Pod, count int) []*corev1.Pod {
	perNode := map[string]int{}
	for _, p := range pods {
		perNode[p.Spec.NodeName]++
	}
	ranked := slices.Clone(pods)
	slices.SortStableFunc(ranked, func(a, b *corev1.Pod) int {
		return cmp.Or(
			first(a.Spec.NodeName == "", b.Spec.NodeName == ""),              // not on a node yet
			cmp.Compare(phaseRank(a), phaseRank(b)),                          // not running yet
			first(!api.PodReady(a), !api.PodReady(b)),                        // not ready
			-cmp.Compare(perNode[a.Spec.NodeName], perNode[b.Spec.NodeName]), // doubled on a node
			-a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time),      // youngest
			cmp.Compare(a.Name, b.Name),
		)
	})
	return ranked[:min(count, len(ranked))]
}

// first puts what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	return map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}[p.Status.Phase]
}
