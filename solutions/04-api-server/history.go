package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// life is that of an object, of former ones of its name, and of all that ever belonged to them.
type life struct {
	*request
	server *Server
	uids   map[types.UID]bool // of all these
	out    *stream
}

// history tells the life of an object as far back as the log goes: in the form of a watch, an entry a line. With
// watch=true it marks the present and goes on. In Kubernetes there is no such thing.
func (s *Server) history(w http.ResponseWriter, r *request) error {
	l := &life{request: r, server: s, uids: map[types.UID]bool{}, out: &stream{w: w, r: r, bookmarks: true}}
	if r.user.Node() != "" {
		return r.forbidden() // no node needs it
	}
	state, after, err := s.Store.ListAt(r.Context(), "", store.Oldest)
	if err != nil {
		return err
	}
	_, present, err := s.Store.List(r.Context(), l.key())
	if err != nil {
		return err
	}
	watcher, err := s.Store.Watch("", after)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxWatch)
	defer cancel()
	past, goOn := true, r.URL.Query().Get("watch") == "true"
	for changes := l.known(state); ; {
		for _, change := range changes {
			l.tell(change)
		}
		if past && watcher.Revision() >= present {
			if past = false; len(l.uids) == 0 {
				return store.ErrNotFound
			}
			l.out.bookmark(present, "")
		}
		if !past && !goOn || len(l.uids) > 0 && !l.out.flush() {
			return nil
		}
		if changes, err = watcher.Next(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				l.out.fail(err)
			}
			return nil
		}
	}
}

func (l *life) key() string { return keyOf(l.kind, l.namespace, l.name) }

// known returns what is there when the log begins, as changes at no time. In a list, what is owned may come first.
func (l *life) known(state []store.Object) (changes []*store.Change) {
	for before := -1; before < len(l.uids); {
		before, changes = len(l.uids), nil
		for _, o := range state {
			if l.has(o) {
				changes = append(changes, &store.Change{Revision: o.Revision, Key: o.Key, Value: o.Value})
			}
		}
	}
	slices.SortFunc(changes, func(a, b *store.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return changes
}

// has reports whether an object is the one, or belongs to it: its owner does, or the object that an event is about. What
// once does so does so to its end. Most objects need not be decoded for that: none of the UIDs is in them.
func (l *life) has(o store.Object) bool {
	mentioned := o.Key == l.key()
	for rest := o.Value; !mentioned && rest != nil; {
		_, rest, _ = bytes.Cut(rest, []byte(`"uid":"`))
		uid, _, _ := bytes.Cut(rest, []byte(`"`))
		mentioned = l.uids[types.UID(uid)]
	}
	var is struct {
		Metadata       metav1.ObjectMeta
		InvolvedObject corev1.ObjectReference
	}
	if !mentioned || json.Unmarshal(o.Value, &is) != nil {
		return false
	}
	owned := slices.ContainsFunc(is.Metadata.OwnerReferences, func(owner metav1.OwnerReference) bool { return l.uids[owner.UID] })
	if o.Key != l.key() && !owned && !l.uids[is.Metadata.UID] && !l.uids[is.InvolvedObject.UID] {
		return false
	}
	l.uids[is.Metadata.UID] = true
	return true
}

// tell sends the entry for a change, if there is something in it for the reader.
func (l *life) tell(change *store.Change) {
	resource, _, _ := strings.Cut(change.Key, "/")
	kind := api.Lookup(resource)
	if kind == nil || !l.has(change.Object()) {
		return
	}
	o, err := decode(kind, change.Object())
	if err != nil {
		l.out.err = err
		return
	}
	entry := api.HistoryEntry{Revision: change.Revision, Time: change.At, Who: change.Who, Verb: "updated",
		Kind: kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
	event, isEvent := o.(*corev1.Event)
	switch {
	case change.At.IsZero():
		entry.Verb, entry.Time = "known", o.GetCreationTimestamp().Time
	case change.Previous == nil:
		entry.Verb = "created"
	case change.Value == nil:
		entry.Verb = "deleted"
	case !isEvent:
		entry.Changes, entry.Columns = compare(kind, change, o)
	}
	if isEvent {
		about := event.InvolvedObject
		entry.Kind, entry.Namespace, entry.Name, entry.Event = about.Kind, about.Namespace, about.Name, event
		event.ManagedFields = nil
		if source := cmp.Or(event.Source.Component, event.ReportingController); !strings.HasPrefix(entry.Who, source) {
			entry.Who = source
		}
	}
	noise := entry.Verb == "updated" && !isEvent && len(entry.Changes) == 0 || isEvent && entry.Verb == "deleted"
	list := &request{Request: l.Request, user: l.user, verb: "list", kind: kind, namespace: o.GetNamespace()}
	if !noise && l.server.authorize(list) == nil {
		text, _ := json.Marshal(entry)
		l.out.write(watch.Added, text)
	}
}
