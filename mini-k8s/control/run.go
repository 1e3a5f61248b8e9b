package control

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
)

// Deps is what every control loop is made of.
type Deps struct {
	Client    *client.Client
	Informers *Informers
	Events    *Events
}

// NewDeps returns the parts for the loops of one process. The name is that of the process: "master".
func NewDeps(c *client.Client, name string) Deps {
	c = c.Named(name)
	return Deps{Client: c, Informers: NewInformers(c), Events: NewEvents(c, name, "")}
}

// As returns the same parts for a loop of this name; caches stay shared, writes and events carry the name.
func (d Deps) As(name string) Deps {
	return Deps{Client: d.Client.Named(name), Informers: d.Informers, Events: d.Events.From(name)}
}

// Run runs what the loops share: the informers and the recording of events.
func (d Deps) Run(ctx context.Context) error {
	return Run(ctx, Component{"informers", d.Informers.Run}, Component{"events", d.Events.Run})
}

// Informers keeps one informer for each kind, shared by all loops of a process, so that each object is decoded
// and held once.
type Informers struct {
	client *client.Client

	mu      sync.Mutex // guards all below
	byType  map[reflect.Type]any
	ctx     context.Context // nil until Run
	starts  []func(context.Context) error
	running sync.WaitGroup
}

// NewInformers returns an empty set. Its informers start with Run.
func NewInformers(c *client.Client) *Informers {
	return &Informers{client: c, byType: map[reflect.Type]any{}}
}

// Shared returns the set's informer for all objects of a kind: control.Shared[*corev1.Pod](informers).
func Shared[T api.Object](s *Informers) *Informer[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if informer, ok := s.byType[reflect.TypeFor[T]()]; ok {
		return informer.(*Informer[T])
	}
	informer := NewInformer(client.Of[T](s.client), client.Selection{})
	s.byType[reflect.TypeFor[T]()] = informer
	s.start(informer.Run)
	return informer
}

// start runs an informer now, or when Run is called.
func (s *Informers) start(run func(context.Context) error) {
	if s.ctx == nil {
		s.starts = append(s.starts, run)
		return
	}
	if ctx := s.ctx; ctx.Err() == nil {
		s.running.Go(func() { run(ctx) })
	}
}

// Run runs all informers, also those that are asked for later, until the context ends.
func (s *Informers) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, run := range s.starts {
		s.start(run)
	}
	s.starts = nil
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock() // who was starting an informer has done so; from now on nobody does
	s.mu.Unlock()
	s.running.Wait() // without the lock: a handler of an informer may be asking for another one
	return ctx.Err()
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
