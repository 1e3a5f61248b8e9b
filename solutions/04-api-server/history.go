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
// watch=true it marks the present and goes on.
func (s *Server) history(w http.ResponseWriter, r *request) error {
	ctx, cancel := context.WithTimeout(r.Context(), maxWatch)
	defer cancel()
	life, entries, present, err := history.Read(ctx, s.Store, keyOf(r.kind, r.namespace, r.name))
	if err != nil {
		return err
	}
	out := &stream{w: w, r: r, bookmarks: true}
	s.tell(out, entries)
	out.bookmark(present, "")
	for out.flush() && r.URL.Query().Get("watch") == "true" {
		if entries, err = life.Next(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				out.fail(err)
			}
			return nil
		}
		s.tell(out, entries)
	}
	return nil
}

// tell sends the entries of those kinds that the user may list.
func (s *Server) tell(out *stream, entries []history.Entry) {
	for _, entry := range entries {
		list := access.Attributes{Verb: "list", Group: entry.Of.Group, Resource: entry.Of.Resource}
		if allowed, _ := s.access.May(out.r.Context(), out.r.user, list); allowed {
			text, _ := json.Marshal(entry.HistoryEntry)
			out.write(watch.Added, text)
		}
	}
}
