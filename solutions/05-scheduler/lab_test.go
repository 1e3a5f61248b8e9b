package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/labs/labtest"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The tests of lab 05, in the order of its tasks. Those of tasks 1 to 3 call the functions, which need nothing but their
// arguments. In the others the API server is the real one, and time is that of a bubble of testing/synctest, in which a
// second costs nothing.

var (
	pod      = mastertest.Pod
	node     = mastertest.Node
	requests = mastertest.Requests
)

func tolerating(t ...corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = t }
}

func selecting(l map[string]string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = l }
}

func ownedBy(owner string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: new(true)}}
		}
	}
}

// on returns a pod that is bound, with an owner unless that is "".
func on(node, name, owner string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := pod(name, append(changes, ownedBy(owner))...)
	p.UID, p.Spec.NodeName = types.UID(name), node
	return p
}

func tainted(t ...corev1.Taint) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = t }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func labels(l map[string]string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels = l }
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

// infoOf returns a node with pods on it.
func infoOf(n *corev1.Node, pods ...*corev1.Pod) *nodeInfo {
	return ledgerOf([]*corev1.Node{n}, pods...).nodes[n.Name]
}

// said shows a list as a learner would write it down.
func said(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return `"` + strings.Join(list, `", "`) + `"`
}

// Task 1

func TestTask1TolerationsCoverTaints(t *testing.T) {
	lab := labtest.Task(t, "05", 1)
	taint := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	const exists, noExecute = corev1.TolerationOpExists, corev1.TaintEffectNoExecute
	for _, row := range []struct {
		has         string
		tolerations []corev1.Toleration
		want        bool
		cause       string
	}{
		{"key gpu, operator Equal, value yes, effect NoSchedule", []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "yes", Effect: corev1.TaintEffectNoSchedule}}, true,
			"it says just what the taint says"},
		{"key gpu, value yes, and no operator or effect", []corev1.Toleration{{Key: "gpu", Value: "yes"}}, true,
			"an empty effect covers all effects, and an empty operator means Equal"},
		{"key gpu, value no", []corev1.Toleration{{Key: "gpu", Value: "no"}}, false, "without Exists the value has to be that of the taint"},
		{"key gpu, and no operator or value", []corev1.Toleration{{Key: "gpu"}}, false, "only the operator Exists covers all values; an empty value is a value"},
		{"key cpu, value yes", []corev1.Toleration{{Key: "cpu", Value: "yes"}}, false, "the key has to be that of the taint, or empty"},
		{"key gpu, value yes, effect NoExecute", []corev1.Toleration{{Key: "gpu", Value: "yes", Effect: noExecute}}, false, "the effect has to be that of the taint, or empty"},
		{"key gpu, operator Exists", []corev1.Toleration{{Key: "gpu", Operator: exists}}, true, "Exists covers every value"},
		{"key cpu, operator Exists", []corev1.Toleration{{Key: "cpu", Operator: exists}}, false, "Exists covers every value of its own key, and no other key"},
		{"operator Exists, and no key", []corev1.Toleration{{Operator: exists}}, true, "an empty key with Exists covers every taint"},
		{"value yes, and neither key nor operator", []corev1.Toleration{{Value: "yes"}}, false, "an empty key covers all keys only together with Exists"},
		{"two: key cpu with value yes, and key gpu with value no", []corev1.Toleration{{Key: "cpu", Value: "yes"}, {Key: "gpu", Value: "no"}}, false, "one toleration has to pass all the rules by itself"},
		{"two: key cpu with Exists, and key gpu with Exists", []corev1.Toleration{{Key: "cpu", Operator: exists}, {Key: "gpu", Operator: exists}}, true, "one that covers is enough, wherever it stands"},
		{"none", nil, false, "who tolerates nothing tolerates no taint"},
	} {
		got := tolerates(pod("web", tolerating(row.tolerations...)), taint)
		lab.Check(got == row.want, labtest.Report{Did: "asked whether a pod tolerates the taint gpu=yes:NoSchedule, with the toleration " + row.has,
			Want: fmt.Sprint(row.want), Got: fmt.Sprint(got), Cause: row.cause})
	}
}

func TestTask1NodeSelectorAsksForEveryLabel(t *testing.T) {
	lab := labtest.Task(t, "05", 1)
	const refusal = "node(s) didn't match Pod's node affinity/selector"
	for _, row := range []struct {
		selector, labels string
		want             []string
	}{
		{"", "", nil},
		{"", "disk=ssd", nil},
		{"disk=ssd", "disk=ssd,zone=a", nil},
		{"disk=ssd", "disk=tape", []string{refusal}},
		{"disk=ssd,zone=a", "zone=a", []string{refusal}},
		{"disk=ssd,zone=a", "", []string{refusal}},
		{"disk=", "disk=", nil},
		{"disk=", "zone=a", []string{refusal}},
	} {
		got := selected(pod("web", selecting(pairs(row.selector))), infoOf(node("n", "1", "1Gi", "10", labels(pairs(row.labels)))))
		cause := "each label of the selector has to be there with its value, an empty one as well; the refusal is told once, however many are missing"
		if len(got) == 1 && got[0] != refusal {
			cause = "the words are those of the comment, letter by letter: people search for them"
		}
		lab.Must(slices.Equal(got, row.want), labtest.Report{Did: fmt.Sprintf("asked what keeps a pod with the node selector {%s} from a node with the labels {%s}", row.selector, row.labels),
			Want: said(row.want), Got: said(got), Cause: cause})
	}
}

// pairs reads "a=b,c=d".
func pairs(text string) map[string]string {
	found := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			found[key] = value
		}
	}
	return found
}

func TestTask1PodFitsIntoWhatIsLeft(t *testing.T) {
	lab := labtest.Task(t, "05", 1)
	for _, row := range []struct {
		did   string
		pod   *corev1.Pod
		used  resources
		want  []string
		cause string
	}{
		{"500m of CPU where 500m are left", pod("p", requests("500m", "1")), resources{cpu: 500}, nil, "exactly enough is enough"},
		{"501m of CPU where 500m are left", pod("p", requests("501m", "1")), resources{cpu: 500}, []string{"Insufficient cpu"}, "what is left is room less used, in thousandths of a core"},
		{"1Gi where 1Gi is left", pod("p", requests("1m", "1Gi")), resources{}, nil, "exactly enough is enough"},
		{"1Gi where one byte less is left", pod("p", requests("1m", "1Gi")), resources{memory: 1}, []string{"Insufficient memory"}, "what is left is room less used, in bytes"},
		{"nothing, as the 10th of 10 pods", pod("p"), resources{pods: 9}, nil, "a node for 10 pods takes 10: the pod itself is one of them"},
		{"nothing, as the 11th of 10 pods", pod("p"), resources{pods: 10}, []string{"Too many pods"}, "the pod itself counts: used.pods+1 must not be more than room.pods"},
		{"2 CPUs and 2Gi, as the 11th pod, on a node with 1 CPU and 1Gi", pod("p", requests("2", "2Gi")), resources{pods: 10}, []string{"Too many pods", "Insufficient cpu", "Insufficient memory"},
			"all that is short is told, in the order pods, CPU, memory"},
		{"nothing of a node that has given out more than it has", pod("p"), resources{cpu: 5000, memory: 5 << 30}, nil, "who asks for no CPU fits even if there is less than none; the same with memory"},
	} {
		n := infoOf(node("n", "1", "1Gi", "10"))
		n.used = row.used
		got := fits(row.pod, n)
		lab.Check(slices.Equal(got, row.want), labtest.Report{Did: "asked whether a pod fits that asks for " + row.did, Want: said(row.want), Got: said(got), Cause: row.cause})
	}
}

// Task 2

// betterIs checks which of two nodes scores higher.
func betterIs(lab *labtest.T, did string, p *corev1.Pod, better, worse *nodeInfo, cause string) {
	lab.Helper()
	high, low := score(p, better), score(p, worse)
	lab.Check(high > low, labtest.Report{Did: did, Want: fmt.Sprintf("a higher score for %s than for %s", better.Name, worse.Name),
		Got: fmt.Sprintf("%s: %.3f, %s: %.3f", better.Name, high, worse.Name, low), Cause: cause})
}

func TestTask2ReplicasOfOneOwnerStayApart(t *testing.T) {
	lab := labtest.Task(t, "05", 2)
	web := pod("new", ownedBy("web"))
	full := infoOf(node("full", "4", "4Gi", "10"), on("full", "x", "other", requests("4", "4Gi")))
	one := infoOf(node("one", "4", "4Gi", "10"), on("one", "x", "web"))
	two := infoOf(node("two", "64", "64Gi", "100"), on("two", "x", "web"), on("two", "y", "web"))
	betterIs(lab, "scored, for a pod of web, the node full, of which all CPU and memory is taken by others, and the node one, which is empty but for one pod of web", web, full, one,
		"a pod of the same owner weighs more than all free room: subtract 1 for each, and keep the free share between 0 and 1")
	betterIs(lab, "scored, for a pod of web, the node one, with one pod of web, and the large node two, with two of them", web, one, two,
		"each pod of the owner counts, so that the third goes where there is one and not where there are two")
	betterIs(lab, "scored, for a pod that nobody owns, the node one, with a pod of web, and the node full", pod("new"), one, full,
		"only pods of the same owner count: ask node.owners for ownerOf(pod)")
}

func TestTask2EmptierNodeIsBetter(t *testing.T) {
	lab := labtest.Task(t, "05", 2)
	empty := node("empty", "4", "4Gi", "10")
	for _, row := range []struct {
		did           string
		pod           *corev1.Pod
		better, worse *nodeInfo
		cause         string
	}{
		{"an empty node and one with 2 of its 4 CPUs taken", pod("p"), infoOf(empty), infoOf(node("busy", "4", "4Gi", "10"), on("busy", "x", "o", requests("2", "0"))),
			"free CPU counts"},
		{"an empty node and one with 2Gi of its 4Gi taken", pod("p"), infoOf(empty), infoOf(node("busy", "4", "4Gi", "10"), on("busy", "x", "o", requests("0", "2Gi"))),
			"free memory counts"},
		{"an empty node and one with a pod on it that asks for nothing", pod("p"), infoOf(empty), infoOf(node("busy", "4", "4Gi", "10"), on("busy", "x", "o")),
			"free places for pods count: used.pods and room.pods"},
		{"a node with 1 CPU of 4 taken, and one with 2 of 16", pod("p"), infoOf(node("large", "16", "4Gi", "10"), on("large", "x", "o", requests("2", "0"))),
			infoOf(node("small", "4", "4Gi", "10"), on("small", "x", "o", requests("1", "0"))), "the share of the node's room counts, not the number of CPUs"},
		{"an empty node with 16 CPUs and one with 4, for a pod that asks for 2", pod("p", requests("2", "0")), infoOf(node("large", "16", "4Gi", "10")), infoOf(node("small", "4", "4Gi", "10")),
			"what counts is what stays free when the pod has come: add its requests to what is used"},
		{"an empty node and one that has no CPU at all to give, for a pod that asks for none", pod("p"), infoOf(empty), infoOf(node("none", "0", "4Gi", "10")),
			"where there is no room, no share of it is free: 0"},
	} {
		number := score(row.pod, row.worse)
		lab.Must(!math.IsNaN(number) && !math.IsInf(number, 0), labtest.Report{Did: "scored " + row.did, Want: "numbers that can be compared",
			Got: fmt.Sprintf("%s: %v", row.worse.Name, number), Cause: "a division by a room of 0 is no number, and is neither more nor less than any other: such a node would never be chosen"})
		betterIs(lab, "scored "+row.did, row.pod, row.better, row.worse, row.cause)
	}
}

// Task 3

// chosen returns what choose returns. As a map has another order each time, it asks many times and returns all answers.
func chosen(lab *labtest.T, did string, p *corev1.Pod, nodes map[string]*nodeInfo) (best, refusal string) {
	lab.Helper()
	defer func() {
		if r := recover(); r != nil {
			lab.Must(false, labtest.Report{Did: did, Want: "an answer", Got: fmt.Sprintf("a panic: %v", r), Cause: "an entry without a Node is one of which only pods are known: leave it out before you look at it"})
		}
	}()
	var bests, refusals []string
	for range 200 {
		best, refusal := choose(p, nodes)
		if !slices.Contains(bests, best) {
			bests = append(bests, best)
		}
		if !slices.Contains(refusals, refusal) {
			refusals = append(refusals, refusal)
		}
	}
	slices.Sort(bests)
	slices.Sort(refusals)
	if len(refusals) > 1 {
		refusals = []string{refusals[0] + "\nand something else at other times"}
	}
	return strings.Join(bests, " or "), refusals[0]
}

func TestTask3BestNodeIsChosen(t *testing.T) {
	lab := labtest.Task(t, "05", 3)
	three := []*corev1.Node{node("a", "4", "4Gi", "10"), node("b", "4", "4Gi", "10"), node("c", "4", "4Gi", "10")}
	for _, row := range []struct {
		there string
		nodes []*corev1.Node
		pods  []*corev1.Pod
		want  string
		cause string
	}{
		{"b is the emptiest of three nodes", three, []*corev1.Pod{on("a", "x", "o1", requests("1", "0")), on("b", "y", "o2", requests("500m", "0")), on("c", "z", "o3", requests("2", "0"))}, "b",
			"keep the node with the highest score, and that score"},
		{"a would score highest, but is cordoned, and b is full", []*corev1.Node{node("a", "64", "64Gi", "100", cordoned), node("b", "4", "4Gi", "1"), node("c", "4", "4Gi", "10")},
			[]*corev1.Pod{on("b", "x", "o"), on("c", "y", "o", requests("3", "3Gi"))}, "c", "a node that a filter refuses is not scored at all"},
		{"each node has pods of the owner, b the fewest", three, []*corev1.Pod{on("a", "x", "web"), on("a", "x2", "web"), on("b", "y", "web"), on("c", "z", "web"), on("c", "z2", "web")}, "b",
			"scores can be below 0; the first one that is compared with must be lower than all: math.Inf(-1)"},
		{"three nodes are alike", three, nil, "a", "the order of a map is another one each time: of equal scores let the first name win"},
	} {
		did := "chose among nodes, 200 times, where " + row.there
		best, refusal := chosen(lab, did, pod("new", ownedBy("web"), requests("10m", "1Mi")), ledgerOf(row.nodes, row.pods...).nodes)
		lab.Check(best == row.want, labtest.Report{Did: did, Want: fmt.Sprintf("%q each time", row.want), Got: fmt.Sprintf("%q", best), Cause: row.cause})
		lab.Check(best != row.want || refusal == "", labtest.Report{Did: did, Want: "no refusal together with a node", Got: fmt.Sprintf("%q", refusal), Cause: "either there is a node or the reason why there is none"})
	}
}

func TestTask3RefusalsAreSummedUp(t *testing.T) {
	lab := labtest.Task(t, "05", 3)
	full, small := node("full", "1", "1Gi", "1"), node("small", "1", "1Gi", "9")
	taint := corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}
	var many []*corev1.Node
	for i := range 12 {
		many = append(many, node(fmt.Sprint("small-", i), "1", "1Gi", "9"))
	}
	for _, row := range []struct {
		there string
		nodes []*corev1.Node
		pods  []*corev1.Pod
		want  string
		cause string
	}{
		{"there is no node", nil, nil, "no nodes available to schedule pods", "without a node there is nothing to sum up"},
		{"one node is cordoned, one has a taint, one is too small", []*corev1.Node{node("a", "1", "1Gi", "9", cordoned), node("b", "1", "1Gi", "9", tainted(taint)), small}, nil,
			"0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable.",
			"each reason with its count, sorted, joined by a comma and a space, and a full stop at the end"},
		{"both nodes are too small, and one has no place for a pod either", []*corev1.Node{full, small}, []*corev1.Pod{on("full", "x", "")}, "0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu.",
			"all reasons of a node count, and the nodes are counted once each"},
		{"12 nodes are too small and one is cordoned", append(many, node("a", "1", "1Gi", "9", cordoned)), nil, "0/13 nodes are available: 1 node(s) were unschedulable, 12 Insufficient cpu.",
			"the parts are sorted as texts, with their counts in front"},
		{"one node is too small, and another is gone, of which a pod is still known", []*corev1.Node{small}, []*corev1.Pod{on("gone", "x", "")}, "0/1 nodes are available: 1 Insufficient cpu.",
			"the ledger keeps an entry for the pods of a node that is gone; its Node is nil, and it is no node that could be counted"},
	} {
		did := "asked 200 times for a node for 2 CPUs, where " + row.there
		best, got := chosen(lab, did, pod("new", requests("2", "1")), ledgerOf(row.nodes, row.pods...).nodes)
		lab.Must(best == "" && got == row.want, labtest.Report{Did: did, Want: row.want, Got: strings.TrimSpace(best + " " + got), Cause: row.cause})
	}
}

// Task 4

// onBench runs a test of a task against an API server of its own, on which there is a node n with room for one pod of 800m.
func onBench(t *testing.T, task int, test func(lab *labtest.T, bench *mastertest.Bench)) {
	labtest.Begun(t, "05")
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // what is still under way ends before the bubble does
		mastertest.Join(t, bench.Client, node("n", "1", "1Gi", "10"))
		test(labtest.Task(t, "05", task), bench)
	})
}

var large = requests("800m", "1Mi")

// idle returns a scheduler that follows what happens, and does nothing by itself.
func idle(lab *labtest.T, bench *mastertest.Bench) *Scheduler {
	lab.Helper()
	s := New(bench.Deps())
	if err := errors.Join(s.pods.WaitSynced(lab.Context()), s.nodes.WaitSynced(lab.Context())); err != nil {
		lab.Fatal(err)
	}
	s.nodes.Subscribe(lab.Context(), s.nodeChanged)
	s.pods.Subscribe(lab.Context(), s.podChanged)
	synctest.Wait()
	return s
}

// decided creates a pod and returns it with a scheduler that has decided on the node n for it.
func decided(lab *labtest.T, bench *mastertest.Bench) (*Scheduler, *corev1.Pod) {
	lab.Helper()
	web := mastertest.Create(lab, bench.Client, pod("web", large))
	s := idle(lab, bench)
	s.ledger.take(web, "n", true)
	keys(s, time.Second)
	return s, web
}

// keys returns the keys that the scheduler would look at within a while.
func keys(s *Scheduler, during time.Duration) (found []string) {
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	s.Queue.Run(ctx, 1, func(_ context.Context, key string) error {
		found = append(found, key)
		return nil
	})
	slices.Sort(found)
	return slices.Compact(found)
}

// taken returns how many pods the ledger counts on the node n.
func (s *Scheduler) taken() int {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return int(s.ledger.node("n").used.pods)
}

// place returns the node of a pod, "" if it has none.
func place(t testing.TB, bench *mastertest.Bench, name string) string {
	t.Helper()
	return mastertest.Get[*corev1.Pod](t, bench.Client, "default", name).Spec.NodeName
}

// bound returns how many pods have a node.
func bound(t testing.TB, bench *mastertest.Bench) (count int) {
	t.Helper()
	for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
		if p.Spec.NodeName != "" {
			count++
		}
	}
	return count
}

// told returns what was recorded about a pod, as "Reason: message, 2 times".
func told(t testing.TB, bench *mastertest.Bench, name string) string {
	t.Helper()
	synctest.Wait()
	var all []string
	for _, e := range mastertest.Events(t, bench.Client, name) {
		text := e.Reason + ": " + e.Message
		if e.Count != 1 {
			text += fmt.Sprintf(", %d times", e.Count)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func isBinding(r *http.Request) bool { return mastertest.Is(r, "POST", "/binding") }

var (
	podResource = schema.GroupResource{Resource: "pods"}
	conflict    = mastertest.Refuse(apierrors.NewConflict(podResource, "web", errors.New("somebody was faster")))
	forbidden   = mastertest.Refuse(apierrors.NewForbidden(podResource, "web", errors.New("not now")))
)

func unreachable(*http.Request, func() (*http.Response, error)) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// unanswered has a request done and loses the answer.
func unanswered(_ *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
	if response, err := do(); err == nil {
		response.Body.Close()
	}
	return nil, errors.New("connection reset")
}

// tries deals in its own way with the first so many bindings, and notes when each was tried and what the ledger had on
// the node n then.
type tries struct {
	at    []time.Time
	taken []int
}

func (b *tries) first(count int, s *Scheduler, how mastertest.Intercept) mastertest.Intercept {
	return func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
		if !isBinding(r) {
			return do()
		}
		b.at, b.taken = append(b.at, time.Now()), append(b.taken, s.taken())
		if len(b.at) > count {
			return do()
		}
		return how(r, do)
	}
}

func TestTask4BindingIsWrittenAndTold(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		s, web := decided(lab, bench)
		s.bind(lab.Context(), web, "n")
		lab.Equal("bound the pod web to the node n, and read spec.nodeName", place(lab, bench, "web"), "n", "writeBinding asks the API server for it")
		writes := bench.Wire.Writes("/events")
		lab.Check(len(writes) == 1, labtest.Report{Did: "bound a pod, and counted the writes (but for the events)", Want: "1", Got: fmt.Sprint(len(writes)), Cause: "the binding is the one write; the API server sets the condition PodScheduled with it"})
		lab.Equal("bound a pod, and read its events", told(lab, bench, "web"), "Scheduled: Successfully assigned default/web to n", "tell of it once it is done: s.events.Normal(pod, \"Scheduled\", ...)")
		lab.Equal("bound a pod, and counted what the ledger has on the node", s.taken(), 1, "a binding that was written takes nothing back")
	})
}

func TestTask4RefusedBindingIsTakenBack(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		s, web := decided(lab, bench)
		s.ledger.unfit["default/other"] = true
		var seen tries
		bench.Wire.Intercept(seen.first(20, s, forbidden))
		s.bind(lab.Context(), web, "n")
		lab.Must(len(seen.at) == 1, labtest.Report{Did: "bound a pod where the API server refuses that (403), and counted the tries", Want: "1", Got: fmt.Sprint(len(seen.at)),
			Cause: "a refusal is an answer, and the same request gets the same one: only what control.Refused(err) does not call refused is tried again"})
		lab.Equal("bound a pod, which was refused, and counted what the ledger has on the node", s.taken(), 0, "nobody will use that room: take the decision back with s.ledger.forget")
		again := keys(s, 30*time.Second)
		lab.Check(slices.Contains(again, "default/other"), labtest.Report{Did: "bound a pod, which was refused, and looked whether other is looked at again, a pod that had found no room", Want: "that its key is in the queue",
			Got: "keys in the queue: " + said(again), Cause: "there is room again, and nothing else tells those who wait for it: s.retryUnfit, after the decision has been taken back"})
		lab.Check(slices.Contains(again, "default/web"), labtest.Report{Did: "bound a pod, which was refused, and looked whether it is looked at again", Want: "that its key is in the queue within some seconds",
			Got: "keys in the queue: " + said(again), Cause: "the pod has no node yet: s.AddAfter(control.Key(pod), retryBinding)"})
		lab.Equal("bound a pod, which was refused, and read its events", told(lab, bench, "web"), "", "Scheduled is told only of what was done")
	})
}

func TestTask4BindingOfWhichNobodyKnowsIsWrittenAgain(t *testing.T) {
	labtest.Begun(t, "05")
	for _, row := range []struct {
		name  string
		count int
		how   mastertest.Intercept
	}{
		{"the API server could not be reached for three tries", 3, unreachable},
		{"the API server failed by itself (500) for three tries", 3, mastertest.Refuse(apierrors.NewInternalError(errors.New("disk full")))},
		{"the binding was done and the answer lost", 1, unanswered},
	} {
		well := t.Run(row.name, func(t *testing.T) {
			onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
				s, web := decided(lab, bench)
				var seen tries
				bench.Wire.Intercept(seen.first(row.count, s, row.how))
				s.bind(lab.Context(), web, "n")
				lab.Must(len(seen.at) == row.count+1, labtest.Report{Did: "bound a pod, where " + row.name + ", and counted the tries", Want: fmt.Sprint(row.count + 1), Got: fmt.Sprint(len(seen.at)),
					Cause: "a failure that is no refusal leaves open what became of the write: go on writing it until there is an answer"})
				for i := 1; i < len(seen.at); i++ {
					lab.Must(seen.taken[i] == 1, labtest.Report{Did: "bound a pod, where " + row.name + ", and counted what the ledger had on the node at the next try", Want: "1", Got: fmt.Sprint(seen.taken[i]),
						Cause: "as long as nobody knows, the decision stands: the pod may well be on the node"})
					pause := seen.at[i].Sub(seen.at[i-1])
					lab.Must(pause >= retryBinding, labtest.Report{Did: "bound a pod, where " + row.name + ", and measured the time from one try to the next", Want: fmt.Sprintf("%v or more", retryBinding), Got: fmt.Sprint(pause),
						Cause: "an API server that does not answer is not helped by being asked at once: control.Sleep(ctx, retryBinding)"})
				}
				synctest.Wait()
				lab.Equal("bound a pod, where "+row.name+", and read where it is", place(lab, bench, "web"), "n", "the loop ends with an answer, not with a failure")
				lab.Equal("bound a pod, where "+row.name+", and counted what the ledger has on the node in the end", s.taken(), 1, "the pod is there, and takes its room")
			})
		})
		if !well {
			return // the others would say the same
		}
	}
	t.Run("the scheduler is stopped meanwhile", func(t *testing.T) {
		onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
			s, web := decided(lab, bench)
			var seen tries
			bench.Wire.Intercept(seen.first(50, s, unreachable))
			ctx, cancel := context.WithTimeout(lab.Context(), 5500*time.Millisecond)
			defer cancel()
			s.bind(ctx, web, "n")
			lab.Check(len(seen.at) > 1 && len(seen.at) <= 7, labtest.Report{Did: "bound a pod, where the API server could not be reached, stopped the scheduler after five tries or so, and counted them", Want: "2 to 7", Got: fmt.Sprint(len(seen.at)),
				Cause: "try until there is an answer or the context has ended; after the end, control.Sleep waits no longer, so ask ctx.Err() after it"})
		})
	})
}

func TestTask4DecisionStandsUntilTheCacheShowsThePod(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		var gate mastertest.Gate
		lost := mastertest.Once(isBinding, unanswered)
		held := gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") })
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			return held(r, func() (*http.Response, error) { return lost(r, do) })
		})
		s, web := decided(lab, bench)
		gate.Shut()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.bind(lab.Context(), web, "n")
		}()
		time.Sleep(time.Minute)
		lab.Equal("bound a pod, where the binding was done and the answer lost, and read where it is", place(lab, bench, "web"), "n", "writeBinding was not called")
		const did = "bound a pod, where the answer was lost, the second try was a conflict, and the watch told nothing for a minute; then counted what the ledger has on the node"
		lab.Equal(did, s.taken(), 1, "a conflict may mean that it is bound, and the cache does not show it yet: s.awaitPod before s.ledger.forget, or the room is given twice")
		gate.Open()
		<-ended
		mastertest.Settle()
		lab.Equal(did+", after the watch had told", s.taken(), 1, "s.ledger.forget takes back only what the watch has not told; is anything else taken off?")
	})
}

// Task 5

func TestTask5ReplicasAreSpreadAndThenAllIsQuiet(t *testing.T) {
	onBench(t, 5, func(lab *labtest.T, bench *mastertest.Bench) {
		mastertest.Join(lab, bench.Client, node("m", "1", "1Gi", "10"))
		bench.Start(New(bench.Deps()).Run)
		for i := range 6 {
			mastertest.Create(lab, bench.Client, pod(fmt.Sprint("web-", i), ownedBy("web"), requests("100m", "100Mi")))
			time.Sleep(time.Second)
		}
		mastertest.Settle()
		perNode := map[string]int{}
		for _, p := range mastertest.List[*corev1.Pod](lab, bench.Client) {
			perNode[p.Spec.NodeName]++
		}
		lab.Must(perNode["n"] == 3 && perNode["m"] == 3, labtest.Report{Did: "created 6 pods of one owner, one a second, where there are two nodes, n and m", Want: "3 on each",
			Got: fmt.Sprintf("%d on n, %d on m, %d without a node", perNode["n"], perNode["m"], perNode[""]), Cause: "for each key: read the pod, have the ledger assign a node, start bind"})
		writes := len(bench.Wire.Writes("/events"))
		lab.Equal("counted the writes for these 6 pods (but for the events)", writes, 6, "one binding for each pod, and no status: the API server sets the condition PodScheduled")
		for range 60 {
			time.Sleep(time.Minute)
			mastertest.ChangeStatus(lab, bench.Client, "", "n", func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() })
			mastertest.ChangeStatus(lab, bench.Client, "default", "web-0", mastertest.MakeReady)
		}
		lab.Equal("let an hour of heartbeats pass, and counted the writes", len(bench.Wire.Writes("/events"))-writes, 0, "what is bound needs nothing")
	})
}

func TestTask5OnlyPodsThatNeedANodeAreDecidedOn(t *testing.T) {
	onBench(t, 5, func(lab *labtest.T, bench *mastertest.Bench) {
		mastertest.Create(lab, bench.Client, pod("own", requests("100m", "1Mi")))
		mastertest.Create(lab, bench.Client, pod("foreign", func(p *corev1.Pod) { p.Spec.SchedulerName = "my-scheduler" }))
		mastertest.Create(lab, bench.Client, pod("placed", func(p *corev1.Pod) { p.Spec.NodeName = "elsewhere" }))
		mastertest.Create(lab, bench.Client, pod("leaving", func(p *corev1.Pod) { p.Finalizers = []string{"test/keep"} }))
		mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", "leaving", "")
		slow := func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if isBinding(r) {
				time.Sleep(5 * time.Second)
			}
			return do()
		}
		bench.Wire.Intercept(slow)
		s := idle(lab, bench)
		look := func(did, name string) {
			lab.Helper()
			defer func() {
				if r := recover(); r != nil {
					lab.Must(false, labtest.Report{Did: did, Want: "nothing to be done", Got: fmt.Sprintf("a panic: %v", r), Cause: "something is looked at that is not there: a pod that the cache does not have (its second result says so), or a node of which only pods are known (task 3)"})
				}
			}()
			if err := s.schedule(lab.Context(), "default/"+name); err != nil {
				lab.NoError(did, err, "nothing to do is no failure: return nil")
			}
		}
		look("scheduled the key of the pod own, which needs a node", "own")
		look("scheduled the key of the pod own once more, while its binding is under way", "own")
		for _, name := range []string{"gone", "foreign", "placed", "leaving"} {
			look("scheduled the key of the pod "+name+", which needs no node", name)
		}
		time.Sleep(time.Minute)
		bindings := map[string]int{}
		for _, write := range bench.Wire.Writes("/events") {
			for _, name := range []string{"own", "foreign", "placed", "leaving"} {
				if strings.Contains(write, "/"+name+"/binding") {
					bindings[name]++
				}
			}
		}
		lab.Equal("scheduled a pod twice, the second time while its binding was under way, and counted its bindings", bindings["own"], 1,
			"if there is none, bind was not started; if there are two, the decision was made again: s.ledger.assign notes it at once, and s.ledger.assigned(pod.UID) tells that there is one")
		for _, row := range []struct{ name, what string }{{"foreign", "of another scheduler"}, {"placed", "that has a node"}, {"leaving", "that is being deleted"}} {
			lab.Equal("scheduled a pod "+row.what+", and counted its bindings", bindings[row.name], 0, "a key only says where to look: needsNode tells whether there still is something to do")
		}
	})
}

func TestTask5PodThatFitsNowhereSaysWhyAndIsTriedAgain(t *testing.T) {
	onBench(t, 5, func(lab *labtest.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(mastertest.Once(func(r *http.Request) bool { return mastertest.Is(r, "PUT", "/web/status") }, conflict))
		s := New(bench.Deps())
		bench.Start(s.Run)
		mastertest.Create(lab, bench.Client, pod("web", requests("2", "1Mi")))
		mastertest.Settle()
		const why = "0/1 nodes are available: 1 Insufficient cpu."
		lab.Equal("created a pod that fits nowhere, where its status could be written at the second try only (the first is a conflict), and read its events after 3 s", told(lab, bench, "web"), "FailedScheduling: "+why,
			"reportUnfit writes the condition and tells; if it fails, its error has to be returned: only then the key comes again at once")
		web := mastertest.Get[*corev1.Pod](lab, bench.Client, "default", "web")
		lab.Check(len(web.Status.Conditions) == 1 && web.Status.Conditions[0].Message == why, labtest.Report{Did: "read the conditions of a pod that fits nowhere", Want: "PodScheduled is False: " + why,
			Got: fmt.Sprintf("%d conditions", len(web.Status.Conditions)), Cause: "reportUnfit writes it, with the refusal that the ledger has given"})
		time.Sleep(20 * time.Minute)
		lab.Equal("let 20 minutes pass, and read its events again", told(lab, bench, "web"), "FailedScheduling: "+why, "the same reason is told once: reportUnfit sees to that, if it is asked each time")
		s.ledger.setNode(nil, node("roomy", "4", "4Gi", "10"))
		time.Sleep(everUnfit + time.Minute)
		lab.Equal("made room in a way that nothing tells of, let six minutes pass, and read where the pod is", place(lab, bench, "web"), "roomy", "a change may go unnoticed, and a pod must not wait for ever: s.AddAfter(key, everUnfit), each time that it fits nowhere")
	})
}

func TestTask5DecisionsDoNotWaitForBindings(t *testing.T) {
	onBench(t, 5, func(lab *labtest.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if isBinding(r) {
				time.Sleep(5 * time.Second)
			}
			return do()
		})
		stop := bench.Start(New(bench.Deps()).Run)
		for i := range 12 {
			mastertest.Create(lab, bench.Client, pod(fmt.Sprint("web-", i), requests("10m", "1Mi")))
		}
		time.Sleep(8 * time.Second)
		count := bound(lab, bench)
		cause := "bind runs in the group s.binding; who waits for it, or calls it without the group, does one after the other"
		if count > 10 {
			cause = "a decision has to count at once, not when its binding is done: s.ledger.assign chooses and counts in one step"
		}
		lab.Must(count == 10, labtest.Report{Did: "created 12 pods where a node takes 10, and each binding takes 5 s; counted those that are bound after 8 s", Want: "10", Got: fmt.Sprint(count), Cause: cause})
		mastertest.Join(lab, bench.Client, node("roomy", "4", "4Gi", "10"))
		time.Sleep(time.Second)
		stop()
		count = bound(lab, bench)
		time.Sleep(time.Minute) // until all that is under way has ended
		lab.Equal("made room for the other two, stopped the scheduler one second later, and counted those that are bound when Run has returned", count, 12,
			"Run waits for the bindings under way, if they were started with s.binding.Go: who starts a goroutine waits for it")
	})
}

func TestTask5SchedulerThatStartsAnewSeesAllThatIsBound(t *testing.T) {
	onBench(t, 5, func(lab *labtest.T, bench *mastertest.Bench) {
		var gate mastertest.Gate
		bench.Wire.Intercept(gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") }))
		c := New(bench.Deps())
		mastertest.Create(lab, bench.Client, pod("waiting", large))
		mastertest.Settle()
		gate.Shut() // what a scheduler before this one did last is not in the cache
		mastertest.Create(lab, bench.Client, pod("placed", large))
		binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
		if err := client.Of[*corev1.Pod](bench.Client).CreateSubresource(lab.Context(), "default", "placed", "binding", binding); err != nil {
			lab.Fatal(err)
		}
		bench.Start(c.Run)
		mastertest.Settle()
		gate.Open()
		mastertest.Settle()
		lab.Check(bound(lab, bench) == 1, labtest.Report{
			Did:  "bound a pod where there is room for one, started a scheduler whose watch told nothing of it yet, with another pod waiting, and counted those that are bound",
			Want: "1", Got: fmt.Sprint(bound(lab, bench)),
			Cause: "read the pod from s.pods in schedule, not before: a loop looks only when its caches show the last bindings of the one before it"})
		if _, err := client.Of[*corev1.Pod](bench.Client).Delete(lab.Context(), "default", "placed", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			lab.Fatal(err)
		}
		mastertest.Settle()
		lab.Equal("took the bound pod away, and looked for the node of the one that waited", mastertest.Get[*corev1.Pod](lab, bench.Client, "default", "waiting").Spec.NodeName, "n",
			"a pod that fits nowhere is looked at again when there is room: see the tests before")
	})
}
