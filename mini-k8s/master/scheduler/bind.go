package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	bindTimeout  = 10 * time.Second
	retryBinding = time.Second
)

// bind carries a decision out.
//  1. Write the binding, again and again until the API server has said yes or no: a write of which nobody knows what
//     became may have been done all the same, and until then the decision stands.
//  2. If it was done, tell of it.
//  3. If it was refused because the pod is not as it was, wait until the cache shows the pod as it is now: if it is
//     bound, its room stays taken.
//  4. If it was refused, take the decision back: there is room for others, and the pod is looked at once more.
func (s *Scheduler) bind(ctx context.Context, pod *corev1.Pod, node string) {
	err := s.writeBinding(ctx, pod, node)
	for ; err != nil && !refused(err); err = s.writeBinding(ctx, pod, node) {
		slog.Warn("binding failed, trying again", "pod", control.Key(pod), "node", node, "reason", err)
		if control.Sleep(ctx, retryBinding); ctx.Err() != nil {
			return
		}
	}
	if err == nil {
		slog.Info("scheduled", "pod", control.Key(pod), "node", node)
		s.events.Normal(pod, "Scheduled", "Successfully assigned %s to %s", control.Key(pod), node)
		return
	}
	if apierrors.IsConflict(err) {
		if now, err := s.pods.Resource.Get(ctx, pod.Namespace, pod.Name); err == nil {
			s.pods.WaitFor(ctx, control.Revision(now.ResourceVersion))
		}
	}
	s.ledger.forget(pod.UID)
	s.retryUnfit()
	slog.Info("binding refused", "pod", control.Key(pod), "node", node, "reason", err)
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

// refused reports whether the API server has said no. A failure of its own, or of the connection, leaves it open.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError
}
