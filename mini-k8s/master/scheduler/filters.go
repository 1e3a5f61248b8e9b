package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// A filter says what keeps a pod from running on a node, in the words of FailedScheduling: nothing, if it can.
type filter func(pod *corev1.Pod, node *nodeInfo) []string

// filters in the order in which a refusal is told.
var filters = []filter{schedulable, tolerated, selected, fits}

func schedulable(pod *corev1.Pod, node *nodeInfo) []string {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !tolerates(pod, cordon) {
		return []string{"node(s) were unschedulable"}
	}
	return nil
}

func tolerated(pod *corev1.Pod, node *nodeInfo) []string {
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod, taint) {
			return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
		}
	}
	return nil
}

// tolerates reports whether one of the pod's tolerations covers the taint.
func tolerates(pod *corev1.Pod, taint corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		if t.Operator == corev1.TolerationOpExists {
			return true
		}
		return t.Key != "" && t.Value == taint.Value
	})
}

func selected(pod *corev1.Pod, node *nodeInfo) []string {
	for key, value := range pod.Spec.NodeSelector {
		if got, ok := node.Labels[key]; !ok || got != value {
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		}
	}
	return nil
}

func fits(pod *corev1.Pod, node *nodeInfo) (short []string) {
	need := requestsOf(pod)
	if node.used.pods+1 > node.room.pods {
		short = append(short, "Too many pods")
	}
	if need.cpu > 0 && need.cpu > node.room.cpu-node.used.cpu {
		short = append(short, "Insufficient cpu")
	}
	if need.memory > 0 && need.memory > node.room.memory-node.used.memory {
		short = append(short, "Insufficient memory")
	}
	return short
}

// resources of a pod or a node: CPU in thousandths of a core, memory in bytes.
type resources struct{ cpu, memory, pods int64 }

func requestsOf(pod *corev1.Pod) resources {
	cpu, memory := api.PodRequests(pod)
	return resources{cpu: cpu.MilliValue(), memory: memory.Value(), pods: 1}
}

func roomOf(node *corev1.Node) resources {
	a := node.Status.Allocatable
	return resources{cpu: a.Cpu().MilliValue(), memory: a.Memory().Value(), pods: a.Pods().Value()}
}

// score says how good a node is for a pod that fits: the more, the better. Replicas of one owner go to different
// nodes first, for what is together dies together; then the emptier node wins.
func score(pod *corev1.Pod, node *nodeInfo) float64 {
	siblings := node.owners[ownerOf(pod)]
	need := requestsOf(pod)
	free := func(used, need, room int64) float64 {
		if room == 0 {
			return 0
		}
		return 1 - float64(used+need)/float64(room)
	}
	empty := (free(node.used.cpu, need.cpu, node.room.cpu) + free(node.used.memory, need.memory, node.room.memory) +
		free(node.used.pods, 1, node.room.pods)) / 3
	return empty - float64(siblings)
}

// ownerOf returns the UID of what made the pod; a pod that nobody made counts with its namespace.
func ownerOf(pod *corev1.Pod) string {
	for _, owner := range pod.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			return string(owner.UID)
		}
	}
	return pod.Namespace
}

// explain sums up why no node would do: "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
func explain(nodes int, refusals map[string]int) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	var parts []string
	for reason, count := range refusals {
		parts = append(parts, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}

// sameForScheduling reports whether nothing changed in a node that could let a pod in.
func sameForScheduling(old, node *corev1.Node) bool {
	return old.Spec.Unschedulable == node.Spec.Unschedulable && equality.Semantic.DeepEqual(old.Spec.Taints, node.Spec.Taints) &&
		equality.Semantic.DeepEqual(old.Labels, node.Labels) && equality.Semantic.DeepEqual(old.Status.Allocatable, node.Status.Allocatable)
}
