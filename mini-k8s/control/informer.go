package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// Informer keeps a copy of a selection of objects: it lists them once and follows the changes from there.
type Informer[T api.Object] struct {
	resource  client.Resource[T]
	selection client.Selection

	mu       sync.RWMutex // guards all below
	objects  map[string]T
	indexes  map[string]*index[T]
	handlers map[*func(old, new T)]func(old, new T)
	revision int64         // up to which the cache shows all changes, 0 until it has been filled
	moved    chan struct{} // closed and replaced whenever the revision did
}

// index finds objects by values that a function takes from them.
type index[T api.Object] struct {
	values  func(T) []string
	objects map[string]map[string]T // value -> key -> object
}

// NewInformer returns an informer that does nothing until Run.
func NewInformer[T api.Object](resource client.Resource[T], selection client.Selection) *Informer[T] {
	selection.Bookmarks = true // so that little is repeated after a break, however seldom the objects change
	return &Informer[T]{
		resource: resource, selection: selection,
		objects: map[string]T{}, indexes: map[string]*index[T]{}, handlers: map[*func(old, new T)]func(old, new T){},
		moved: make(chan struct{}),
	}
}

// Key names an object within its kind: "default/web-1", or "node-1" for what has no namespace.
func Key(o api.Object) string { return JoinKey(o.GetNamespace(), o.GetName()) }

// JoinKey makes a key of its parts.
func JoinKey(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Get returns the object of the key and whether there is one.
func (i *Informer[T]) Get(key string) (T, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	o, ok := i.objects[key]
	return o, ok
}

// List returns all objects, in no order.
func (i *Informer[T]) List() []T {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Collect(maps.Values(i.objects))
}

// Index names a way to find objects: by the values that the function takes from them. Naming one again does nothing.
func (i *Informer[T]) Index(name string, values func(T) []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.indexes[name] != nil {
		return
	}
	x := &index[T]{values: values, objects: map[string]map[string]T{}}
	var none T
	for key, o := range i.objects {
		x.set(key, none, o)
	}
	i.indexes[name] = x
}

// ByIndex returns the objects that the named index has under the value, in no order.
func (i *Informer[T]) ByIndex(name, value string) []T {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Collect(maps.Values(i.indexes[name].objects[value]))
}

// Subscribe calls handler for every object that is there, with a zero old, and from then on for every change:
// old is zero for a new object, new is zero for one that is gone. It calls one at a time, in order, until the
// context ends; the handler must be quick and must not call the informer.
func (i *Informer[T]) Subscribe(ctx context.Context, handler func(old, new T)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var none T
	for _, o := range i.objects {
		handler(none, o)
	}
	i.handlers[&handler] = handler
	context.AfterFunc(ctx, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.handlers, &handler)
	})
}

// WaitSynced returns once the cache has been filled for the first time.
func (i *Informer[T]) WaitSynced(ctx context.Context) error { return i.WaitFor(ctx, 1) }

func (i *Informer[T]) filled() bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.revision > 0
}

// WaitFor returns once the cache shows all changes up to the revision.
func (i *Informer[T]) WaitFor(ctx context.Context, revision int64) error {
	for {
		i.mu.RLock()
		reached, moved := i.revision, i.moved
		i.mu.RUnlock()
		if reached >= revision {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run lists and watches until the context ends. When the connection breaks it goes on where it was, and when
// the server has forgotten that place it lists again.
func (i *Informer[T]) Run(ctx context.Context) error {
	listed, failures := false, 0
	for ctx.Err() == nil {
		var err error
		if !listed {
			err = i.list(ctx)
			listed = err == nil
		}
		if listed {
			started := time.Now()
			err = i.watch(ctx)
			listed = !apierrors.IsGone(err) && !apierrors.IsResourceExpired(err)
			if time.Since(started) > time.Second {
				failures = 0
			}
		}
		failures++
		slog.Debug("watch ended, going on", "resource", i.resource.Kind().Resource, "reason", err)
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			slog.Warn("may not watch", "resource", i.resource.Kind().Resource, "reason", err)
		}
		Sleep(ctx, backoff(failures, 50*time.Millisecond, 5*time.Second))
	}
	return ctx.Err()
}

// list makes the cache equal to what the server holds and tells the handlers what that changed.
func (i *Informer[T]) list(ctx context.Context) error {
	list, err := i.resource.List(ctx, i.selection)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	gone := maps.Clone(i.objects)
	for _, o := range list.Items {
		delete(gone, Key(o))
		i.set(Key(o), o)
	}
	var none T
	for key := range gone {
		i.set(key, none)
	}
	i.advance(list.ResourceVersion)
	return nil
}

func (i *Informer[T]) watch(ctx context.Context) error {
	i.mu.RLock()
	revision := strconv.FormatInt(i.revision, 10)
	i.mu.RUnlock()
	for event, err := range i.resource.Watch(ctx, i.selection, revision) {
		if err != nil {
			return err
		}
		i.mu.Lock()
		switch event.Type {
		case watch.Added, watch.Modified:
			i.set(Key(event.Object), event.Object)
		case watch.Deleted:
			var none T
			i.set(Key(event.Object), none)
		}
		i.advance(event.Object.GetResourceVersion())
		i.mu.Unlock()
	}
	return errors.New("watch ended")
}

// set puts an object under its key, or takes out what is there if there is none any more, and tells the handlers.
func (i *Informer[T]) set(key string, o T) {
	var none T
	old := i.objects[key]
	switch {
	case !exists(old) && !exists(o):
		return
	case !exists(o):
		delete(i.objects, key)
	case exists(old) && old.GetResourceVersion() == o.GetResourceVersion():
		return
	case exists(old) && old.GetUID() != o.GetUID(): // deleted and made again while nobody watched
		i.set(key, none)
		i.set(key, o)
		return
	default:
		o.SetManagedFields(nil) // nobody here asks who wrote what, and they take as much room as the rest
		i.objects[key] = o
	}
	for _, x := range i.indexes {
		x.set(key, old, o)
	}
	for _, handler := range i.handlers {
		handler(old, o)
	}
}

func exists[T api.Object](o T) bool {
	var none T
	return any(o) != any(none)
}

func (i *Informer[T]) advance(resourceVersion string) {
	i.revision = max(i.revision, Revision(resourceVersion))
	close(i.moved)
	i.moved = make(chan struct{})
}

// Revision reads a resourceVersion. In Kubernetes it was opaque for clients until KEP-5504.
func Revision(resourceVersion string) int64 {
	revision, _ := strconv.ParseInt(resourceVersion, 10, 64)
	return revision
}

// set puts an object in the place of an old one; either may be missing.
func (x *index[T]) set(key string, old, o T) {
	if exists(old) {
		for _, value := range x.values(old) {
			if delete(x.objects[value], key); len(x.objects[value]) == 0 {
				delete(x.objects, value)
			}
		}
	}
	if exists(o) {
		for _, value := range x.values(o) {
			if x.objects[value] == nil {
				x.objects[value] = map[string]T{}
			}
			x.objects[value][key] = o
		}
	}
}
