// Package control is the kit of which every control loop is built. A loop says in New what it watches, and the rest
// of it is one function, reconcile, which reads from top to bottom:
//
//	c.Loop = control.NewLoop(deps, 4, c.reconcile)
//	control.Watch(c.Loop, c.sets, control.Itself)
//	control.Watch(c.Loop, c.pods, c.setsOf)
//
// Changes do not carry work, they only say where to look: a change puts keys into the loop's queue, a worker takes one
// out, reads what is desired and what there is, and brings the second nearer to the first. A change that is missed,
// doubled or late does no harm, for the next look sees all.
//
// Invariants:
//  1. Objects in a cache are shared by all: never change one, but have Change do that to a copy.
//  2. A key is never with two workers at a time, and none is lost.
//  3. A look sees all that its loop has written before, so that nothing is made a second time because a cache is old.
//
// In Kubernetes: client-go's tools/cache (Reflector, SharedInformer, Indexer) and util/workqueue. Revisions were opaque
// to clients there until KEP-5504, so to reach the third one its controllers count the watch events that they expect.
package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Loop has a reconcile look at the keys of what changes.
type Loop struct {
	*Queue
	workers   int
	reconcile func(ctx context.Context, key string) error
	sources   []source
}

// source is what a loop needs of the objects that it watches.
type source struct {
	begin     func(ctx context.Context) error
	catchUp   func(ctx context.Context) error
	subscribe func(ctx context.Context)
}

// NewLoop returns a loop that does nothing until Run, which may be called once.
func NewLoop(deps Deps, workers int, reconcile func(ctx context.Context, key string) error) *Loop {
	return &Loop{Queue: NewQueue(deps.name), workers: workers, reconcile: reconcile}
}

// Watch makes a loop look at the keys that a function names for an object, whenever that comes, changes or goes.
// The function must be quick and must not ask the same objects.
func Watch[T api.Object](l *Loop, objects *Objects[T], keys func(o T) []string) {
	Subscribe(l, objects, func(old, o T) {
		var all []string
		for _, o := range []T{old, o} {
			if exists(o) {
				all = append(all, keys(o)...)
			}
		}
		slices.Sort(all)
		for _, key := range slices.Compact(all) { // a worker may take one before the other comes
			l.Add(key)
		}
	})
}

// Itself is for Watch: the key is that of the object.
func Itself[T api.Object](o T) []string { return []string{Key(o)} }

// Read makes a loop wait for the cache of objects that it reads, but whose changes are no reason to look.
func Read[T api.Object](l *Loop, objects *Objects[T]) { Subscribe(l, objects, func(old, o T) {}) }

// Subscribe is Watch for a loop that must see more of a change: see Informer.Subscribe.
func Subscribe[T api.Object](l *Loop, objects *Objects[T], handler func(old, o T)) {
	l.sources = append(l.sources, source{objects.begin, objects.CatchUp, func(ctx context.Context) { objects.Subscribe(ctx, handler) }})
}

// Run looks until the context ends, and returns when all workers have.
func (l *Loop) Run(ctx context.Context) error {
	for _, s := range l.sources {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	for _, s := range l.sources {
		s.subscribe(ctx)
	}
	return l.Queue.Run(ctx, l.workers, func(ctx context.Context, key string) error {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		return l.reconcile(ctx, key)
	})
}

// catchUp returns when the caches are filled and show all that this loop has written.
func (l *Loop) catchUp(ctx context.Context) error {
	for _, s := range l.sources {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Objects are all objects of a kind as one loop sees them: it reads them from a cache and writes to the API server.
type Objects[T api.Object] struct {
	*Informer[T]
	Resource client.Resource[T]
	written  atomic.Int64 // the revision of the newest write
	// How often something may have been written of which no revision is known, and after how many of those we have asked.
	doubts, cleared atomic.Int64
}

// Of returns the objects of a kind, read from the cache that all loops of the process share.
func Of[T api.Object](deps Deps) *Objects[T] {
	o := &Objects[T]{Informer: cacheOf(deps.caches, client.Of[T](deps.caches.client), client.Selection{}), Resource: client.Of[T](deps.Client)}
	o.Index("controller", controllerOf)
	o.Index("namespace", func(o T) []string { return []string{o.GetNamespace()} })
	return o
}

// Some returns the objects of a selection, or of all no more than their metadata, where a loop needs no more of a kind. Who
// asks for the same again gets the same cache.
func Some[T api.Object](deps Deps, resource client.Resource[T], selection client.Selection) *Objects[T] {
	return &Objects[T]{Informer: cacheOf(deps.caches, resource, selection), Resource: resource}
}

// Selected returns the objects of a namespace whose labels the selector matches.
func (o *Objects[T]) Selected(namespace string, selector labels.Selector) []T {
	return slices.DeleteFunc(o.ByIndex("namespace", namespace), func(o T) bool { return !selector.Matches(labels.Set(o.GetLabels())) })
}

// Controlled returns the objects whose controller has the UID; "" is for those that have none.
func (o *Objects[T]) Controlled(by types.UID) []T { return o.ByIndex("controller", string(by)) }

func controllerOf[T api.Object](o T) []string {
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil {
		return []string{string(owner.UID)}
	}
	return []string{""}
}

// begin returns when the cache is filled. If it was before, a loop that has ended may have written what it does not show.
func (o *Objects[T]) begin(ctx context.Context) error {
	if o.filled() {
		o.doubts.Add(1)
	}
	return o.WaitSynced(ctx)
}

// CatchUp returns when the cache is filled and shows all that was written here.
func (o *Objects[T]) CatchUp(ctx context.Context) error {
	if doubts := o.doubts.Load(); doubts > o.cleared.Load() {
		list, err := o.Resource.List(ctx, o.selection)
		if err != nil {
			return err
		}
		for _, object := range list.Items {
			o.note(object.GetResourceVersion())
		}
		o.cleared.Store(doubts)
	}
	return o.WaitFor(ctx, max(1, o.written.Load()))
}

// Create makes a new object. Its errors, like those of all writes here, say what was tried.
func (o *Objects[T]) Create(ctx context.Context, object T) (T, error) {
	created, err := o.Resource.Create(ctx, object)
	if err != nil {
		return object, o.failed("create", object, err)
	}
	o.note(created.GetResourceVersion())
	return created, nil
}

// Change writes what a function makes of a copy of the object, and nothing if that is the same, and returns the
// object as it is then. If the object has changed since it was read, it fails with a conflict: look again.
func (o *Objects[T]) Change(ctx context.Context, object T, change func(T)) (T, error) {
	return o.change(ctx, "update", object, change, o.Resource.Update)
}

// ChangeStatus is Change for the status.
func (o *Objects[T]) ChangeStatus(ctx context.Context, object T, change func(T)) (T, error) {
	return o.change(ctx, "update the status of", object, change, o.Resource.UpdateStatus)
}

func (o *Objects[T]) change(ctx context.Context, verb string, object T, change func(T),
	write func(context.Context, T) (T, error)) (T, error) {
	changed := object.DeepCopyObject().(T)
	change(changed)
	if equality.Semantic.DeepEqual(object, changed) {
		return object, nil
	}
	written, err := write(ctx, changed)
	if err != nil {
		return object, o.failed(verb, object, err)
	}
	o.note(written.GetResourceVersion())
	return written, nil
}

// Ensure makes an object, or changes the one that has its name as Change does.
func (o *Objects[T]) Ensure(ctx context.Context, object T, change func(T)) (err error) {
	if found, ok := o.Get(Key(object)); ok {
		_, err = o.Change(ctx, found, change)
	} else {
		_, err = o.Create(ctx, object)
	}
	return err
}

// Delete asks for this very object to go, not for another one that took its name. One that is gone already is fine.
func (o *Objects[T]) Delete(ctx context.Context, object T) error {
	return o.DeleteWith(ctx, object, metav1.DeleteOptions{})
}

// DeleteWith is Delete with options.
func (o *Objects[T]) DeleteWith(ctx context.Context, object T, options metav1.DeleteOptions) error {
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	options.Preconditions.UID = ptr.To(object.GetUID())
	revision, err := o.Resource.Delete(ctx, object.GetNamespace(), object.GetName(), options)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return o.failed("delete", object, err)
	}
	o.note(revision)
	return nil
}

func (o *Objects[T]) failed(verb string, object T, err error) error {
	if !Refused(err) {
		o.doubts.Add(1)
	}
	return fmt.Errorf("%s %s %s: %w", verb, o.Resource.Kind().Kind, Key(object), err)
}

// Refused reports whether the API server has said no. A failure of its own, or of the connection, leaves open whether a
// write was done.
func Refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError
}

// note keeps the revision of a write, of which several may be under way.
func (o *Objects[T]) note(resourceVersion string) {
	for revision := Revision(resourceVersion); ; {
		newest := o.written.Load()
		if revision <= newest || o.written.CompareAndSwap(newest, revision) {
			return
		}
	}
}
