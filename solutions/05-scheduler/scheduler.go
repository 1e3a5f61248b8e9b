// Package scheduler gives each new pod a node: it filters out the nodes on which the pod cannot run, scores the
// rest, and binds the pod to the best. It starts nothing itself; the node's kubelet sees the binding and does.
//
// Invariants:
//  1. The pods on a node never ask for more than the node has, as long as this is the only scheduler: a decision
//     counts from the moment it is made, not only when the API server has confirmed it.
//  2. A pod is bound once, by one write, which the API server refuses if the pod is bound or gone.
//  3. A pod that fits nowhere says why, in an event, and is tried again as soon as the cluster changes.
//
// In Kubernetes: kube-scheduler, whose filters and scores are plug-ins (pkg/scheduler/framework, KEP-624), with
// priorities and preemption, affinity, topology spread, volumes, and a queue that knows which event may help which
// pod (KEP-4247).
package scheduler

import (
	"context"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
)

const (
	maxBinding = 64              // bindings under way at a time
	everUnfit  = 5 * time.Minute // a pod that fits nowhere is looked at again at the latest after this
)

// Scheduler assigns pods to nodes.
type Scheduler struct {
	*control.Loop
	nodes   *control.Objects[*corev1.Node]
	pods    *control.Objects[*corev1.Pod]
	events  *control.Events
	ledger  *ledger
	binding errgroup.Group // what is under way
}

// New returns a scheduler that does nothing until Run.
func New(deps control.Deps) *Scheduler {
	deps = deps.As("scheduler")
	s := &Scheduler{nodes: control.Of[*corev1.Node](deps), pods: control.Of[*corev1.Pod](deps), events: deps.Events, ledger: newLedger()}
	s.binding.SetLimit(maxBinding)
	// One worker: decisions are made one after the other, each knowing all before it. Only the writes overlap.
	s.Loop = control.NewLoop(deps, 1, s.schedule)
	control.Subscribe(s.Loop, s.nodes, s.nodeChanged)
	control.Subscribe(s.Loop, s.pods, s.podChanged)
	return s
}

// Run schedules until the context ends, and carries out what it has decided.
func (s *Scheduler) Run(ctx context.Context) error {
	err := s.Loop.Run(ctx)
	s.binding.Wait()
	return err
}

func (s *Scheduler) nodeChanged(old, node *corev1.Node) {
	s.ledger.setNode(old, node)
	if node != nil && (old == nil || !sameForScheduling(old, node)) {
		s.retryUnfit()
	}
}

func (s *Scheduler) podChanged(old, pod *corev1.Pod) {
	s.ledger.setPod(old, pod)
	switch {
	case pod != nil && needsNode(pod):
		s.Add(control.Key(pod))
	case old != nil && old.Spec.NodeName != "" && (pod == nil || api.PodFinished(pod)):
		s.retryUnfit() // there is room
	}
}

// retryUnfit looks again at the pods that fitted nowhere.
func (s *Scheduler) retryUnfit() {
	for _, key := range s.ledger.takeUnfit() {
		s.Add(key)
	}
}

func needsNode(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && !api.PodFinished(pod) &&
		pod.Spec.SchedulerName == corev1.DefaultSchedulerName
}
