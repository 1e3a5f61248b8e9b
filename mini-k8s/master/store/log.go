package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Bounds of the tail, whichever is reached first, and of what one Next returns. The bytes count values only;
// what watchers derive from a change comes on top.
const (
	tailChanges = 2048
	tailBytes   = 4 << 20
	nextChanges = 1024
)

// tail is the end of the change log, in memory: what nearly every watcher needs nearly always. A watcher that
// is behind it reads the log itself until it has caught up. The tail never waits for a watcher and knows none
// but those that sleep; so it does not matter how slow one is, or whether it ever comes back. A new tail is empty
// and begins where the log ends: since == revision.
type tail struct {
	older readLog

	mu        sync.Mutex // guards all below
	changes   []*Change  // every change after since, in the order of the revisions
	bytes     int        // the size of their values
	since     int64      // changes up to here are in the log only
	revision  int64      // of the newest change
	compacted int64      // changes up to here may be gone from the log
	asleep    map[string]*sleepers
	closed    bool
}

// readLog returns the changes of the prefix with after < revision <= until, in order: all, or the first
// nextChanges.
type readLog func(ctx context.Context, prefix string, after, until int64) ([]*Change, error)

// sleepers are the watchers that wait for a change of one prefix: the leases of a thousand nodes shall not wake
// those who wait for a service.
type sleepers struct {
	wake   chan struct{} // closed when the prefix changes or the store closes
	looked int64         // up to here the prefix has no change that they have not seen
	count  int
}

// Watcher is a place in the change log. It has no goroutine and no channel: to end it, forget it. It is not safe
// for concurrent use.
type Watcher struct {
	tail   *tail
	prefix string
	looked int64 // every change up to here was returned, or is of another prefix
}

// watch returns a Watcher of the changes after the revision, which must not be newer than the log.
func (t *tail) watch(prefix string, after int64) (*Watcher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &Watcher{tail: t, prefix: prefix, looked: after}
	if t.closed {
		return nil, w.failed(ErrClosed)
	}
	if after < t.compacted {
		return nil, w.failed(ErrCompacted)
	}
	return w, nil
}

// Revision tells how far the watcher has looked: a watch after it misses nothing, which is what a bookmark
// promises. It moves on in Next, over the changes of other prefixes as well.
func (w *Watcher) Revision() int64 { return w.looked }

// Next blocks until there are changes of the prefix and returns some, at least one, and the Revision after them.
// When ctx ends first it returns the error of ctx, and may be called again. ErrCompacted and ErrClosed are final.
func (w *Watcher) Next(ctx context.Context) ([]*Change, int64, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, w.looked, err
		}
		changes, sleep, err := w.look(ctx)
		if len(changes) > 0 || err != nil {
			return changes, w.looked, err
		}
		if sleep == nil {
			continue // there is more to look at
		}
		select {
		case <-sleep.wake:
		case <-ctx.Done():
		}
		w.leave(sleep)
	}
}

// look looks at the older log, else at the tail. If there is nothing left to look at, the watcher joins the
// sleepers that look returns, and must leave them.
func (w *Watcher) look(ctx context.Context) ([]*Change, *sleepers, error) {
	t := w.tail
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, nil, w.failed(ErrClosed)
	}
	if since := t.since; w.looked < since {
		t.mu.Unlock()
		changes, err := w.lookBack(ctx, since)
		return changes, nil, err
	}
	defer t.mu.Unlock()
	if changes := w.lookAhead(); len(changes) > 0 {
		return changes, nil, nil
	}
	sleep := t.asleep[w.prefix]
	if sleep == nil {
		sleep = &sleepers{wake: make(chan struct{}), looked: t.revision}
		t.asleep[w.prefix] = sleep
	}
	sleep.count++
	return nil, sleep, nil
}

// lookBack reads the log up to the revision from which on the tail has it all.
func (w *Watcher) lookBack(ctx context.Context, since int64) ([]*Change, error) {
	changes, err := w.tail.older(ctx, w.prefix, w.looked, since)
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	// Asked after reading, for a compaction raises its mark before it deletes: there are no holes above it.
	switch {
	case w.tail.closed:
		return nil, w.failed(ErrClosed)
	case w.looked < w.tail.compacted:
		return nil, w.failed(ErrCompacted)
	case err != nil:
		return nil, w.failed(err)
	}
	w.looked = since
	if len(changes) == nextChanges {
		w.looked = changes[nextChanges-1].Revision
	}
	return changes, nil
}

// lookAhead looks at the tail, which is whole even where the log is compacted. The caller holds the lock.
func (w *Watcher) lookAhead() (changes []*Change) {
	start, _ := slices.BinarySearchFunc(w.tail.changes, w.looked+1, func(c *Change, revision int64) int {
		return cmp.Compare(c.Revision, revision)
	})
	for _, change := range w.tail.changes[start:] {
		if len(changes) == nextChanges {
			return changes
		}
		if strings.HasPrefix(change.Key, w.prefix) {
			changes = append(changes, change)
		}
		w.looked = change.Revision
	}
	return changes
}

// leave takes the watcher out of the sleepers, past the changes of other prefixes that it slept through.
func (w *Watcher) leave(sleep *sleepers) {
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	w.looked = max(w.looked, sleep.looked)
	sleep.count--
	if sleep.count == 0 && w.tail.asleep[w.prefix] == sleep {
		delete(w.tail.asleep, w.prefix)
	}
}

func (w *Watcher) failed(err error) error {
	return fmt.Errorf("watch %q after revision %d: %w", w.prefix, w.looked, err)
}

// publish appends changes that are on the disk and follow the newest, and wakes who waits for them.
func (t *tail) publish(changes []*Change) {
	if len(changes) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes = append(t.changes, changes...)
	t.revision = changes[len(changes)-1].Revision
	for _, change := range changes {
		t.bytes += change.size()
	}
	t.trim()
	for prefix, sleep := range t.asleep {
		if slices.ContainsFunc(changes, func(c *Change) bool { return strings.HasPrefix(c.Key, prefix) }) {
			t.wake(prefix)
		} else {
			sleep.looked = t.revision
		}
	}
}

// trim drops the oldest changes until the tail is within its bounds.
func (t *tail) trim() {
	drop := 0
	for len(t.changes)-drop > tailChanges || t.bytes > tailBytes {
		t.bytes -= t.changes[drop].size()
		t.since = t.changes[drop].Revision
		t.changes[drop] = nil // the array lives on behind the slice
		drop++
	}
	t.changes = t.changes[drop:]
}

func (c *Change) size() int { return len(c.Value) + len(c.Previous) }

// wake wakes the sleepers of the prefix; those who lie down from now on are others. The caller holds the lock.
func (t *tail) wake(prefix string) {
	close(t.asleep[prefix].wake)
	delete(t.asleep, prefix)
}

// markCompacted says that changes up to the revision may disappear from the log from now on.
func (t *tail) markCompacted(revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.compacted = max(t.compacted, revision)
}

// close ends all watchers with ErrClosed.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for prefix := range t.asleep {
		t.wake(prefix)
	}
}
