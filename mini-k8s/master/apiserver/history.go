package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"workshop/mini-k8s/master/apiserver/access"
	"workshop/mini-k8s/master/apiserver/history"
	"workshop/mini-k8s/master/store"

	"k8s.io/apimachinery/pkg/watch"
)

// history tells the life of an object as far back as the log goes: in the form of a watch, an entry a line. With
// watch=true it marks the present and goes on. It tells of no kinds that the user may not list.
func (s *Server) history(w http.ResponseWriter, r *request) error {
	key := keyOf(r.kind, r.namespace, r.name)
	state, after, err := s.Store.ListAt(r.Context(), "", store.Oldest)
	if err != nil {
		return err
	}
	_, present, err := s.Store.List(r.Context(), key)
	if err != nil {
		return err
	}
	watcher, err := s.Store.Watch("", after)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxWatch)
	defer cancel()
	out := &stream{w: w, r: r, bookmarks: true}
	past, goOn := true, r.URL.Query().Get("watch") == "true"
	for life, changes := history.New(key, state); ; {
		for _, change := range changes {
			s.tell(out, life, change)
		}
		if past && watcher.Revision() >= present {
			if past = false; !life.Known() {
				return store.ErrNotFound
			}
			out.bookmark(present, "")
		}
		if !past && !goOn || life.Known() && !out.flush() {
			return nil
		}
		if changes, err = watcher.Next(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				out.fail(err)
			}
			return nil
		}
	}
}

// tell sends the entry for a change, if there is one.
func (s *Server) tell(out *stream, life *history.Life, change *store.Change) {
	entry, kind, err := life.Entry(change)
	if err != nil {
		out.err = err
	}
	if entry == nil {
		return
	}
	list := access.Attributes{Verb: "list", Group: kind.Group, Resource: kind.Resource}
	if allowed, _ := s.access.May(out.r.Context(), out.r.user, list); allowed {
		text, _ := json.Marshal(entry)
		out.write(watch.Added, text)
	}
}
