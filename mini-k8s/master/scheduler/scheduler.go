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
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

	mu    sync.Mutex         // guards unfit
	unfit map[string]refusal // pods that fit nowhere, or are being looked at
}

// refusal is what was last recorded of a pod that fits nowhere. The zero value says that nothing was.
type refusal struct {
	pod    types.UID
	reason string
}

// Run schedules until the context ends.
func (s *Scheduler) Run(ctx context.Context) error {
	r := &run{Scheduler: s, queue: control.NewQueue("scheduler"), ledger: newLedger(),
		binding: make(chan struct{}, maxBinding), unfit: map[string]refusal{}}
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
		case pod == nil:
			r.queue.Add(control.Key(old)) // to forget it
		}
	})
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	// One worker: decisions are made one after the other, each knowing all before it. Only the writes overlap.
	err := r.queue.Run(ctx, 1, r.schedule)
	r.bound.Wait()
	return err
}

// catchUp waits until the cache shows every pod as the API server has it now: the last bindings of the scheduler that
// ran before this one may be newer than the cache, and their room is taken.
func (s *Scheduler) catchUp(ctx context.Context) error {
	for backoff := control.NewBackoff(50*time.Millisecond, 5*time.Second); ctx.Err() == nil; control.Sleep(ctx, backoff.Next()) {
		list, err := s.client.List(ctx, client.Selection{})
		if err != nil {
			slog.Debug("cannot list pods, trying again", "reason", err)
			continue
		}
		newest := int64(0)
		for _, pod := range list.Items {
			newest = max(newest, control.Revision(pod.ResourceVersion))
		}
		return s.pods.WaitFor(ctx, newest)
	}
	return ctx.Err()
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
	r.await(key)
	node, reason := r.ledger.choose(pod)
	if node == "" {
		r.queue.AddAfter(key, everUnfit)
		return r.reportUnfit(ctx, pod, reason)
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
	err := r.writeBinding(ctx, pod, node)
	for err != nil && !refused(err) && ctx.Err() == nil {
		// It may have been done all the same. Until the API server says, the decision stands.
		slog.Warn("binding failed, trying again", "pod", control.Key(pod), "node", node, "reason", err)
		control.Sleep(ctx, retryBinding)
		err = r.writeBinding(ctx, pod, node)
	}
	if err == nil {
		slog.Info("scheduled", "pod", control.Key(pod), "node", node)
		r.events.Normal(pod, "Scheduled", "Successfully assigned %s to %s", control.Key(pod), node)
		return
	}
	if ctx.Err() != nil {
		return
	}
	if apierrors.IsConflict(err) { // bound already, perhaps: then the cache will show it, and its room stays taken
		if now, err := r.client.Get(ctx, pod.Namespace, pod.Name); err == nil {
			r.pods.WaitFor(ctx, control.Revision(now.ResourceVersion))
		}
	}
	r.ledger.forget(pod.UID)
	r.retryUnfit() // there is room
	if !apierrors.IsNotFound(err) {
		slog.Warn("binding refused", "pod", control.Key(pod), "node", node, "reason", err)
		r.queue.AddAfter(control.Key(pod), retryBinding)
	}
}

// writeBinding carries a decision out, even if the scheduler stops meanwhile.
func (r *run) writeBinding(ctx context.Context, pod *corev1.Pod, node string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bindTimeout)
	defer cancel()
	return r.client.CreateSubresource(ctx, pod.Namespace, pod.Name, "binding", &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{Kind: "Binding", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	})
}

// refused reports whether the API server has said no. A failure of its own, or of the connection, leaves it open.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError
}

// await makes sure that a pod is looked at again when the cluster changes, from before the look on: what changes
// during the look counts as well.
func (r *run) await(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.unfit[key]; !ok {
		r.unfit[key] = refusal{}
	}
}

// reportUnfit records why a pod fits nowhere: once for each reason, not each time it is tried.
func (r *run) reportUnfit(ctx context.Context, pod *corev1.Pod, reason string) error {
	key, found := control.Key(pod), refusal{pod.UID, reason}
	r.mu.Lock()
	known := r.unfit[key] == found
	r.mu.Unlock()
	if known {
		return nil
	}
	status := pod.DeepCopy()
	api.SetPodCondition(status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: reason})
	if _, err := r.client.UpdateStatus(ctx, status); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("say that no node fits: %w", err)
	}
	slog.Info("no node fits", "pod", key, "reason", reason)
	r.events.Warning(pod, reasonNoNode, "%s", reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unfit[key] = found
	return nil
}

func (r *run) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unfit, key)
}
