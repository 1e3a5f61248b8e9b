package control

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// eventBacklog is how many events may wait to be written; more are dropped.
const eventBacklog = 4096

// Events records what happened to objects, for `kubectl describe` and `kubectl get events`. Recording never waits
// and never fails: an event is a courtesy to the reader, and is dropped when the API server cannot keep up.
//
// An event is named after what it says, so one that says the same again is found by its name and counted.
type Events struct {
	host, source string
	stored       client.Resource[*corev1.Event]
	backlog      chan *corev1.Event
}

// NewEvents returns a recorder; host is the node that the source runs on, if any.
func NewEvents(c *client.Client, source, host string) *Events {
	return &Events{host: host, source: source, stored: client.Of[*corev1.Event](c), backlog: make(chan *corev1.Event, eventBacklog)}
}

// From returns the same recorder for another source.
func (e *Events) From(source string) *Events {
	return &Events{host: e.host, source: source, stored: e.stored, backlog: e.backlog}
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
	apiVersion, kind := about.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	namespace := about.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	says := fnv.New64a()
	fmt.Fprint(says, about.GetUID(), e.source, reason, message)
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", about.GetName(), says.Sum64())},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: apiVersion, Kind: kind, Namespace: about.GetNamespace(), Name: about.GetName(),
			UID: about.GetUID(), ResourceVersion: about.GetResourceVersion(),
		},
		Type: eventType, Reason: reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: e.source, Host: e.host},
		ReportingController: e.source, ReportingInstance: e.host,
	}
	select {
	case e.backlog <- event:
	default:
		slog.Debug("event dropped", "reason", reason, "object", Key(about))
	}
}

// Run writes the events until the context ends.
func (e *Events) Run(ctx context.Context) error {
	for {
		select {
		case event := <-e.backlog:
			if err := e.write(ctx, event); err != nil && ctx.Err() == nil {
				slog.Debug("event lost", "object", event.InvolvedObject.Name, "reason", event.Reason, "error", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write stores an event, or counts up the one that says the same, as long as that is kept.
func (e *Events) write(ctx context.Context, event *corev1.Event) error {
	_, err := e.stored.Create(ctx, event)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	before, err := e.stored.Get(ctx, event.Namespace, event.Name)
	if err != nil {
		return err
	}
	before.Count, before.LastTimestamp = before.Count+1, event.LastTimestamp
	_, err = e.stored.Update(ctx, before)
	return err
}
