package runtime

// How a hollow runtime is watched: its events, and logs that wait for them.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// watcher is one call of Events. What it has not sent yet waits here, each UID once.
type watcher struct {
	pending []types.UID   // guarded by Hollow.mu
	wake    chan struct{} // holds one token when there is something pending
}

func (h *Hollow) Events(ctx context.Context) <-chan types.UID {
	out := make(chan types.UID)
	w := &watcher{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	h.watchers[w] = true
	h.mu.Unlock()
	go func() {
		defer close(out)
		defer h.unwatch(w)
		for {
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
			for _, uid := range h.take(w) {
				select {
				case out <- uid:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// notify needs the lock. It never blocks: a watcher that is slow finds each pod once.
func (h *Hollow) notify(uid types.UID) {
	for w := range h.watchers {
		if !slices.Contains(w.pending, uid) {
			w.pending = append(w.pending, uid)
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (h *Hollow) take(w *watcher) []types.UID {
	h.mu.Lock()
	defer h.mu.Unlock()
	pending := w.pending
	w.pending = nil
	return pending
}

func (h *Hollow) unwatch(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// Logs has one line to show. With Follow it waits for the container's end.
func (h *Hollow) Logs(ctx context.Context, containerID string, options LogOptions, out io.Writer) error {
	c, found := h.container(containerID)
	if !found {
		return fmt.Errorf("read the log of container %s: there is none", containerID)
	}
	if options.Tail == nil || *options.Tail > 0 {
		stamp := ""
		if options.Timestamps {
			stamp = c.StartedAt.UTC().Format(time.RFC3339Nano) + " "
		}
		if _, err := fmt.Fprintf(out, "%s(hollow: no program runs in container %s, so it writes no log)\n", stamp, c.Name); err != nil {
			return err
		}
	}
	if options.Follow {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		changes := h.Events(ctx)
		for c, found = h.container(containerID); found && c.State == Running && ctx.Err() == nil; {
			<-changes // closed when the context ends
			c, found = h.container(containerID)
		}
	}
	return nil
}

func (h *Hollow) container(id string) (c Container, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := h.find(id); at != nil {
		return *at, true
	}
	return Container{}, false
}
