package scheduler

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What the tests of the lab do not look at: the filters that it gives, and the order of all.
func TestFirstFilterThatRefusesSaysWhy(t *testing.T) {
	gpu := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	evil := corev1.Taint{Key: "evil", Effect: corev1.TaintEffectNoExecute}
	const unschedulable = "node(s) were unschedulable"
	for _, row := range []struct {
		name string
		pod  *corev1.Pod
		node *corev1.Node
		want []string
	}{
		{"empty node", pod("p"), node("n", "1", "1Gi", "10"), nil},
		{"a node that has not told its room", pod("p"), node("n", "0", "0", "0"), []string{"Too many pods"}},
		{"cordoned", pod("p"), node("n", "1", "1Gi", "10", cordoned), []string{unschedulable}},
		{"cordoned, and full: the first reason counts", pod("p", requests("2", "1")), node("n", "1", "1Gi", "10", cordoned), []string{unschedulable}},
		{"cordoned, tolerated", pod("p", tolerating(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})),
			node("n", "1", "1Gi", "10", cordoned), nil},
		{"tainted", pod("p"), node("n", "1", "1Gi", "10", tainted(gpu)), []string{"node(s) had untolerated taint {gpu: yes}"}},
		{"tainted twice, one tolerated", pod("p", tolerating(corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists})),
			node("n", "1", "1Gi", "10", tainted(gpu, evil)), []string{"node(s) had untolerated taint {evil: }"}},
		{"a taint that only prefers", pod("p"), node("n", "1", "1Gi", "10",
			tainted(corev1.Taint{Key: "old", Effect: corev1.TaintEffectPreferNoSchedule})), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := refuse(row.pod, infoOf(row.node)); !slices.Equal(got, row.want) {
				t.Errorf("refused because of %q, want %q", got, row.want)
			}
		})
	}
}
