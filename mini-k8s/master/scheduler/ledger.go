package scheduler

import (
	"math"
	"sync"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ledger keeps what is taken on each node, so that a decision costs one look at each node and none at the pods. It
// follows the watch, and knows of the scheduler's own decisions before the watch tells.
type ledger struct {
	mu      sync.Mutex // guards all below
	nodes   map[string]*nodeInfo
	entries map[types.UID]entry // what each pod takes, and where
}

type entry struct {
	node    string
	owner   string
	takes   resources
	assumed bool // decided, but the watch has not told it yet
}

// nodeInfo is a node with what is taken of it.
type nodeInfo struct {
	*corev1.Node // nil while only pods of it are known
	room, used   resources
	owners       map[string]int // pods by owner
}

func newLedger() *ledger {
	return &ledger{nodes: map[string]*nodeInfo{}, entries: map[types.UID]entry{}}
}

func (l *ledger) node(name string) *nodeInfo {
	if l.nodes[name] == nil {
		l.nodes[name] = &nodeInfo{owners: map[string]int{}}
	}
	return l.nodes[name]
}

// setNode follows a change of a node; node is nil if it is gone.
func (l *ledger) setNode(old, node *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if node == nil {
		l.node(old.Name).Node = nil
		l.drop(old.Name)
		return
	}
	info := l.node(node.Name)
	info.Node, info.room = node, roomOf(node)
}

// setPod follows a change of a pod; pod is nil if it is gone. A pod that has finished takes nothing.
func (l *ledger) setPod(old, pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case pod == nil:
		l.free(old.UID)
	case api.PodFinished(pod):
		l.free(pod.UID)
	case pod.Spec.NodeName != "":
		l.take(pod, pod.Spec.NodeName, false)
	}
}

// assume counts a pod on a node before it is bound.
func (l *ledger) assume(pod *corev1.Pod, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.take(pod, node, true)
}

// forget takes an assumption back. What the watch has told stays.
func (l *ledger) forget(pod types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries[pod].assumed {
		l.free(pod)
	}
}

func (l *ledger) assigned(pod types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.entries[pod]
	return ok
}

func (l *ledger) take(pod *corev1.Pod, node string, assumed bool) {
	e := entry{node: node, owner: ownerOf(pod), takes: requestsOf(pod), assumed: assumed}
	if l.entries[pod.UID] == e {
		return
	}
	l.free(pod.UID)
	l.entries[pod.UID] = e
	info := l.node(node)
	info.used = resources{info.used.cpu + e.takes.cpu, info.used.memory + e.takes.memory, info.used.pods + 1}
	info.owners[e.owner]++
}

func (l *ledger) free(pod types.UID) {
	e, ok := l.entries[pod]
	if !ok {
		return
	}
	delete(l.entries, pod)
	info := l.node(e.node)
	info.used = resources{info.used.cpu - e.takes.cpu, info.used.memory - e.takes.memory, info.used.pods - 1}
	if info.owners[e.owner]--; info.owners[e.owner] == 0 {
		delete(info.owners, e.owner)
	}
	l.drop(e.node)
}

// drop forgets a node that is gone, and its pods too.
func (l *ledger) drop(node string) {
	if info := l.nodes[node]; info.Node == nil && info.used.pods == 0 {
		delete(l.nodes, node)
	}
}

// choose returns the best node for a pod, or "" and why none will do. Of equal nodes the first by name wins, so
// that a decision can be told from what the ledger holds.
func (l *ledger) choose(pod *corev1.Pod) (best, refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	refusals := map[string]int{}
	nodes, bestScore := 0, math.Inf(-1)
	for name, node := range l.nodes {
		if node.Node == nil {
			continue
		}
		nodes++
		if reasons := refuse(pod, node); len(reasons) > 0 {
			for _, why := range reasons {
				refusals[why]++
			}
			continue
		}
		if s := score(pod, node); s > bestScore || s == bestScore && name < best {
			best, bestScore = name, s
		}
	}
	if best == "" {
		return "", explain(nodes, refusals)
	}
	return best, ""
}

// refuse returns what the first filter that refuses has against the node.
func refuse(pod *corev1.Pod, node *nodeInfo) []string {
	for _, f := range filters {
		if reasons := f(pod, node); len(reasons) > 0 {
			return reasons
		}
	}
	return nil
}
