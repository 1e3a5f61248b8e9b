package apiserver

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/access"
	"workshop/mini-k8s/master/apiserver/addresses"
	"workshop/mini-k8s/master/apiserver/bodies"
	"workshop/mini-k8s/master/apiserver/deletion"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// create stores a new object.
//  1. Read it from the body, into a new object of the request's kind, with readNew.
//  2. Set what the server alone decides, and the defaults, with prepareCreate. Only now it has its name for sure: note it
//     in r.name, for what is said and stored from here on.
//  3. Refuse it if the kind's Validate finds something (an update would pass the old object; here there is none): all of
//     that in one apierrors.NewInvalid with the kind and the name. Then refuse it if checkNamespace does.
//  4. Save it in the place of nothing: of a store.Object that has a key, and revision 0. Respond with what was saved, and
//     code 201.
//
// The order counts: what is refused has left nothing, and what is stored is complete.
//
//lab:04 2
func (s *Server) create(w http.ResponseWriter, r *request) error {
	object := r.kind.New()
	if err := r.readNew(object); err != nil {
		return err
	}
	prepareCreate(r.kind, object)
	r.name = object.GetName()
	if errs := r.kind.Validate(object, nil); len(errs) > 0 {
		return apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), r.name, errs)
	}
	if err := s.checkNamespace(r); err != nil {
		return err
	}
	saved, err := s.save(r, object, store.Object{Key: keyOf(r.kind, r.namespace, r.name)})
	if err != nil {
		return err
	}
	return r.respond(w, http.StatusCreated, saved)
}

// readNew reads an object to create from the body.
func (r *request) readNew(into api.Object) error {
	body, err := bodies.JSON(r.Request)
	if err != nil {
		return err
	}
	if err := r.readObject(body, into); err != nil {
		return err
	}
	r.warnings = append(r.warnings, r.kind.Warnings(into, nil)...)
	return access.CheckNew(r.user, r.attributes(), into)
}

// checkNamespace refuses to put a new object into a namespace that is not there, or is on its way out.
func (s *Server) checkNamespace(r *request) error {
	if !r.kind.Namespaced {
		return nil
	}
	namespace, err := read[*corev1.Namespace](r.Context(), s, "", r.namespace)
	if err != nil {
		return err
	}
	if namespace.DeletionTimestamp != nil {
		refusal := apierrors.NewForbidden(r.kind.GroupResource(), r.name,
			errors.New("unable to create new content in namespace "+r.namespace+" because it is being terminated"))
		// By the cause controllers tell it from a refusal for good.
		refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause,
			Message: "namespace " + r.namespace + " is being terminated", Field: "metadata.namespace"}}
		return refusal
	}
	return nil
}

// update replaces an object, or the part that is the subresource, with what the client sent.
func (s *Server) update(w http.ResponseWriter, r *request) error {
	body, err := bodies.JSON(r.Request)
	if err != nil {
		return err
	}
	return s.replace(w, r, func(current api.Object) (api.Object, error) { return r.accept(body, current) })
}

// delete removes an object at once, or marks it as being deleted while something still has to happen: a pod's
// containers to stop, dependents to go, a namespace to be emptied.
func (s *Server) delete(w http.ResponseWriter, r *request) error {
	options, err := r.deleteOptions()
	if err != nil {
		return err
	}
	return s.remove(w, r, options)
}

// deleteOptions returns what the query and the body of a deletion say.
func (r *request) deleteOptions() (options metav1.DeleteOptions, err error) {
	query := r.URL.Query()
	if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&query, &options, nil); err != nil {
		return options, badRequest("DeleteOptions: %v", err)
	}
	return options, bodies.Into(r.Request, &options, "a DeleteOptions")
}

// deleteCollection deletes the objects of a namespace that the selectors match, each as if by a request of its own, and
// answers with what they were. What others have deleted meanwhile is gone as well.
func (s *Server) deleteCollection(w http.ResponseWriter, r *request) error {
	options, err := r.deleteOptions()
	if err != nil {
		return err
	}
	_, selected, err := r.readOptions()
	if err != nil {
		return err
	}
	objects, revision, err := s.find(r, selected)
	if err != nil {
		return err
	}
	for _, o := range objects {
		one := *r
		one.name = path.Base(o.Key)
		if err := one.explain(s.remove(&unsent{ResponseWriter: w}, &one, options)); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, listJSON(r.kind, objects, revision))
}

// unsent keeps an answer that the client is not to get. Its header counts.
type unsent struct {
	http.ResponseWriter
	body []byte
}

func (u *unsent) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (u *unsent) Write(body []byte) (int, error) {
	u.body = body
	return len(body), nil
}

func (s *Server) remove(w http.ResponseWriter, r *request, options metav1.DeleteOptions) error {
	r.dryRun = r.dryRun || len(options.DryRun) > 0
	return s.replace(w, r, func(object api.Object) (api.Object, error) {
		if wanted := options.Preconditions; wanted != nil {
			if err := r.checkIdentity(object, wanted.UID, wanted.ResourceVersion); err != nil {
				return nil, err
			}
		}
		return object, deletion.Begin(object, options)
	})
}

// maxTries bounds how often a change is tried again when others write the same object.
const maxTries = 16

// replace is the one way in which an object changes: update, patch, delete, bind and scale all come here.
//  1. Read what is stored, and decode it: each time a fresh object.
//  2. Make the new one from it with change, which may do so in place. It fails if the client wanted another object than
//     this, for example one of another revision: that is the client's answer, whatever error it is.
//  3. Save the new one in the place of what was stored; save fails with store.ErrConflict if somebody has written since.
//  4. In that case, and in no other, begin again at 1: change sees what they wrote, and decides anew. Give up with the
//     conflict after maxTries.
//  5. Respond with what was saved, and code 200.
//
//lab:04 3
func (s *Server) replace(w http.ResponseWriter, r *request, change func(api.Object) (api.Object, error)) error {
	for try := 1; ; try++ {
		stored, err := s.Store.Get(r.Context(), keyOf(r.kind, r.namespace, r.name))
		if err != nil {
			return err
		}
		current, err := decode(r.kind, stored)
		if err != nil {
			return err
		}
		object, err := change(current)
		if err != nil {
			return err
		}
		saved, err := s.save(r, object, stored)
		if err == nil {
			return r.respond(w, http.StatusOK, saved)
		}
		if !errors.Is(err, store.ErrConflict) || try == maxTries {
			return err
		}
	}
}

// save stores an object in the place of an old one, whose revision is 0 if there was none, and returns what is stored. It
// sees to it that a service has addresses, and no others have them.
func (s *Server) save(r *request, object api.Object, old store.Object) (saved store.Object, err error) {
	service, ok := object.(*corev1.Service)
	if !ok {
		return s.write(r.Context(), r, object, old)
	}
	change := addresses.Change{Service: service, Old: old, Deletes: deletion.Done(service), DryRun: r.dryRun, Who: r.manager()}
	err = s.addresses.Write(r.Context(), change, func(ctx context.Context) (err error) {
		saved, err = s.write(ctx, r, object, old)
		return err
	})
	return saved, err
}

// write stores an object as save says, as long as ctx lasts.
//  1. Encode the object. If that changes anything, note who did it.
//  2. Write nothing in a dry run, but tell if the object to create is there already.
//  3. Delete an object that is being deleted when nothing keeps it any longer.
//  4. Write nothing if nothing changes.
//  5. Create or update it; the store refuses that if the old object is not what it was.
func (s *Server) write(ctx context.Context, r *request, object api.Object, old store.Object) (saved store.Object, err error) {
	value, err := encode(object)
	if err == nil && !bytes.Equal(value, old.Value) {
		r.recordManager(object)
		value, err = encode(object)
	}
	if err == nil {
		err = checkTimes(r.kind, value)
	}
	if err != nil {
		return store.Object{}, err
	}
	saved = store.Object{Key: old.Key, Value: value, Revision: old.Revision}
	who := r.author()
	switch {
	case len(value) > bodies.MaxSize:
		err = &http.MaxBytesError{Limit: bodies.MaxSize} // nobody could send it back
	case r.dryRun:
		if _, found := s.Store.Get(ctx, old.Key); old.Revision == 0 && found == nil {
			err = store.ErrExists
		}
	case deletion.Done(object):
		saved.Revision, err = s.Store.Delete(ctx, old.Key, old.Revision, who)
	case bytes.Equal(value, old.Value):
	case old.Revision == 0:
		saved.Revision, err = s.Store.Create(ctx, old.Key, value, who)
	default:
		saved.Revision, err = s.Store.Update(ctx, old.Key, value, old.Revision, who)
	}
	return saved, err
}
