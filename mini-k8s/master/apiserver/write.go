package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (s *Server) create(w http.ResponseWriter, r *request) error {
	object := r.kind.New()
	body, err := r.readBody()
	if err != nil {
		return err
	}
	if err := r.decode(body, object); err != nil {
		return err
	}
	if err := r.intoNamespace(object); err != nil {
		return err
	}
	if node := r.user.Node(); node != "" && r.kind.Resource != "events" && object.GetName() != node {
		return apierrors.NewForbidden(r.kind.GroupResource(), object.GetName(), errForbidden(r))
	}
	r.warnUnserved(nil, body)
	prepareCreate(r.kind, object)
	r.recordManager(object, "Update", "")
	r.kind.Default(object)
	if errs := r.kind.Validate(object, nil); len(errs) > 0 {
		return apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), object.GetName(), errs)
	}
	if err := s.checkNamespace(r.Context(), r.kind, object.GetNamespace()); err != nil {
		return err
	}
	value, err := encode(object)
	if err != nil {
		return err
	}
	key, revision := keyOf(r.kind, object.GetNamespace(), object.GetName()), int64(0)
	if !r.dryRun() {
		revision, err = s.Store.Create(r.Context(), key, value, r.manager())
	} else if _, err = s.Store.Get(r.Context(), key); err == nil {
		err = store.ErrExists
	} else if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if errors.Is(err, store.ErrExists) {
		return apierrors.NewAlreadyExists(r.kind.GroupResource(), object.GetName())
	} else if err != nil {
		return err
	}
	return answerWrite(w, r, http.StatusCreated, value, revision)
}

// A name made from generateName ends in so many random letters, and is a legal label if its beginning is.
const (
	generatedSuffix  = 5
	maxGeneratedBase = validation.DNS1123LabelMaxLength - generatedSuffix
)

// prepareCreate sets what the server alone decides about a new object.
func prepareCreate(kind *api.Kind, o api.Object) {
	if o.GetName() == "" && o.GetGenerateName() != "" {
		base := o.GetGenerateName()
		o.SetName(base[:min(len(base), maxGeneratedBase)] + rand.String(generatedSuffix))
	}
	o.SetUID(uuid.NewUUID())
	o.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
	o.SetDeletionTimestamp(nil)
	o.SetDeletionGracePeriodSeconds(nil)
	o.SetGeneration(1)
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	o.SetSelfLink("")
	kind.CopyStatus(kind.New(), o)
	if ns, ok := o.(*corev1.Namespace); ok {
		ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	}
}

// checkNamespace refuses to put a new object into a namespace that is not there, or is on its way out.
func (s *Server) checkNamespace(ctx context.Context, kind *api.Kind, name string) error {
	if !kind.Namespaced {
		return nil
	}
	object, _, err := s.read(ctx, api.KindOf[*corev1.Namespace](), "", name)
	if err != nil {
		return err
	}
	if object.GetDeletionTimestamp() != nil {
		return apierrors.NewForbidden(kind.GroupResource(), "", fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
	}
	return nil
}

func (s *Server) update(w http.ResponseWriter, r *request) error { return s.put(w, r, "") }

// put replaces an object or one of its subresources with what the client sent.
func (s *Server) put(w http.ResponseWriter, r *request, subresource string) error {
	sent := r.kind.New()
	body, err := r.readBody()
	if err != nil {
		return err
	}
	if err := r.decode(body, sent); err != nil {
		return err
	}
	if err := r.intoNamespace(sent); err != nil {
		return err
	}
	if subresource == "" {
		r.warnUnserved(nil, body)
	}
	return s.replace(w, r, subresource, func(current api.Object) (api.Object, error) {
		return sent.DeepCopyObject().(api.Object), nil
	})
}

// maxTries bounds how often a write without a resourceVersion is tried again when others write the same object.
const maxTries = 16

// replace is the one way in which an object changes: read it, make the new one from it, check that, write it if
// nobody else wrote meanwhile. change returns the new object; it may be called several times.
func (s *Server) replace(w http.ResponseWriter, r *request, subresource string, change func(current api.Object) (api.Object, error)) error {
	for try := 1; ; try++ {
		current, stored, err := s.read(r.Context(), r.kind, r.namespace, r.name)
		if err != nil {
			return err
		}
		object, err := change(current)
		if err != nil {
			return err
		}
		unconditional := object.GetResourceVersion() == ""
		if !unconditional && object.GetResourceVersion() != strconv.FormatInt(stored.Revision, 10) {
			return conflict(r)
		}
		if object.GetUID() != "" && object.GetUID() != current.GetUID() {
			return apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s): the object was deleted and created again", object.GetUID(), current.GetUID()))
		}
		value, err := r.prepareUpdate(object, current, subresource)
		if err != nil {
			return err
		}
		revision := stored.Revision
		switch {
		case bytes.Equal(value, stored.Value), r.dryRun(): // nothing to write
		case deletable(object):
			revision, err = s.Store.Delete(r.Context(), stored.Key, stored.Revision, r.manager())
		default:
			revision, err = s.Store.Update(r.Context(), stored.Key, value, stored.Revision, r.manager())
		}
		switch {
		case err == nil:
			return answerWrite(w, r, http.StatusOK, value, revision)
		case errors.Is(err, store.ErrNotFound):
			return apierrors.NewNotFound(r.kind.GroupResource(), r.name)
		case !errors.Is(err, store.ErrConflict):
			return err
		case !unconditional || try == maxTries:
			return conflict(r)
		}
	}
}

// prepareUpdate keeps what an update may not change, validates the result and returns it as it is to be stored.
// An update of the status changes nothing else, and one of the object does not change the status.
func (r *request) prepareUpdate(o, current api.Object, subresource string) ([]byte, error) {
	if subresource == "status" {
		whole := current.DeepCopyObject().(api.Object)
		r.kind.CopyStatus(o, whole)
		o = whole
	} else if subresource == "" {
		r.kind.CopyStatus(current, o)
		if ns, ok := o.(*corev1.Namespace); ok {
			ns.Spec.Finalizers = current.(*corev1.Namespace).Spec.Finalizers // which "finalize" alone may change
		}
	}
	o.SetUID(current.GetUID())
	o.SetCreationTimestamp(current.GetCreationTimestamp())
	o.SetDeletionTimestamp(current.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(current.GetDeletionGracePeriodSeconds())
	o.SetGenerateName(current.GetGenerateName())
	o.SetSelfLink("")
	o.SetManagedFields(current.GetManagedFields())
	r.kind.Default(o)
	o.SetGeneration(current.GetGeneration())
	if !r.kind.SameSpec(o, current) {
		o.SetGeneration(current.GetGeneration() + 1)
	}
	o.SetResourceVersion(current.GetResourceVersion())                                  // validation asks for one
	if errs := r.kind.Validate(o, current); len(errs) > 0 && subresource != "binding" { // which alone may set a pod's node
		return nil, apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), o.GetName(), errs)
	}
	same, err := encode(o)
	if err != nil {
		return nil, err
	}
	if before, err := encode(current); err != nil || bytes.Equal(before, same) {
		return same, err // who changes nothing is no author
	}
	r.recordManager(o, "Update", subresource)
	return encode(o)
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

// recordManager notes in metadata.managedFields who wrote, and when. Which fields they own, as server-side apply
// would have it, is not kept.
func (r *request) recordManager(o api.Object, operation metav1.ManagedFieldsOperationType, subresource string) {
	now := metav1.Now().Rfc3339Copy()
	entry := metav1.ManagedFieldsEntry{Manager: r.manager(), Operation: operation, APIVersion: r.kind.GroupVersion().String(), Time: &now, Subresource: subresource}
	others := slices.DeleteFunc(slices.Clone(o.GetManagedFields()), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == entry.Manager && e.Operation == entry.Operation && e.Subresource == entry.Subresource
	})
	o.SetManagedFields(append(others, entry))
}

// manager returns the name of the program that calls.
func (r *request) manager() string {
	if manager := r.URL.Query().Get("fieldManager"); manager != "" {
		return manager
	}
	agent, _, _ := strings.Cut(r.UserAgent(), "/")
	if agent == "" {
		return "unknown"
	}
	return agent
}

func (r *request) dryRun() bool { return r.URL.Query().Get("dryRun") == metav1.DryRunAll }

func conflict(r *request) error {
	return apierrors.NewConflict(r.kind.GroupResource(), r.name,
		errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

// answerWrite answers with the object as it is stored now.
func answerWrite(w http.ResponseWriter, r *request, code int, value []byte, revision int64) error {
	addWarnings(w, r.warnings)
	return writeJSON(w, code, withRevision(value, revision))
}
