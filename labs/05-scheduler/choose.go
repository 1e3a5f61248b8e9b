package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"workshop/labs/lab"
)

// choose returns the name of the best node for a pod, or "" and why none will do.
//  1. Leave out what is not a node any more (its Node is nil): it does not count at all.
//  2. Leave out the nodes that refuse has something against, and count how often each reason was told.
//  3. Of the rest take the node with the highest score. Of equal ones the first by name wins, so that a decision can be
//     told from what there is: the order of a map is another one each time.
//  4. If none is left, explain the refusals of all the nodes.
//
//lab:05 3
func choose(pod *corev1.Pod, nodes map[string]*nodeInfo) (best, refusal string) {
	lab.TODO("05", "choose")
	return
}

// score says how good a node is for a pod that fits: the more, the better. Replicas of one owner go to different
// nodes first, for what is together dies together; then the emptier node wins.
//  1. For each of CPU, memory and pods, take the share of the node's room that stays free when the pod has come: from 1,
//     all of it, to 0. Of what the node has no room for at all, that is 0.
//  2. Their mean says how empty the node is.
//  3. Subtract one for each pod of the same owner (ownerOf) that is there already.
//
//lab:05 2
func score(pod *corev1.Pod, node *nodeInfo) float64 {
	lab.TODO("05", "score")
	return 0
}

// ownerOf returns the UID of what made the pod; a pod that nobody made counts with its namespace.
func ownerOf(pod *corev1.Pod) string {
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		return string(owner.UID)
	}
	return pod.Namespace
}

// explain sums up why no node would do: "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
// The parts, each with its count, are sorted as texts. Without a node it is "no nodes available to schedule pods".
//
//lab:05 3
func explain(nodes int, refusals map[string]int) string {
	lab.TODO("05", "explain")
	return ""
}
