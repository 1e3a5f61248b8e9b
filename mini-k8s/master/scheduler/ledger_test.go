package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLedgerCountsWhatIsTakenAndNothingElse(t *testing.T) {
	n := node("n", "4", "4Gi", "10")
	half := requests("500m", "1Gi")
	one, two := on("n", "one", "", half), on("n", "two", "", half)
	unbound := func(p *corev1.Pod) *corev1.Pod { p = p.DeepCopy(); p.Spec.NodeName = ""; return p }
	finished := func(p *corev1.Pod) *corev1.Pod { p = p.DeepCopy(); p.Status.Phase = corev1.PodSucceeded; return p }
	for _, row := range []struct {
		name string
		do   func(l *ledger)
		pods int64
	}{
		{"pods that are bound", func(l *ledger) { l.setPod(nil, one); l.setPod(nil, two) }, 2},
		{"one that is told twice", func(l *ledger) { l.setPod(nil, one); l.setPod(one, one) }, 1},
		{"one that is unbound", func(l *ledger) { l.setPod(nil, unbound(one)) }, 0},
		{"one that is gone", func(l *ledger) { l.setPod(nil, one); l.setPod(one, nil) }, 0},
		{"one that has finished", func(l *ledger) { l.setPod(nil, one); l.setPod(one, finished(one)); l.setPod(finished(one), nil) }, 0},
		{"an assumption", func(l *ledger) { l.take(unbound(one), "n", true) }, 1},
		{"an assumption that is taken back", func(l *ledger) { l.take(unbound(one), "n", true); l.forget(one.UID) }, 0},
		{"an assumption that the watch has told", func(l *ledger) { l.take(unbound(one), "n", true); l.setPod(unbound(one), one) }, 1},
		{"what the watch has told is not taken back", func(l *ledger) { l.take(unbound(one), "n", true); l.setPod(unbound(one), one); l.forget(one.UID) }, 1},
		{"an assumption of a pod that is gone", func(l *ledger) { l.take(unbound(one), "n", true); l.setPod(unbound(one), nil); l.forget(one.UID) }, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := ledgerOf([]*corev1.Node{n})
			row.do(l)
			want := resources{cpu: 500 * row.pods, memory: row.pods << 30, pods: row.pods}
			if got := l.nodes["n"].used; got != want {
				t.Errorf("taken: %+v, want %+v", got, want)
			}
		})
	}
}

func TestLedgerForgetsNodesThatAreGoneWithTheirPods(t *testing.T) {
	n, p := node("n", "4", "4Gi", "10"), on("n", "p", "")
	l := ledgerOf([]*corev1.Node{n}, p)
	l.setNode(n, nil)
	if best, _ := choose(pod("new"), l.nodes); best != "" {
		t.Errorf("a pod goes to %q, which is gone", best)
	}
	l.setNode(nil, n)
	if got := l.nodes["n"].used.pods; got != 1 {
		t.Errorf("back again, the node has %d pods", got)
	}
	l.setPod(p, nil)
	l.setNode(n, nil)
	if len(l.nodes)+len(l.entries) != 0 {
		t.Errorf("left over: %v %v", l.nodes, l.entries)
	}
}

func TestOnlyChangesThatCouldLetAPodInCount(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*corev1.Node)
		same   bool
	}{
		{"a heartbeat", func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }, true},
		{"an annotation", func(n *corev1.Node) { n.Annotations = map[string]string{"a": "b"} }, true},
		{"a label", func(n *corev1.Node) { n.Labels = map[string]string{"a": "b"} }, false},
		{"a taint", tainted(corev1.Taint{Key: "a"}), false},
		{"a cordon", cordoned, false},
		{"more room", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("8") }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := node("n", "4", "4Gi", "10")
			after := before.DeepCopy()
			row.change(after)
			if got := sameForScheduling(before, after); got != row.same {
				t.Errorf("same: %v", got)
			}
		})
	}
}
