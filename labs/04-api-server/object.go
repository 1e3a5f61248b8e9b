package apiserver

import (
	"cmp"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
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
