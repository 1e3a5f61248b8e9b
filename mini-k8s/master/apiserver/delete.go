package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *Server) delete(w http.ResponseWriter, r *request) error {
	options, err := r.deleteOptions()
	if err != nil {
		return err
	}
	return s.remove(w, r, options)
}

// deleteOptions reads them from the body or the query.
func (r *request) deleteOptions() (metav1.DeleteOptions, error) {
	var options metav1.DeleteOptions
	body, err := r.readBody()
	if err != nil {
		return options, err
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return options, apierrors.NewBadRequest("the body is not DeleteOptions: " + err.Error())
		}
	}
	query := r.URL.Query()
	if seconds := query.Get("gracePeriodSeconds"); seconds != "" {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return options, apierrors.NewBadRequest(fmt.Sprintf("gracePeriodSeconds: %q is not a number", seconds))
		}
		options.GracePeriodSeconds = &n
	}
	if policy := metav1.DeletionPropagation(query.Get("propagationPolicy")); policy != "" {
		options.PropagationPolicy = &policy
	}
	if len(options.DryRun) > 0 {
		query.Set("dryRun", options.DryRun[0])
		r.URL.RawQuery = query.Encode()
	}
	return options, nil
}

// remove deletes an object at once, or marks it as being deleted while something still has to happen: a pod's
// containers to stop, dependents to go, a namespace to be emptied.
func (s *Server) remove(w http.ResponseWriter, r *request, options metav1.DeleteOptions) error {
	for try := 1; ; try++ {
		object, stored, err := s.read(r.Context(), r.kind, r.namespace, r.name)
		if err != nil {
			return err
		}
		if err := checkPreconditions(r, object, options.Preconditions); err != nil {
			return err
		}
		if err := markDeleted(object, options); err != nil {
			return err
		}
		value, err := encode(object)
		if err != nil {
			return err
		}
		revision := stored.Revision
		switch {
		case r.dryRun():
		case deletable(object):
			revision, err = s.Store.Delete(r.Context(), stored.Key, stored.Revision, r.manager())
		case string(value) != string(stored.Value):
			r.recordManager(object, "Update", "")
			if value, err = encode(object); err != nil {
				return err
			}
			revision, err = s.Store.Update(r.Context(), stored.Key, value, stored.Revision, r.manager())
		}
		switch {
		case err == nil:
			return answerWrite(w, r, http.StatusOK, value, revision)
		case errors.Is(err, store.ErrNotFound):
			return apierrors.NewNotFound(r.kind.GroupResource(), r.name)
		case !errors.Is(err, store.ErrConflict):
			return err
		case try == maxTries:
			return conflict(r)
		}
	}
}

func checkPreconditions(r *request, o api.Object, wanted *metav1.Preconditions) error {
	if wanted == nil {
		return nil
	}
	if wanted.UID != nil && *wanted.UID != o.GetUID() {
		return apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s)", *wanted.UID, o.GetUID()))
	}
	if wanted.ResourceVersion != nil && *wanted.ResourceVersion != o.GetResourceVersion() {
		return apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("the resourceVersion in the precondition (%s) does not match that in record (%s)", *wanted.ResourceVersion, o.GetResourceVersion()))
	}
	return nil
}

// markDeleted sets the deletion timestamp, the grace period and the finalizers that the options ask for. An object
// that is being deleted already only gets less time, never more.
func markDeleted(o api.Object, options metav1.DeleteOptions) error {
	grace := int64(0)
	if pod, ok := o.(*corev1.Pod); ok {
		grace = gracePeriod(pod, options)
	}
	if before := o.GetDeletionGracePeriodSeconds(); before != nil {
		grace = min(grace, *before)
	}
	if o.GetDeletionTimestamp() == nil || grace < *o.GetDeletionGracePeriodSeconds() {
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
	switch policy {
	case metav1.DeletePropagationBackground:
	case metav1.DeletePropagationForeground:
		addFinalizer(o, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		addFinalizer(o, metav1.FinalizerOrphanDependents)
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("propagationPolicy: %q is not one of Background, Foreground, Orphan", policy))
	}
	if ns, ok := o.(*corev1.Namespace); ok {
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

func addFinalizer(o api.Object, name string) {
	if !slices.Contains(o.GetFinalizers(), name) {
		o.SetFinalizers(append(o.GetFinalizers(), name))
	}
}
