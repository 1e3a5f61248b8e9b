package runtime

// Docker's event stream tells the kubelet at once that a container died. A stream may break at any time, and what
// happened meanwhile is lost: so whenever one is opened all pods are looked at.

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"k8s.io/apimachinery/pkg/types"

	"workshop/mini-k8s/control"
)

// reconnect is how long to wait before a stream that broke is opened again.
const reconnect = time.Second

func (d *Docker) Events(ctx context.Context) <-chan types.UID {
	out := make(chan types.UID)
	go func() {
		defer close(out)
		for ctx.Err() == nil {
			if err := d.stream(ctx, out); ctx.Err() == nil {
				slog.Warn("lost Docker's event stream, will open it again", "node", d.options.Node, "in", reconnect, "err", err)
				control.Sleep(ctx, reconnect)
			}
		}
	}()
	return out
}

// stream sends every pod and then passes events on until the stream breaks.
func (d *Docker) stream(ctx context.Context, out chan<- types.UID) error {
	ctx, cancel := context.WithCancel(ctx) // ends the client's reader when we return
	defer cancel()
	send := func(labels map[string]string) {
		select {
		case out <- types.UID(labels[LabelUID]):
		case <-ctx.Done():
		}
	}
	filter := d.filter("")
	filter.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionOOM} {
		filter.Add("event", string(action))
	}
	// Docker answers the request a moment before it listens; "since" has it repeat what it missed in that moment.
	since := strconv.FormatInt(time.Now().Unix(), 10)
	messages, errs := d.docker.Events(ctx, events.ListOptions{Filters: filter, Since: since})
	found, err := d.list(ctx, "") // after the stream was opened: what changes later is in the stream
	if err != nil {
		return err
	}
	for _, c := range found {
		send(c.Labels)
	}
	for {
		select {
		case m := <-messages:
			send(m.Actor.Attributes)
		case err := <-errs:
			return err
		}
	}
}
