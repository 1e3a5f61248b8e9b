package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
)

// Deps is what every loop of a process is made of.
type Deps struct {
	Client *client.Client
	Events *Events
	name   string
	caches *caches
}

// NewDeps returns the parts for the loops of one process. The name is that of the process: "master".
func NewDeps(c *client.Client, name string) Deps {
	c = c.Named(name)
	return Deps{Client: c, Events: NewEvents(c, name, ""), name: name,
		caches: &caches{client: c, made: map[any]any{}, starts: make(chan func(context.Context) error, 3*len(api.Kinds))}}
}

// As returns the same parts for a loop of this name: it has its writes and events, while the caches stay shared.
func (d Deps) As(name string) Deps {
	return Deps{Client: d.Client.Named(name), Events: d.Events.From(name), name: name, caches: d.caches}
}

// Run runs what the loops share, the caches and the recording of events, until the context ends.
func (d Deps) Run(ctx context.Context) error {
	return Run(ctx, Component{"caches", d.caches.Run}, Component{"events", d.Events.Run})
}

// caches holds one informer for each choice that a loop has asked for, so that each object is decoded and held once.
type caches struct {
	client *client.Client
	starts chan func(context.Context) error // informers to run; has room for all kinds, whole, in part, and as metadata

	mu   sync.Mutex  // guards made
	made map[any]any // choice[T] -> *Informer[T]
}

// choice is what an informer has: the objects of a kind, as T, that are in a selection.
type choice[T api.Object] struct {
	kind *api.Kind
	client.Selection
}

func cacheOf[T api.Object](c *caches, resource client.Resource[T], selection client.Selection) *Informer[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := choice[T]{resource.Kind(), selection}
	if informer, ok := c.made[key]; ok {
		return informer.(*Informer[T])
	}
	informer := NewInformer(resource, selection)
	c.made[key] = informer
	c.starts <- informer.Run
	return informer
}

// Run runs all informers, also those that are asked for later.
func (c *caches) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case run := <-c.starts:
			running.Go(func() { run(ctx) })
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Component is something that runs until its context ends.
type Component struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run runs components side by side. When one fails, the others are told to stop; Run returns when all have,
// with the failures, or with nil if they only ended because the context did.
func Run(ctx context.Context, components ...Component) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(components))
	var running sync.WaitGroup
	for i, component := range components {
		running.Go(func() {
			if err := component.Run(ctx); err != nil && ctx.Err() == nil {
				failures[i] = fmt.Errorf("%s: %w", component.Name, err)
			}
			cancel()
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

// Sleep waits, or returns early when the context ends.
func Sleep(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	<-ctx.Done()
}

// backoff returns how long to wait after so many failures: from the first wait on it doubles, up to the last.
func backoff(failures int, first, last time.Duration) time.Duration {
	return min(first<<min(failures-1, 20), last)
}
