package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// choose returns the name of the best node for a pod, or "" and why none will do.
//  1. Leave out what is not a node any more (its Node is nil): it does not count at all.
//  2. Leave out the nodes that refuse has something against, and count how often each reason was told.
//  3. Of the rest take the node with the highest score. Of equal ones the first by name wins, so that a decision can be
//     told from what there is: the order of a map is another one each time.
//  4. If none is left, explain the refusals of all the nodes.
//
//lab:05 3
//lab:hint refuse tells what a node has against the pod, score how good it is, explain makes the sentence; all that choose adds is a loop over the map.
//lab:hint Keep the best name and its score while you go. The first score is compared with something that is lower than every score: math.Inf(-1). A score of 0 or less may well be the best.
//lab:hint In the loop: if node.Node == nil, continue; count++; for each of refuse(pod, node), refusals[why]++; if there was none and s > bestScore || s == bestScore && name < best, take it.
func choose(pod *corev1.Pod, nodes map[string]*nodeInfo) (best, refusal string) {
	refusals := map[string]int{}
	count, bestScore := 0, math.Inf(-1)
	for name, node := range nodes {
		if node.Node == nil {
			continue
		}
		count++
		reasons := refuse(pod, node)
		for _, why := range reasons {
			refusals[why]++
		}
		if len(reasons) > 0 {
			continue
		}
		if s := score(pod, node); s > bestScore || s == bestScore && name < best {
			best, bestScore = name, s
		}
	}
	if best == "" {
		return "", explain(count, refusals)
	}
	return best, ""
}

// score says how good a node is for a pod that fits: the more, the better. Replicas of one owner go to different
// nodes first, for what is together dies together; then the emptier node wins.
//  1. For each of CPU, memory and pods, take the share of the node's room that stays free when the pod has come: from 1,
//     all of it, to 0. Of what the node has no room for at all, that is 0.
//  2. Their mean says how empty the node is.
//  3. Subtract one for each pod of the same owner (ownerOf) that is there already.
//
//lab:05 2
//lab:hint The nodeInfo has room (all that there is), used (what is taken) and owners (how many pods of each owner); requestsOf says what the pod takes, and ownerOf whose it is.
//lab:hint A share is between 0 and 1 and so is their mean, therefore one sibling weighs more than all free room. Integers do not divide to shares: convert to float64 first, and do not divide by 0.
//lab:hint Write a small function free(used, need, room int64) float64 that returns 0 for room == 0 and else 1 - float64(used+need)/float64(room); a pod takes one of room.pods.
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
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		return string(owner.UID)
	}
	return pod.Namespace
}

// explain sums up why no node would do: "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
// The parts, each with its count, are sorted as texts. Without a node it is "no nodes available to schedule pods".
//
//lab:05 3
//lab:hint The packages fmt, slices and strings have all that it takes.
//lab:hint A map has no order: make the parts first ("1 Insufficient cpu"), then sort them, then join them with ", ".
//lab:hint parts = append(parts, fmt.Sprintf("%d %s", count, reason)) for each of the map, slices.Sort(parts), and fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", ")).
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
