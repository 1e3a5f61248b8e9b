package scheduler

import (
	"maps"
	"slices"
	"sync"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ledger keeps what is taken on each node, so that a decision costs one look at each node and none at the pods. It
// follows the watch, and knows of the scheduler's own decisions before the watch tells.
type ledger struct {
	mu      sync.Mutex // guards all below
	nodes   map[string]*nodeInfo
	entries map[types.UID]entry // what each pod takes, and where
	unfit   map[string]bool     // keys of pods that fitted nowhere when they were last looked at
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
	return &ledger{nodes: map[string]*nodeInfo{}, entries: map[types.UID]entry{}, unfit: map[string]bool{}}
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
		delete(l.unfit, control.Key(old))
	case api.PodFinished(pod):
		l.free(pod.UID)
	case pod.Spec.NodeName != "":
		l.take(pod, pod.Spec.NodeName, false)
	}
}

// assign chooses a node for a pod, and counts the pod on it before it is bound. If none will do, the pod is unfit,
// and assign returns "" and why.
func (l *ledger) assign(pod *corev1.Pod) (node, refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	node, refusal = choose(pod, l.nodes)
	if node == "" {
		l.unfit[control.Key(pod)] = true // in the same moment: whatever changes from now on counts
	} else {
		l.take(pod, node, true)
	}
	return node, refusal
}

// takeUnfit returns the pods that fitted nowhere, and forgets them.
func (l *ledger) takeUnfit() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := slices.Collect(maps.Keys(l.unfit))
	clear(l.unfit)
	return keys
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
	l.node(node).count(e, 1)
}

func (l *ledger) free(pod types.UID) {
	e, ok := l.entries[pod]
	if !ok {
		return
	}
	delete(l.entries, pod)
	l.nodes[e.node].count(e, -1)
	l.drop(e.node)
}

// count adds what a pod takes, or takes it off again.
func (n *nodeInfo) count(e entry, sign int64) {
	n.used = n.used.plus(e.takes, sign)
	if n.owners[e.owner] += int(sign); n.owners[e.owner] == 0 {
		delete(n.owners, e.owner)
	}
}

// drop forgets a node that is gone, and its pods too.
func (l *ledger) drop(node string) {
	if info := l.nodes[node]; info.Node == nil && info.used.pods == 0 {
		delete(l.nodes, node)
	}
}

// resources of a pod or a node: CPU in thousandths of a core, memory in bytes.
type resources struct{ cpu, memory, pods int64 }

// plus adds other resources, or takes them off if the sign is -1.
func (r resources) plus(other resources, sign int64) resources {
	return resources{r.cpu + sign*other.cpu, r.memory + sign*other.memory, r.pods + sign*other.pods}
}

func requestsOf(pod *corev1.Pod) resources {
	cpu, memory := api.PodRequests(pod)
	return resources{cpu: cpu.MilliValue(), memory: memory.Value(), pods: 1}
}

func roomOf(node *corev1.Node) resources {
	a := node.Status.Allocatable
	return resources{cpu: a.Cpu().MilliValue(), memory: a.Memory().Value(), pods: a.Pods().Value()}
}
