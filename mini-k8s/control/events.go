package control

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	eventBacklog = 4096             // events that wait to be written; more are dropped
	eventMemory  = 2048             // different events that are counted instead of written again
	eventRepeat  = 10 * time.Minute // how long they are
)

// Events records what happened to objects, for `kubectl describe` and `kubectl get events`. Recording never waits
// and never fails: an event is a courtesy to the reader, and is dropped when the API server cannot keep up.
type Events struct {
	host, source string
	shared       *eventWriter
}

type eventWriter struct {
	events  client.Resource[*corev1.Event]
	backlog chan *corev1.Event

	mu   sync.Mutex               // guards seen, and makes writes go one after the other
	seen map[string]*corev1.Event // the last event of the kind, by what it says

	stamp atomic.Int64 // of the last event, see nextStamp
}

// NewEvents returns a recorder; host is the node that the source runs on, if any.
func NewEvents(c *client.Client, source, host string) *Events {
	return &Events{host: host, source: source, shared: &eventWriter{
		events: client.Of[*corev1.Event](c), backlog: make(chan *corev1.Event, eventBacklog), seen: map[string]*corev1.Event{}}}
}

// From returns the same recorder for another source.
func (e *Events) From(source string) *Events {
	return &Events{host: e.host, source: source, shared: e.shared}
}

// Normal records that something went as it should.
func (e *Events) Normal(about api.Object, reason, format string, args ...any) {
	e.record(about, corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

// Warning records that something did not.
func (e *Events) Warning(about api.Object, reason, format string, args ...any) {
	e.record(about, corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

func (e *Events) record(about api.Object, eventType, reason, message string) {
	gvk := about.GetObjectKind().GroupVersionKind()
	if kind := kindOf(about); gvk.Kind == "" && kind != nil {
		gvk = kind.GroupVersionKind // objects from lists come without
	}
	namespace := about.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", about.GetName(), e.shared.nextStamp(now.Time))},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Namespace: about.GetNamespace(), Name: about.GetName(),
			UID: about.GetUID(), ResourceVersion: about.GetResourceVersion(),
		},
		Type: eventType, Reason: reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: e.source, Host: e.host},
		ReportingController: e.source, ReportingInstance: e.host,
	}
	select {
	case e.shared.backlog <- event:
	default:
		slog.Debug("event dropped", "reason", reason, "object", Key(about))
	}
}

// nextStamp returns the time in nanoseconds, or a bit more: no two events have the same, however coarse the clock.
func (w *eventWriter) nextStamp(now time.Time) int64 {
	for {
		last := w.stamp.Load()
		if next := max(now.UnixNano(), last+1); w.stamp.CompareAndSwap(last, next) {
			return next
		}
	}
}

// kindOf finds the row of an object whose type is only known at run time.
func kindOf(o api.Object) *api.Kind {
	for _, kind := range api.Kinds {
		if kind.Holds(o) {
			return kind
		}
	}
	return nil
}

// Run writes the events until the context ends.
func (e *Events) Run(ctx context.Context) error {
	for {
		select {
		case event := <-e.shared.backlog:
			if err := e.shared.write(ctx, event); err != nil && ctx.Err() == nil {
				slog.Debug("event lost", "object", event.InvolvedObject.Name, "reason", event.Reason, "error", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write stores an event, or counts up the one that said the same a while ago.
func (w *eventWriter) write(ctx context.Context, event *corev1.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	what := string(event.InvolvedObject.UID) + event.Source.Component + event.Reason + event.Message
	if before := w.seen[what]; before != nil && event.LastTimestamp.Sub(before.LastTimestamp.Time) < eventRepeat {
		patch := map[string]any{"count": before.Count + 1, "lastTimestamp": event.LastTimestamp}
		stored, err := w.events.Patch(ctx, before.Namespace, before.Name, "", types.MergePatchType, patch)
		if err == nil {
			w.seen[what] = stored
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	stored, err := w.events.Create(ctx, event)
	if err != nil {
		return err
	}
	if len(w.seen) >= eventMemory {
		clear(w.seen)
	}
	w.seen[what] = stored
	return nil
}
