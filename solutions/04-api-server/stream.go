package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"

	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// stream writes events for one watcher. After its first error it does nothing.
type stream struct {
	w                http.ResponseWriter
	r                *request
	table, bookmarks bool
	rows             int    // sent so far; columns go with the first only
	object           []byte // of the last event; its array is used again
	err              error
}

// send sends an object as it is stored: nothing is encoded for it, unless the client wants a row of a table.
func (s *stream) send(event watch.EventType, o store.Object) {
	if s.table {
		s.sendRow(event, o)
		return
	}
	if s.r.wantsMetadata() {
		o = withoutContent(o)
	}
	s.object = appendJSON(s.object[:0], o)
	s.write(event, s.object)
}

func (s *stream) sendRow(event watch.EventType, o store.Object) {
	table, err := s.r.table([]store.Object{o}, o.Revision)
	if err != nil {
		s.err = err
		return
	}
	if s.rows++; s.rows > 1 {
		table.ColumnDefinitions = nil
	}
	row, _ := json.Marshal(table) // of strings and numbers
	s.write(event, row)
}

// bookmark sends an object that has nothing but a revision, and perhaps more metadata. In a table it is a row, as of
// any object.
func (s *stream) bookmark(revision int64, metadata string) {
	if s.bookmarks {
		value := fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{%s}}`, s.r.kind.Kind, s.r.kind.GroupVersion(), metadata)
		s.send(watch.Bookmark, store.Object{Value: []byte(value), Revision: revision})
	}
}

// fail sends the error that makes a client list again.
func (s *stream) fail(err error) {
	status, _ := json.Marshal(statusOf(apierrors.NewResourceExpired(err.Error())))
	s.write(watch.Error, status)
	s.flush()
}

func (s *stream) write(event watch.EventType, object []byte) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.w, "{\"type\":%q,\"object\":%s}\n", event, object)
	}
}

// flush reports whether all has gone well so far.
func (s *stream) flush() bool {
	if s.err == nil {
		s.err = http.NewResponseController(s.w).Flush()
	}
	return s.err == nil
}
