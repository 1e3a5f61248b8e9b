package scheduler

import (
	"context"
	"log/slog"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	bindTimeout  = 10 * time.Second
	retryBinding = time.Second
)

// schedule finds a node for the pod of the key and starts the binding.
//  1. Read the pod from the cache. If it is gone, needs no node (needsNode), or has been decided on already
//     (ledger.assigned), nothing is to be done.
//  2. Have the ledger assign a node. It chooses, and counts the pod on that node from this moment on.
//  3. If no node will do, have the key come again after everUnfit at the latest, and return what reportUnfit returns.
//  4. Otherwise start bind in the group binding and return, without waiting for it: the next pod waits for its decision.
//
//lab:05 5
//lab:hint The Scheduler has all that it takes: s.pods is the cache, s.ledger has assigned and assign, s.binding is an errgroup.Group, and the key comes again with s.AddAfter.
//lab:hint Leave with nil wherever there is nothing to do; a pod that fits nowhere is no error, either. Only the write goes into a goroutine: the decision is made here, one after the other.
//lab:hint pod, ok := s.pods.Get(key), then node, refusal := s.ledger.assign(pod); if node is "", s.AddAfter(key, everUnfit) and return s.reportUnfit(ctx, pod, refusal); else s.binding.Go(func() error { s.bind(ctx, pod, node); return nil }).
func (s *Scheduler) schedule(ctx context.Context, key string) error {
	pod, ok := s.pods.Get(key)
	if !ok || !needsNode(pod) || s.ledger.assigned(pod.UID) {
		return nil
	}
	node, refusal := s.ledger.assign(pod)
	if node == "" {
		s.AddAfter(key, everUnfit)
		return s.reportUnfit(ctx, pod, refusal)
	}
	s.binding.Go(func() error {
		s.bind(ctx, pod, node)
		return nil
	})
	return nil
}

// reportUnfit says why a pod fits nowhere: once for each reason, not each time it is tried.
func (s *Scheduler) reportUnfit(ctx context.Context, pod *corev1.Pod, reason string) error {
	told, err := s.pods.ChangeStatus(ctx, pod, func(p *corev1.Pod) {
		api.SetPodCondition(p, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: corev1.PodReasonUnschedulable, Message: reason})
	})
	if err == nil && told != pod {
		slog.Info("no node fits", "pod", control.Key(pod), "reason", reason)
		s.events.Warning(pod, "FailedScheduling", "%s", reason)
	}
	return err
}

// bind carries a decision out. The pod is counted on the node already; whether that stays so is decided here.
//  1. Write the binding with writeBinding. As long as the API server has said neither yes nor no (refused), wait for
//     retryBinding and write it again: a write of which nobody knows what became may have been done all the same, and
//     until then the decision stands. If the context has ended after a wait, return.
//  2. If it was done, tell of it, in an event of the pod: Scheduled, "Successfully assigned default/web to node-1".
//  3. If it was refused, it may be because an earlier try had been done: have awaitPod wait until the cache shows the
//     pod as it is now. If it is bound, the ledger has heard that from the watch by then.
//  4. Take the decision back, with ledger.forget, and look again at the pods that fitted nowhere (retryUnfit), for there
//     is room. Have the key of this pod come again after retryBinding.
//
//lab:05 4
//lab:hint Three helpers do what is difficult: writeBinding and awaitPod, below, and control.Refused. control.Sleep waits, control.Key makes the key, s.events.Normal tells.
//lab:hint There are three outcomes: err is nil (yes), control.Refused(err) (no), and all else (nobody knows). Only the last one goes round in the loop, and only the second one takes anything back.
//lab:hint err := s.writeBinding(ctx, pod, node); for err != nil && !control.Refused(err) { control.Sleep(ctx, retryBinding); if ctx.Err() != nil { return }; err = s.writeBinding(ctx, pod, node) }; after it, err == nil is the yes, and the rest is s.awaitPod(ctx, pod), s.ledger.forget(pod.UID), s.retryUnfit() and s.AddAfter(control.Key(pod), retryBinding).
func (s *Scheduler) bind(ctx context.Context, pod *corev1.Pod, node string) {
	err := s.writeBinding(ctx, pod, node)
	for err != nil && !control.Refused(err) {
		slog.Warn("binding failed, trying again", "pod", control.Key(pod), "node", node, "reason", err)
		control.Sleep(ctx, retryBinding)
		if ctx.Err() != nil {
			return
		}
		err = s.writeBinding(ctx, pod, node)
	}
	if err == nil {
		slog.Info("scheduled", "pod", control.Key(pod), "node", node)
		s.events.Normal(pod, "Scheduled", "Successfully assigned %s to %s", control.Key(pod), node)
		return
	}
	slog.Info("binding refused", "pod", control.Key(pod), "node", node, "reason", err)
	s.awaitPod(ctx, pod)
	s.ledger.forget(pod.UID)
	s.retryUnfit()
	s.AddAfter(control.Key(pod), retryBinding)
}

// writeBinding asks the API server to bind this very pod, even if the scheduler stops meanwhile.
func (s *Scheduler) writeBinding(ctx context.Context, pod *corev1.Pod, node string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bindTimeout)
	defer cancel()
	return s.pods.Resource.CreateSubresource(ctx, pod.Namespace, pod.Name, "binding", &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{Kind: "Binding", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	})
}

// awaitPod returns when the cache shows a pod as it is in the API server now.
func (s *Scheduler) awaitPod(ctx context.Context, pod *corev1.Pod) {
	if now, err := s.pods.Resource.Get(ctx, pod.Namespace, pod.Name); err == nil {
		s.pods.WaitFor(ctx, control.Revision(now.ResourceVersion))
	}
}
