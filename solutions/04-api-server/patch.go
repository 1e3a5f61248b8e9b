package apiserver

import (
	"encoding/json"
	"net/http"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/bodies"
	"workshop/mini-k8s/master/store"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// patch changes an object, or the part that is the subresource, as a patch says. A patch without a resourceVersion
// applies to whatever is there; one with another than the current is a conflict, perhaps on a second try only.
func (s *Server) patch(w http.ResponseWriter, r *request) error {
	patch, err := bodies.ReadPatch(r.Request)
	if err != nil {
		return err
	}
	if patch.Type == types.ApplyYAMLPatchType {
		return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "apply", r.kind.GroupResource(), r.name,
			"server-side apply is out of scope here: use `kubectl apply` without --server-side", 0, true)
	}
	return s.replace(w, r, func(current api.Object) (api.Object, error) {
		before, err := json.Marshal(r.part(current))
		if err != nil {
			return nil, err
		}
		after, err := patch.Apply(before, r.empty())
		if err != nil {
			return nil, err
		}
		return r.accept(after, current)
	})
}

// accept returns the current object with what the client may change as it stands in the body.
func (r *request) accept(body []byte, current api.Object) (api.Object, error) {
	sent := r.empty()
	if err := r.readObject(body, sent); err != nil {
		return nil, err
	}
	uid, revision := sent.GetUID(), sent.GetResourceVersion()
	if err := r.checkIdentity(current, &uid, &revision); err != nil {
		return nil, err
	}
	r.kind.Default(current) // an older version may have stored it, with fewer defaults: they are no changes
	o := current.DeepCopyObject().(api.Object)
	switch r.subresource {
	case "scale":
		api.SetScale(o, sent.(*autoscalingv1.Scale))
	case "status":
		r.kind.CopyStatus(sent, o)
	default:
		r.warnings = append(r.warnings, r.kind.Warnings(sent, current)...)
		o = sent
		r.keep(current, o)
	}
	r.kind.Default(o)
	if !r.kind.SameSpec(o, current) {
		o.SetGeneration(current.GetGeneration() + 1)
	}
	if errs := r.kind.Validate(o, current); len(errs) > 0 {
		return nil, apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), o.GetName(), errs)
	}
	return o, nil
}

// checkIdentity refuses another object than the one that the client means, unless it left that open.
func (r *request) checkIdentity(current api.Object, uid *types.UID, revision *string) error {
	if uid != nil && *uid != "" && *uid != current.GetUID() {
		return r.conflict("the UID in the precondition (%s) does not match the UID in record (%s): the object was deleted and created again",
			*uid, current.GetUID())
	}
	if revision != nil && *revision != "" && *revision != current.GetResourceVersion() {
		return store.ErrConflict
	}
	return nil
}

// keep sets what an update of an object may not change to what it is now: all but the spec, or what the kind has in its
// place, and a part of the metadata.
func (r *request) keep(current, o api.Object) {
	metadata, sent := *metadataOf(current), metadataOf(o)
	metadata.Labels, metadata.Annotations = sent.Labels, sent.Annotations
	metadata.OwnerReferences, metadata.Finalizers = sent.OwnerReferences, sent.Finalizers
	*sent = metadata
	r.kind.CopyStatus(current, o)
	if ns, ok := o.(*corev1.Namespace); ok && r.subresource != "finalize" {
		ns.Spec.Finalizers = current.(*corev1.Namespace).Spec.Finalizers
	}
	if service, ok := o.(*corev1.Service); ok {
		api.KeepAddresses(&service.Spec, &current.(*corev1.Service).Spec)
	}
}
