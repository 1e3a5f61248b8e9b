package apiserver

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
)

// A name made from generateName ends in so many random letters, and is a legal label if its beginning is.
const (
	generatedSuffix  = 5
	maxGeneratedBase = validation.DNS1123LabelMaxLength - generatedSuffix
)

// prepareCreate sets what the server alone decides about a new object, and the defaults.
func prepareCreate(kind *api.Kind, o api.Object) {
	if base := o.GetGenerateName(); o.GetName() == "" && base != "" {
		o.SetName(base[:min(len(base), maxGeneratedBase)] + rand.String(generatedSuffix))
	}
	sent := metadataOf(o)
	*sent = metav1.ObjectMeta{
		Name: sent.Name, GenerateName: sent.GenerateName, Namespace: sent.Namespace, Labels: sent.Labels, Annotations: sent.Annotations,
		OwnerReferences: sent.OwnerReferences, Finalizers: sent.Finalizers,
		UID: uuid.NewUUID(), CreationTimestamp: metav1.Now().Rfc3339Copy(), Generation: 1,
	}
	kind.CopyStatus(kind.New(), o)
	if ns, ok := o.(*corev1.Namespace); ok {
		ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	}
	kind.Default(o)
}

func metadataOf(o api.Object) *metav1.ObjectMeta {
	return o.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
}

// markDeleted sets the deletion timestamp, the grace period and the finalizers that the options ask for. An object
// that is being deleted already only gets less time, never more.
func markDeleted(o api.Object, options metav1.DeleteOptions) error {
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
		return badRequest("propagationPolicy: %q is not one of Background, Foreground, Orphan", policy)
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

// deletable reports whether nothing keeps an object that is being deleted.
func deletable(o api.Object) bool {
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

// maxManagers bounds how many others than the last who wrote are remembered in an object.
const maxManagers = 9

// recordManager notes in metadata.managedFields who wrote, and when. Which fields they own, as server-side apply
// would have it, is not kept.
func (r *request) recordManager(o api.Object) {
	now := metav1.Now().Rfc3339Copy()
	entry := metav1.ManagedFieldsEntry{Manager: r.manager(), Operation: metav1.ManagedFieldsOperationUpdate,
		APIVersion: r.kind.GroupVersion().String(), Time: &now, Subresource: r.subresource}
	others := slices.DeleteFunc(slices.Clone(o.GetManagedFields()), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == entry.Manager && e.Subresource == entry.Subresource
	})
	o.SetManagedFields(append(others[max(0, len(others)-maxManagers):], entry))
}

// author returns who writes, for the log: the program, of which there may be one on each node.
func (r *request) author() string {
	if node := r.user.Node(); node != "" {
		return r.manager() + " (" + node + ")"
	}
	return r.manager()
}

// manager returns the name of the program that calls, as it can stand in JSON.
func (r *request) manager() string {
	agent, _, _ := strings.Cut(r.UserAgent(), "/")
	name := cmp.Or(r.URL.Query().Get("fieldManager"), agent, "unknown")
	return strings.ToValidUTF8(name[:min(len(name), metav1validation.FieldManagerMaxLength)], "")
}
