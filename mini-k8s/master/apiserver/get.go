package apiserver

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// get answers with one object.
//  1. Get what is stored under the key of the request's kind, namespace and name.
//  2. Answer with a table of it if the client asks for one, with the revision of the object; a scale has no table. Else
//     respond with what is stored, and code 200.
//
// The error of the store is returned as it is: who called us makes a Status of it that names the object.
//
//lab:04 1
//lab:hint keyOf says where an object is stored; r has the kind, the namespace and the name; wantsTable, answerTable and respond are methods of r.
//lab:hint One s.Store.Get with r.Context(); then one of two answers. A table takes a slice of objects.
//lab:hint if r.wantsTable() && r.subresource != "scale" { return r.answerTable(w, []store.Object{stored}, stored.Revision) }, else r.respond(w, http.StatusOK, stored).
func (s *Server) get(w http.ResponseWriter, r *request) error {
	stored, err := s.Store.Get(r.Context(), keyOf(r.kind, r.namespace, r.name))
	if err != nil {
		return err
	}
	if r.wantsTable() && r.subresource != "scale" {
		return r.answerTable(w, []store.Object{stored}, stored.Revision)
	}
	return r.respond(w, http.StatusOK, stored)
}

// list answers with the objects of a kind, in one namespace or in all. It decodes none of them unless it must.
//  1. Read the options with readOptions; a client that wants to watch gets a watch.
//  2. List what is stored under the prefix of the request's kind and namespace: keyOf without a name.
//  3. Keep what the selectors match, with filter.
//  4. Answer with a table, or with code 200 and listJSON; each with the revision at which it was read: a watch from there
//     misses nothing.
//
//lab:04 1
//lab:hint readOptions, filter, listJSON, answerTable and writeJSON are given; s.watch does the rest for options.Watch.
//lab:hint Four steps, each of which may return an error: options, perhaps the watch, Store.List, filter. Then one of two answers.
//lab:hint objects, revision, err := s.Store.List(r.Context(), keyOf(r.kind, r.namespace, "")); the revision goes into the answer, whatever filter leaves.
func (s *Server) list(w http.ResponseWriter, r *request) error {
	options, selected, err := r.readOptions()
	if err != nil {
		return err
	}
	if options.Watch {
		return s.watch(w, r, options, selected)
	}
	objects, revision, err := s.Store.List(r.Context(), keyOf(r.kind, r.namespace, ""))
	if err != nil {
		return err
	}
	if objects, err = selected.filter(objects); err != nil {
		return err
	}
	if r.wantsTable() {
		return r.answerTable(w, objects, revision)
	}
	return writeJSON(w, http.StatusOK, listJSON(r.kind, objects, revision))
}

// collection answers a list or a watch at the revision, and in the form, that the client asks for: list knows the present
// and whole objects only.
func (s *Server) collection(w http.ResponseWriter, r *request) error {
	options, selected, err := r.readOptions()
	if err != nil {
		return err
	}
	revision, err := parseRevision(options.ResourceVersion)
	if err != nil {
		return err
	}
	if options.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		s = &Server{Config: Config{Store: asOf{s.Store, revision}}}
	} else if revision > 0 && !options.Watch { // the present will do, unless the store has not come so far: then it refuses a watch
		if _, err := s.Store.Watch("", revision); errors.Is(err, store.ErrFuture) {
			return err
		}
	}
	if r.wantsMetadata() && !options.Watch {
		return s.listMetadata(w, r, selected)
	}
	return s.list(w, r)
}

// asOf is a store whose lists are of the past.
type asOf struct {
	store.Store
	revision int64
}

// List implements store.Store.
func (s asOf) List(ctx context.Context, prefix string) ([]store.Object, int64, error) {
	return s.ListAt(ctx, prefix, s.revision)
}

// readOptions returns what the query of a list or a watch says, and the selectors in it.
func (r *request) readOptions() (options metav1.ListOptions, selected selection, err error) {
	query := r.URL.Query()
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&query, &options, nil); err != nil {
		return options, selected, badRequest("%v", err)
	}
	errs := validation.ValidateListOptions(&internalversion.ListOptions{Watch: options.Watch, SendInitialEvents: options.SendInitialEvents,
		ResourceVersion: options.ResourceVersion, ResourceVersionMatch: options.ResourceVersionMatch}, true)
	if len(errs) > 0 {
		return options, selected, apierrors.NewInvalid(metav1.Kind("ListOptions"), "", errs)
	}
	if options.Continue != "" {
		return options, selected, badRequest("continue: a list is always answered whole, so no token was given out")
	}
	selected, err = parseSelection(r.kind, options)
	return options, selected, err
}

// parseRevision returns 0 for an empty text, as for "0": any revision will do.
func parseRevision(text string) (int64, error) {
	revision, err := strconv.ParseInt(cmp.Or(text, "0"), 10, 64)
	if err != nil || revision < 0 {
		return 0, badRequest("resourceVersion: %q is not a revision", text)
	}
	return revision, nil
}

// find returns the objects that a request to a collection is about, and the revision at which they were read.
func (s *Server) find(r *request, selected selection) ([]store.Object, int64, error) {
	objects, revision, err := s.Store.List(r.Context(), keyOf(r.kind, r.namespace, ""))
	if err == nil {
		objects, err = selected.filter(objects)
	}
	return objects, revision, err
}

// listJSON writes a list out of the stored objects.
func listJSON(kind *api.Kind, objects []store.Object, revision int64) []byte {
	size := 256
	for _, o := range objects {
		size += len(o.Value) + 48
	}
	out := append(make([]byte, 0, size), `{"kind":"`+kind.Kind+`List","apiVersion":"`+kind.GroupVersion().String()+
		`","metadata":{"resourceVersion":"`+strconv.FormatInt(revision, 10)+`"},"items":[`...)
	for i, o := range objects {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendJSON(out, o)
	}
	return append(out, "]}"...)
}

// read returns an object that a request to another one needs.
func read[T api.Object](ctx context.Context, s *Server, namespace, name string) (object T, err error) {
	r := &request{kind: api.KindOf[T](), namespace: namespace, name: name}
	stored, err := s.Store.Get(ctx, keyOf(r.kind, namespace, name))
	if err != nil {
		return object, r.explain(err)
	}
	o, err := decode(r.kind, stored)
	if err != nil {
		return object, err
	}
	return o.(T), nil
}

// reader is read for those parts of the server that know no more of it than that.
func reader[T api.Object](s *Server) func(ctx context.Context, namespace, name string) (T, error) {
	return func(ctx context.Context, namespace, name string) (T, error) { return read[T](ctx, s, namespace, name) }
}
