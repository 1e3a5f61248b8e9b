// Package store keeps the state of the cluster: objects under keys, and every change ever made to them.
//
// A store is a log of changes. The position of a change in the log is its revision, one number for the whole
// store; an object's revision is that of its last change, and clients know it as metadata.resourceVersion.
// Whoever changes an object says which revision they saw: if it has changed since, the write is refused. That
// compare-and-swap is the only concurrency control in the whole cluster.
//
// Invariants:
//  1. Revisions only grow and none is given twice, not even over a crash.
//  2. A write that returned without an error survives kill -9 and power loss.
//  3. A watch delivers every change after its revision, once each, in the order of the revisions, or ends with
//     ErrCompacted.
//
// In Kubernetes: etcd, a replicated store with the same contract (revisions, compare-and-swap transactions,
// watches from a revision, compaction). See the package k8s.io/apiserver/pkg/storage and, for a Kubernetes on
// SQLite, k3s with kine.
package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Errors that a Store returns, possibly wrapped; test them with errors.Is.
var (
	ErrNotFound  = errors.New("key not found")
	ErrExists    = errors.New("key already exists")
	ErrConflict  = errors.New("the object has changed since it was read")
	ErrCompacted = errors.New("revision is compacted: list again, then watch from the revision of the list")
	ErrFuture    = errors.New("revision is newer than the store: it belongs to another store")
	ErrClosed    = errors.New("store is closed")
)

// Store is safe for concurrent use. Keys are paths without a leading slash ("pods/default/web-1"); values are
// opaque. Values passed in and handed out are shared: neither side may change their bytes. The parameter who
// names the author of a write in the log.
type Store interface {
	// Get returns the object, or ErrNotFound.
	Get(ctx context.Context, key string) (Object, error)
	// List returns the objects whose keys begin with prefix, ordered by key, and the revision of the store at
	// which they were read: a Watch after it misses nothing.
	List(ctx context.Context, prefix string) ([]Object, int64, error)
	// ListAt is List as of an earlier revision, or of Oldest, and returns which that was. It fails with ErrCompacted
	// when the state is no longer known, and with ErrFuture when the store has not reached the revision yet.
	ListAt(ctx context.Context, prefix string, revision int64) ([]Object, int64, error)
	// Create adds an object and returns its revision, or ErrExists.
	Create(ctx context.Context, key string, value []byte, who string) (int64, error)
	// Update replaces an object whose revision is expected, or fails with ErrNotFound or ErrConflict.
	Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error)
	// Delete removes an object whose revision is expected and returns the revision of the deletion.
	Delete(ctx context.Context, key string, expected int64, who string) (int64, error)
	// Watch follows the changes of the keys that begin with prefix, beginning with the first one after the
	// revision. It fails with ErrCompacted when those changes are no longer known, and with ErrFuture when the
	// store has not reached the revision yet.
	Watch(prefix string, after int64) (*Watcher, error)
	// Compact forgets the changes up to and including the revision; current objects stay. It fails with ErrFuture
	// when the store has not reached the revision yet.
	Compact(ctx context.Context, revision int64) error
	// Close waits for writes under way and ends all watches with ErrClosed.
	Close() error
}

// Oldest stands for the earliest revision of which the state is known: a Watch after it tells all that is in the log.
const Oldest = -1

// Object is the state of a key.
type Object struct {
	Key      string
	Value    []byte
	Revision int64
}

// Change is one entry of the log. It is shared by all who read it: do not modify it.
type Change struct {
	Revision int64
	Key      string
	Value    []byte // after the change; nil if it deleted the object
	Previous []byte // before the change; nil if it created the object
	At       time.Time
	Who      string

	once    sync.Once
	derived any
}

// Object returns the object after the change, or as it last was if the change deleted it, at the revision of the change.
func (c *Change) Object() Object {
	if c.Value == nil {
		return Object{c.Key, c.Previous, c.Revision}
	}
	return Object{c.Key, c.Value, c.Revision}
}

// Derive returns what derive makes of the change, computed by the first caller and kept: a thousand watchers
// decode a change once.
func (c *Change) Derive(derive func(*Change) any) any {
	c.once.Do(func() { c.derived = derive(c) })
	return c.derived
}
