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
	"fmt"
	"log/slog"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	bindTimeout  = 10 * time.Second
	maxBinding   = 64 // bindings under way at a time
	retryBinding = time.Second
	everUnfit    = 5 * time.Minute // a pod that fits nowhere is looked at again at the latest after this
	reasonNoNode = "FailedScheduling"
)

// Scheduler assigns pods to nodes.
type Scheduler struct {
	client client.Resource[*corev1.Pod]
	events *control.Events
	pods   *control.Informer[*corev1.Pod]
	nodes  *control.Informer[*corev1.Node]
}

// New returns a scheduler that does nothing until Run.
func New(deps control.Deps) *Scheduler {
	deps = deps.As("scheduler")
	return &Scheduler{
		client: client.Of[*corev1.Pod](deps.Client), events: deps.Events,
		pods: control.Shared[*corev1.Pod](deps.Informers), nodes: control.Shared[*corev1.Node](deps.Informers),
	}
}

// run is the state of one Run.
type run struct {
	*Scheduler
	queue   *control.Queue
	ledger  *ledger
	binding chan struct{} // a place for each binding under way
	bound   sync.WaitGroup

	mu    sync.Mutex
	unfit map[string]string // pods that fit nowhere, and the reason that was recorded
}

// Run schedules until the context ends.
func (s *Scheduler) Run(ctx context.Context) error {
	r := &run{Scheduler: s, queue: control.NewQueue("scheduler"), ledger: newLedger(),
		binding: make(chan struct{}, maxBinding), unfit: map[string]string{}}
	if err := s.nodes.WaitSynced(ctx); err != nil {
		return err
	}
	s.nodes.Subscribe(ctx, func(old, node *corev1.Node) {
		r.ledger.setNode(old, node)
		if node != nil && (old == nil || !sameForScheduling(old, node)) {
			r.retryUnfit()
		}
	})
	if err := s.pods.WaitSynced(ctx); err != nil {
		return err
	}
	s.pods.Subscribe(ctx, func(old, pod *corev1.Pod) {
		r.ledger.setPod(old, pod)
		switch {
		case pod != nil && needsNode(pod):
			r.queue.Add(control.Key(pod))
		case old != nil && old.Spec.NodeName != "" && (pod == nil || api.PodFinished(pod)):
			r.retryUnfit() // there is room
		}
	})
	// One worker: decisions are made one after the other, each knowing all before it. Only the writes overlap.
	err := r.queue.Run(ctx, 1, r.schedule)
	r.bound.Wait()
	return err
}

func needsNode(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && !api.PodFinished(pod) &&
		pod.Spec.SchedulerName == corev1.DefaultSchedulerName
}

// retryUnfit looks again at the pods that fitted nowhere.
func (r *run) retryUnfit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.unfit {
		r.queue.Add(key)
	}
}

// schedule finds a node for one pod and starts the binding.
func (r *run) schedule(ctx context.Context, key string) error {
	pod, ok := r.pods.Get(key)
	if !ok || !needsNode(pod) {
		r.forget(key)
		return nil
	}
	if r.ledger.assigned(pod.UID) {
		return nil // the binding is under way
	}
	node, refusals := r.ledger.choose(pod)
	if node == "" {
		r.reportUnfit(ctx, pod, refusals)
		r.queue.AddAfter(key, everUnfit)
		return nil
	}
	r.ledger.assume(pod, node)
	r.forget(key)
	r.binding <- struct{}{}
	r.bound.Go(func() {
		defer func() { <-r.binding }()
		r.bind(ctx, pod, node)
	})
	return nil
}

// bind writes the decision. If it is refused, the room is free again and, if the pod is still there, it is looked
// at once more.
func (r *run) bind(ctx context.Context, pod *corev1.Pod, node string) {
	// A decision that was made is carried out even if the scheduler stops meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bindTimeout)
	defer cancel()
	binding := &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{Kind: "Binding", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	err := r.client.CreateSubresource(ctx, pod.Namespace, pod.Name, "binding", binding)
	if err == nil {
		slog.Info("scheduled", "pod", control.Key(pod), "node", node)
		r.events.Normal(pod, "Scheduled", "Successfully assigned %s to %s", control.Key(pod), node)
		return
	}
	r.ledger.forget(pod.UID)
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		r.queue.AddAfter(control.Key(pod), retryBinding)
	default:
		slog.Warn("binding failed", "pod", control.Key(pod), "node", node, "reason", err)
		r.queue.AddAfter(control.Key(pod), retryBinding)
	}
}

// reportUnfit records why a pod fits nowhere: once for each reason, not each time it is tried.
func (r *run) reportUnfit(ctx context.Context, pod *corev1.Pod, reason string) {
	key := control.Key(pod)
	r.mu.Lock()
	known := r.unfit[key] == reason
	r.unfit[key] = reason
	r.mu.Unlock()
	if known {
		return
	}
	slog.Info("no node fits", "pod", key, "reason", reason)
	r.events.Warning(pod, reasonNoNode, "%s", reason)
	status := pod.DeepCopy()
	api.SetPodCondition(status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: reason})
	if _, err := r.client.UpdateStatus(ctx, status); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		slog.Warn("cannot say that no node fits", "pod", key, "reason", fmt.Errorf("update status: %w", err))
	}
}

func (r *run) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unfit, key)
}
