package scheduler

import (
	"slices"
	"testing"

	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var (
	pod      = mastertest.Pod
	node     = mastertest.Node
	requests = mastertest.Requests
)

func tolerating(t ...corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = t }
}

func tainted(t ...corev1.Taint) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = t }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func labels(l map[string]string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels = l }
}

func selecting(l map[string]string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = l }
}

func TestFiltersSayWhyAPodCannotRunOnANode(t *testing.T) {
	gpu := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	evil := corev1.Taint{Key: "evil", Effect: corev1.TaintEffectNoExecute}
	const noMatch, unschedulable = "node(s) didn't match Pod's node affinity/selector", "node(s) were unschedulable"
	for _, row := range []struct {
		name string
		pod  *corev1.Pod
		node *corev1.Node
		used resources
		want []string
	}{
		{"empty node", pod("p"), node("n", "1", "1Gi", "10"), resources{}, nil},
		{"exactly full cpu", pod("p", requests("500m", "1")), node("n", "1", "1Gi", "10"), resources{cpu: 500}, nil},
		{"one thousandth too much cpu", pod("p", requests("501m", "1")), node("n", "1", "1Gi", "10"), resources{cpu: 500}, []string{"Insufficient cpu"}},
		{"exactly full memory", pod("p", requests("1m", "1Gi")), node("n", "1", "1Gi", "10"), resources{}, nil},
		{"one byte too much memory", pod("p", requests("1m", "1Gi")), node("n", "1", "1Gi", "10"), resources{memory: 1}, []string{"Insufficient memory"}},
		{"too much of all", pod("p", requests("2", "2Gi")), node("n", "1", "1Gi", "2"), resources{pods: 2}, []string{"Too many pods", "Insufficient cpu", "Insufficient memory"}},
		{"nothing asked of a node that is overfull", pod("p"), node("n", "1", "1Gi", "10"), resources{cpu: 5000, memory: 5 << 30}, nil},
		{"a node that has not told its room", pod("p"), node("n", "0", "0", "0"), resources{}, []string{"Too many pods"}},
		{"cordoned", pod("p"), node("n", "1", "1Gi", "10", cordoned), resources{}, []string{unschedulable}},
		{"cordoned, and full: the first reason counts", pod("p", requests("2", "1")), node("n", "1", "1Gi", "10", cordoned), resources{}, []string{unschedulable}},
		{"cordoned, tolerated", pod("p", tolerating(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})),
			node("n", "1", "1Gi", "10", cordoned), resources{}, nil},
		{"tainted", pod("p"), node("n", "1", "1Gi", "10", tainted(gpu)), resources{}, []string{"node(s) had untolerated taint {gpu: yes}"}},
		{"tainted twice, one tolerated", pod("p", tolerating(corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists})),
			node("n", "1", "1Gi", "10", tainted(gpu, evil)), resources{}, []string{"node(s) had untolerated taint {evil: }"}},
		{"a taint that only prefers", pod("p"), node("n", "1", "1Gi", "10",
			tainted(corev1.Taint{Key: "old", Effect: corev1.TaintEffectPreferNoSchedule})), resources{}, nil},
		{"selected", pod("p", selecting(map[string]string{"disk": "ssd"})), node("n", "1", "1Gi", "10",
			labels(map[string]string{"disk": "ssd", "zone": "a"})), resources{}, nil},
		{"selected by another value", pod("p", selecting(map[string]string{"disk": "ssd"})), node("n", "1", "1Gi", "10",
			labels(map[string]string{"disk": "tape"})), resources{}, []string{noMatch}},
		{"selected by an empty value that is not there", pod("p", selecting(map[string]string{"disk": ""})), node("n", "1", "1Gi", "10"), resources{}, []string{noMatch}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := refuse(row.pod, &nodeInfo{Node: row.node, room: roomOf(row.node), used: row.used}); !slices.Equal(got, row.want) {
				t.Errorf("refused because of %q, want %q", got, row.want)
			}
		})
	}
}

func TestTolerationsCoverTaints(t *testing.T) {
	taint := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	for _, row := range []struct {
		name       string
		toleration corev1.Toleration
		want       bool
	}{
		{"equal", corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "yes", Effect: corev1.TaintEffectNoSchedule}, true},
		{"equal is what is meant without an operator", corev1.Toleration{Key: "gpu", Value: "yes"}, true},
		{"another value", corev1.Toleration{Key: "gpu", Value: "no"}, false},
		{"no value", corev1.Toleration{Key: "gpu"}, false},
		{"another key", corev1.Toleration{Key: "cpu", Value: "yes"}, false},
		{"another effect", corev1.Toleration{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoExecute}, false},
		{"exists", corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}, true},
		{"exists, another key", corev1.Toleration{Key: "cpu", Operator: corev1.TolerationOpExists}, false},
		{"exists, of any key", corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		{"nothing", corev1.Toleration{}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := tolerates(pod("p", tolerating(row.toleration)), taint); got != row.want {
				t.Errorf("tolerates: %v", got)
			}
		})
	}
}

// ledgerOf returns a ledger of nodes with pods on them.
func ledgerOf(nodes []*corev1.Node, pods ...*corev1.Pod) *ledger {
	l := newLedger()
	for _, n := range nodes {
		l.setNode(nil, n)
	}
	for _, p := range pods {
		l.setPod(nil, p)
	}
	return l
}

// on returns a pod that is bound, with an owner unless that is "".
func on(node, name, owner string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := pod(name, append(changes, ownedBy(owner))...)
	p.UID, p.Spec.NodeName = types.UID(name), node
	return p
}

func ownedBy(owner string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: new(true)}}
		}
	}
}

func TestRefusalsAreSummedUpInTheWordsOfKubernetes(t *testing.T) {
	full, small := node("full", "1", "1Gi", "1"), node("small", "1", "1Gi", "9")
	for _, row := range []struct {
		name  string
		nodes []*corev1.Node
		want  string
	}{
		{"no nodes", nil, "no nodes available to schedule pods"},
		{"one of a kind", []*corev1.Node{node("a", "1", "1Gi", "9", cordoned), node("b", "1", "1Gi", "9", tainted(corev1.Taint{Key: "k", Value: "v"})), small},
			"0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."},
		{"each reason of a node counts", []*corev1.Node{full, small}, "0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu."},
	} {
		t.Run(row.name, func(t *testing.T) {
			best, got := choose(pod("p", requests("2", "1")), ledgerOf(row.nodes, on("full", "x", "")).nodes)
			if best != "" || got != row.want {
				t.Errorf("chose %q, said %q,\nwant %q", best, got, row.want)
			}
		})
	}
}

func TestBestNodeIsTheOneWithFewestSiblingsThenTheEmptiest(t *testing.T) {
	three := []*corev1.Node{node("a", "4", "4Gi", "10"), node("b", "4", "4Gi", "10"), node("c", "4", "4Gi", "10")}
	for _, row := range []struct {
		name string
		pods []*corev1.Pod
		want string
	}{
		{"of equal ones the first by name", nil, "a"},
		{"emptiest by cpu", []*corev1.Pod{on("a", "x", "other", requests("1", "1")), on("b", "y", "other2", requests("500m", "1")), on("c", "z", "other3", requests("2", "1"))}, "b"},
		{"emptiest by memory", []*corev1.Pod{on("a", "x", "o1", requests("1m", "2Gi")), on("b", "y", "o2", requests("1m", "1Gi")), on("c", "z", "o3", requests("1m", "3Gi"))}, "b"},
		{"without siblings, however full", []*corev1.Pod{on("a", "x", "web"), on("b", "y", "web"), on("c", "z", "other", requests("3", "3Gi"))}, "c"},
		{"with the fewest siblings", []*corev1.Pod{on("a", "x", "web"), on("a", "x2", "web"), on("b", "y", "web"), on("c", "z", "web"), on("c", "z2", "web")}, "b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, why := choose(pod("new", ownedBy("web")), ledgerOf(three, row.pods...).nodes); got != row.want {
				t.Errorf("chose %q (%s), want %q", got, why, row.want)
			}
		})
	}
}

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
