// Package deletion decides how an object goes. A deletion only marks it, and each write after that asks whether it may go
// now: while it has finalizers, while a pod's containers stop, while a namespace is not empty, it stays for those who see to
// that.
//
// Invariants:
//  1. An object that is being deleted never comes back, and never gets more time than it had.
//  2. Both functions are pure, but for the clock.
//
// In Kubernetes: k8s.io/apiserver/pkg/registry/rest/delete.go, with a strategy for each kind.
package deletion

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Begin sets the deletion timestamp, the grace period and the finalizers that the options ask for. An object
// that is being deleted already only gets less time, never more.
func Begin(o api.Object, options metav1.DeleteOptions) error {
	grace, before := int64(0), o.GetDeletionGracePeriodSeconds()
	if pod, ok := o.(*corev1.Pod); ok {
		grace = gracePeriod(pod, options)
	}
	if before == nil || grace < *before {
		at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
		o.SetDeletionTimestamp(&at)
		o.SetDeletionGracePeriodSeconds(&grace)
	}
	policy := metav1.DeletePropagationBackground
	if options.PropagationPolicy != nil {
		policy = *options.PropagationPolicy
	} else if options.OrphanDependents != nil && *options.OrphanDependents {
		policy = metav1.DeletePropagationOrphan
	}
	finalizers := map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationBackground: "",
		metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents,
		metav1.DeletePropagationOrphan:     metav1.FinalizerOrphanDependents,
	}
	finalizer, known := finalizers[policy]
	if !known {
		return apierrors.NewBadRequest(fmt.Sprintf("propagationPolicy: %q is not one of Background, Foreground, Orphan", policy))
	}
	if finalizer != "" && !slices.Contains(o.GetFinalizers(), finalizer) {
		o.SetFinalizers(append(o.GetFinalizers(), finalizer))
	}
	if ns, ok := o.(*corev1.Namespace); ok {
		if slices.Contains([]string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}, ns.Name) {
			return apierrors.NewForbidden(corev1.Resource("namespaces"), ns.Name, errors.New("this namespace may not be deleted"))
		}
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	return nil
}

// gracePeriod returns how long the pod's containers have to stop, in seconds. A pod that runs nowhere needs no time.
func gracePeriod(pod *corev1.Pod, options metav1.DeleteOptions) int64 {
	switch {
	case pod.Spec.NodeName == "", api.PodFinished(pod):
		return 0
	case options.GracePeriodSeconds != nil:
		return max(0, *options.GracePeriodSeconds)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// Done reports whether nothing keeps an object that is being deleted.
func Done(o api.Object) bool {
	if o.GetDeletionTimestamp() == nil || len(o.GetFinalizers()) > 0 {
		return false
	}
	switch o := o.(type) {
	case *corev1.Namespace:
		return len(o.Spec.Finalizers) == 0
	case *corev1.Pod:
		return o.DeletionGracePeriodSeconds == nil || *o.DeletionGracePeriodSeconds == 0
	}
	return true
}
