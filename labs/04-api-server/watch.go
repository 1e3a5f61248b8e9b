package apiserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"workshop/labs/lab"
	"workshop/mini-k8s/master/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// bookmarkEvery is how long a watch is silent before it tells the client up to which revision it has looked, so
	// that the client can go on from there (KEP-956).
	bookmarkEvery = time.Minute
	// maxWatch bounds the life of a watch; the client goes on with another one.
	maxWatch = 30 * time.Minute
)

// watch streams changes, a line of JSON each, until the client leaves or the time is up.
//  1. Find the revision to begin after, and the objects of that state if the client shall have them first.
//  2. Watch the store from there. Until here, an error is the answer, but for a revision that is forgotten: clients expect
//     to be told that in the stream, as if they had been watching (client-go's RetryWatcher tries any other way forever).
//  3. Send the objects as added, and mark their end if the client asked for it.
//  4. Follow the changes.
func (s *Server) watch(w http.ResponseWriter, r *request, options metav1.ListOptions, selected selection) error {
	state, after, err := s.beginWatch(r, options, selected)
	if err != nil {
		return err
	}
	watcher, gone := s.Store.Watch(keyOf(r.kind, r.namespace, ""), after)
	if gone != nil && !errors.Is(gone, store.ErrCompacted) {
		return gone
	}
	life := maxWatch
	if seconds := options.TimeoutSeconds; seconds != nil && *seconds > 0 {
		life = time.Duration(min(*seconds, int64(maxWatch/time.Second))) * time.Second // the product may not overflow
	}
	ctx, cancel := context.WithTimeout(r.Context(), life)
	defer cancel()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := &stream{w: w, r: r, table: r.wantsTable(), bookmarks: options.AllowWatchBookmarks}
	if gone != nil {
		out.fail(gone)
		return nil
	}
	for _, o := range state {
		out.send(watch.Added, o)
	}
	if options.SendInitialEvents != nil && *options.SendInitialEvents {
		out.bookmark(after, `"annotations":{"`+metav1.InitialEventsAnnotationKey+`":"true"}`)
	}
	follow(ctx, watcher, selected, out)
	return nil
}

// beginWatch returns the revision to begin after. A client that names none begins with the state, and so does one that
// asks for the state in place of a list, to be told where it ends (KEP-3157).
func (s *Server) beginWatch(r *request, options metav1.ListOptions, selected selection) ([]store.Object, int64, error) {
	after, err := parseRevision(options.ResourceVersion)
	if err != nil {
		return nil, 0, err
	}
	if after > 0 && (options.SendInitialEvents == nil || !*options.SendInitialEvents) {
		return nil, after, nil
	}
	return s.find(r, selected)
}

// follow sends what the watcher tells until ctx ends, the store closes or the client has left.
//  1. Flush what was sent, before any waiting: out.flush tells whether all has gone well so far, and if not, end.
//  2. Wait for changes with the watcher's Next, no longer than bookmarkEvery. Then release that time-out.
//  3. If ctx has ended, or the error is store.ErrClosed: end, and say nothing. If the time-out is over, send a bookmark with
//     the watcher's revision and no more metadata. On any other error let out.fail tell the client to list again, and end.
//  4. Send each change, as the event that it is for the selection with the change's Object, and none for "". An error of
//     eventOf goes into out.err: what is stored cannot be read.
//  5. Begin again.
//
//lab:04 5
func follow(ctx context.Context, watcher *store.Watcher, selected selection, out *stream) {
	lab.TODO("04", "follow")
}

// eventOf returns what a change is to a watcher with this selection, or "" if it is nothing to it.
//  1. A watcher sees an object before the change if there was one (Previous is not nil) and it matched; after the change if
//     there is one (Value is not nil) and it matches.
//  2. A selection of everything matches every object, and need not decode any. For another ask sidesOf for the labels and
//     fields on both sides, which it decodes once for all watchers; return its error.
//  3. Seen before and after: Modified. Only after: Added, be the object new or not. Only before: Deleted, be it gone or
//     not. Neither: "".
//
//lab:04 4
func (s selection) eventOf(change *store.Change) (watch.EventType, error) {
	return *new(watch.EventType), lab.TODO("04", "selection.eventOf")
}
