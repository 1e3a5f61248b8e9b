package runtime

// Docker's event stream tells the kubelet at once that a container died. A stream may break at any time, and what
// happened meanwhile is lost: so after each break all pods are looked at once.

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"k8s.io/apimachinery/pkg/types"
)

// How long to wait before the stream is opened again: the first time, and at the most.
const (
	firstReconnect = 100 * time.Millisecond
	lastReconnect  = 5 * time.Second
)

func (d *Docker) Events(ctx context.Context) <-chan types.UID {
	out := make(chan types.UID)
	go func() {
		defer close(out)
		wait := firstReconnect
		for lost := false; ctx.Err() == nil; lost = true {
			opened := time.Now()
			err := d.stream(ctx, out, lost)
			if ctx.Err() != nil {
				return
			}
			if time.Since(opened) > lastReconnect {
				wait = firstReconnect
			}
			slog.Warn("lost Docker's event stream, will open it again", "node", d.options.Node, "in", wait, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			wait = min(2*wait, lastReconnect)
		}
	}()
	return out
}

// stream passes events on until the stream breaks; after a lost one it starts with every pod.
func (d *Docker) stream(ctx context.Context, out chan<- types.UID, lost bool) error {
	ctx, cancel := context.WithCancel(ctx) // ends the client's reader when we return
	defer cancel()
	send := func(uid types.UID) {
		select {
		case out <- uid:
		case <-ctx.Done():
		}
	}

	filter := d.filter("")
	filter.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionOOM} {
		filter.Add("event", string(action))
	}
	// Docker answers the request a moment before it listens; "since" has it repeat what it missed in that moment.
	now := time.Now()
	since := strconv.FormatInt(now.Unix(), 10) + "." + now.Format("000000000")
	messages, errs := d.docker.Events(ctx, events.ListOptions{Filters: filter, Since: since})
	if lost { // listed after the stream was opened: what changes later is in the stream
		found, err := d.list(ctx, "")
		if err != nil {
			return err
		}
		sent := map[types.UID]bool{}
		for _, c := range found {
			if uid := types.UID(c.Labels[LabelUID]); !sent[uid] {
				sent[uid] = true
				send(uid)
			}
		}
	}
	for {
		select {
		case m := <-messages:
			d.forget(m.Actor.ID) // what was known of it is old now
			send(types.UID(m.Actor.Attributes[LabelUID]))
		case err := <-errs:
			return err
		}
	}
}
