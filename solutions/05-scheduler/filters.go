package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// A filter says what keeps a pod from running on a node, in the words of FailedScheduling: nothing, if it can.
type filter func(pod *corev1.Pod, node *nodeInfo) []string

// filters in the order in which a refusal is told.
var filters = []filter{schedulable, tolerated, selected, fits}

// refuse returns what the first filter that refuses has against the node.
func refuse(pod *corev1.Pod, node *nodeInfo) []string {
	for _, f := range filters {
		if reasons := f(pod, node); len(reasons) > 0 {
			return reasons
		}
	}
	return nil
}

// schedulable refuses a node that is cordoned, "node(s) were unschedulable", unless the pod tolerates the taint
// node.kubernetes.io/unschedulable:NoSchedule.
func schedulable(pod *corev1.Pod, node *nodeInfo) []string {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !tolerates(pod, cordon) {
		return []string{"node(s) were unschedulable"}
	}
	return nil
}

// tolerated refuses a node for its first taint that the pod does not tolerate, "node(s) had untolerated taint {key: value}".
// Taints with the effect PreferNoSchedule do not count.
func tolerated(pod *corev1.Pod, node *nodeInfo) []string {
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod, taint) {
			return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
		}
	}
	return nil
}

// tolerates reports whether one of the pod's tolerations covers the taint. All of this holds for one that does:
//  1. Its effect is that of the taint, or empty, which covers all effects.
//  2. Its key is that of the taint, or empty, which covers all keys.
//  3. Its operator is Exists; or its value is that of the taint, and its key is not empty. An empty operator means Equal.
//
//lab:05 1
func tolerates(pod *corev1.Pod, taint corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
			(t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value)
	})
}

// selected refuses a node that lacks a label of the pod's nodeSelector, or has it with another value:
// "node(s) didn't match Pod's node affinity/selector". The selector may ask for an empty value; that, too, has to be there.
//
//lab:05 1
func selected(pod *corev1.Pod, node *nodeInfo) []string {
	for key, value := range pod.Spec.NodeSelector {
		if got, ok := node.Labels[key]; !ok || got != value {
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		}
	}
	return nil
}

// fits refuses a node for each thing of which it has too little left, in this order:
// "Too many pods", "Insufficient cpu", "Insufficient memory".
// Exactly enough is enough. Who asks for no CPU or no memory fits, even where there is less than none left.
//
//lab:05 1
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

// sameForScheduling reports whether nothing changed in a node that could let a pod in.
func sameForScheduling(old, node *corev1.Node) bool {
	return old.Spec.Unschedulable == node.Spec.Unschedulable && equality.Semantic.DeepEqual(old.Spec.Taints, node.Spec.Taints) &&
		equality.Semantic.DeepEqual(old.Labels, node.Labels) && equality.Semantic.DeepEqual(old.Status.Allocatable, node.Status.Allocatable)
}
