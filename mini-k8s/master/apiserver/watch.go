package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// bookmarkEvery is how long a watch is silent before it tells the client up to which revision it has looked, so
	// that the client can go on from there (KEP-956).
	bookmarkEvery = 30 * time.Second
	// maxWatch bounds the life of a watch; the client goes on with another one.
	maxWatch = 30 * time.Minute
)

// event is what the watchers of a change share: each part is made by the first of them that needs it. It lives as
// long as the change is in memory, so it keeps of the objects only what selectors ask for.
type event struct {
	change      *store.Change
	body        func() []byte // the object as clients get it
	now, before func() (attributes, error)
}

func eventOf(kind *api.Kind, change *store.Change) *event {
	return change.Derive(func(c *store.Change) any {
		read := func(value []byte) func() (attributes, error) {
			return sync.OnceValues(func() (attributes, error) {
				if value == nil {
					return attributes{}, nil
				}
				object, err := decodeStored(kind, value, c.Revision)
				if err != nil {
					return attributes{}, err
				}
				return attributesOf(kind, object), nil
			})
		}
		return &event{
			change: c, now: read(c.Value), before: read(c.Previous),
			body: sync.OnceValue(func() []byte {
				value := c.Value
				if value == nil {
					value = c.Previous // what was deleted, as it last was
				}
				return withRevision(value, c.Revision)
			}),
		}
	}).(*event)
}

// typeFor returns what the change is to a watcher with this selection, or "" if it is nothing: an object that
// begins to match is added, one that no longer does is deleted.
func (e *event) typeFor(selected selection) (watch.EventType, error) {
	is, was := e.change.Value != nil, e.change.Previous != nil
	if !selected.everything() {
		now, err := e.now()
		if err != nil {
			return "", err
		}
		before, err := e.before()
		if err != nil {
			return "", err
		}
		is, was = is && selected.matches(now), was && selected.matches(before)
	}
	switch {
	case is && was:
		return watch.Modified, nil
	case is:
		return watch.Added, nil
	case was:
		return watch.Deleted, nil
	}
	return "", nil
}

// watch streams changes, a line of JSON each, until the client leaves or the time is up.
func (s *Server) watch(w http.ResponseWriter, r *request) error {
	selected, err := r.selector()
	if err != nil {
		return err
	}
	stream := &watchStream{w: w, flusher: http.NewResponseController(w), r: r, table: r.wantsTable()}
	prefix := keyOf(r.kind, r.namespace, "")
	query := r.URL.Query()
	after, err := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
	// A client may ask for the state first and to be told where that ends, in place of a list (KEP-3157).
	stateFirst, _ := strconv.ParseBool(query.Get("sendInitialEvents"))
	var initial []store.Object
	if query.Get("resourceVersion") == "" || err == nil && (after == 0 || stateFirst) {
		if initial, after, err = s.Store.List(r.Context(), prefix); err != nil {
			return err
		}
		if initial, err = selected.filter(r.kind, initial); err != nil {
			return err
		}
	} else if err != nil || after < 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: %q is not a revision", query.Get("resourceVersion")))
	}
	watcher, err := s.Store.Watch(prefix, after)
	if err != nil {
		return err
	}
	life := maxWatch
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		life = min(life, time.Duration(seconds)*time.Second)
	}
	ctx, cancel := context.WithTimeout(r.Context(), life)
	defer cancel()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	for _, o := range initial {
		if err := stream.send(watch.Added, withRevision(o.Value, o.Revision)); err != nil {
			return nil
		}
	}
	if stateFirst {
		if err := stream.bookmark(after, map[string]string{metav1.InitialEventsAnnotationKey: "true"}); err != nil {
			return nil
		}
	}
	for {
		if err := stream.flusher.Flush(); err != nil {
			return nil
		}
		idle, stop := context.WithTimeout(ctx, bookmarkEvery)
		changes, err := watcher.Next(idle)
		stop()
		switch {
		case ctx.Err() != nil, errors.Is(err, store.ErrClosed):
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			err = stream.bookmark(watcher.Revision(), nil)
		case err != nil:
			status := apierrors.NewResourceExpired(err.Error()).Status()
			status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
			body, _ := json.Marshal(status)
			stream.line(watch.Error, body)
			return nil
		}
		for _, change := range changes {
			e := eventOf(r.kind, change)
			eventType, failure := e.typeFor(selected)
			if failure == nil && eventType != "" {
				failure = stream.send(eventType, e.body())
			}
			if failure != nil {
				err = failure
				break
			}
		}
		if err != nil {
			return nil // the client has left, or what is stored cannot be read; it will come back and list
		}
	}
}

// watchStream writes events for one watcher.
type watchStream struct {
	w       http.ResponseWriter
	flusher *http.ResponseController
	r       *request
	table   bool
	rows    int // sent so far; columns go with the first only
}

func (s *watchStream) send(eventType watch.EventType, object []byte) error {
	if !s.table {
		return s.line(eventType, object)
	}
	o := s.r.kind.New()
	if err := json.Unmarshal(object, o); err != nil {
		return err
	}
	table := s.r.table(0, s.rows == 0)
	table.ResourceVersion = o.GetResourceVersion()
	s.rows++
	if err := s.r.addRow(table, o); err != nil {
		return err
	}
	body, err := json.Marshal(table)
	if err != nil {
		return err
	}
	return s.line(eventType, body)
}

// bookmark sends an object that has nothing but a revision. In a table it is a row, as of any object.
func (s *watchStream) bookmark(revision int64, annotations map[string]string) error {
	if wants, _ := strconv.ParseBool(s.r.URL.Query().Get("allowWatchBookmarks")); !wants {
		return nil
	}
	object := metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(s.r.kind.GroupVersionKind)
	object.SetResourceVersion(strconv.FormatInt(revision, 10))
	object.SetAnnotations(annotations)
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return s.send(watch.Bookmark, body)
}

// line writes one event. The object is shared with other watchers and goes out as it is.
func (s *watchStream) line(eventType watch.EventType, object []byte) error {
	for _, part := range [][]byte{[]byte(`{"type":"` + string(eventType) + `","object":`), object, []byte("}\n")} {
		if _, err := s.w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
