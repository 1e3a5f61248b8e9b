package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Bounds of the tail, whichever is reached first. The bytes count values only; what watchers derive from a change
// comes on top.
const (
	tailChanges = 2048
	tailBytes   = 4 << 20
)

// Watcher is a place in the change log. It has no goroutine and no channel: to end it, forget it. It is not safe
// for concurrent use.
type Watcher struct {
	tail   *tail
	prefix string
	looked int64 // every change up to here was returned, or is of another prefix
}

// Watch implements Store.
func (s *SQLite) Watch(prefix string, after int64) (*Watcher, error) {
	err := s.view(context.Background(), func(_ *sql.Tx, revision, compacted int64) error {
		switch {
		case after > revision:
			return fmt.Errorf("%w (at %d)", ErrFuture, revision)
		case after < compacted:
			return ErrCompacted
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("watch %q after revision %d: %w", prefix, after, err)
	}
	return &Watcher{tail: s.tail, prefix: prefix, looked: after}, nil
}

// Revision tells how far the watcher has looked: a watch after it misses nothing, which is what a bookmark
// promises. It moves on in Next, over the changes of other prefixes as well.
func (w *Watcher) Revision() int64 { return w.looked }

// Next blocks until there are changes of the prefix and returns some, at least one. When ctx ends first it returns
// the error of ctx, and may be called again. ErrCompacted and ErrClosed are final.
//  1. Look at the tail. If that says errBehind, read the log with w.tail.older instead, which also returns how far it has
//     looked: the watcher moves there, even if nothing was found.
//  2. Return the changes that were found; or the error, wrapped with the prefix and the revision.
//  3. With nothing found, return the error of ctx if it has ended: not before the look, which moves the watcher on over
//     what is of other prefixes.
//  4. Sleep until the channel that came with the look is closed, or ctx ends. Then begin again.
//
//lab:03 4
//lab:hint lookAtTail, the field older of tail and the error errBehind; the channel moved is closed when there is more to see.
//lab:hint A loop: look; if behind, read the log; return an error or changes; else ctx.Err(), if there is one, and a select over moved and ctx.Done(). Reading the log moves w.looked, as lookAtTail does for the tail.
//lab:hint changes, w.looked, err = w.tail.older(ctx, w.prefix, w.looked) if errors.Is(err, errBehind). Keep the channel of the look before: it is closed if the tail has moved while you read the log.
func (w *Watcher) Next(ctx context.Context) ([]*Change, error) {
	for {
		changes, moved, err := w.lookAtTail()
		if errors.Is(err, errBehind) {
			changes, w.looked, err = w.tail.older(ctx, w.prefix, w.looked)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("watch %q after revision %d: %w", w.prefix, w.looked, err)
		case len(changes) > 0:
			return changes, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

// errBehind is the error of a watcher that needs changes which the tail has dropped.
var errBehind = errors.New("behind the tail")

// lookAtTail returns what the tail has for the watcher and moves that to its end. All of it is one look, under t.mu.
//  1. Fail with ErrClosed if the tail is closed. Fail with errBehind if changes after the watcher's revision are in the
//     log only, that is, if it has looked less far than t.since; the channel comes with that error, too.
//  2. Pick the changes after the watcher's revision that are of its prefix. There are no gaps: the change at index 0 has
//     the revision t.since+1, so that the place is a subtraction.
//  3. Move the watcher to the newest change of any prefix, but never back: who has read the log may be a moment ahead of
//     the tail, and finds nothing in it then.
//  4. Return them with the channel t.moved(w.prefix), which is closed when there may be more.
//
//lab:03 4
//lab:hint The fields of tail and the method newest; t.mu is a read-write lock and you only read.
//lab:hint A switch for the two errors; then the changes from the index w.looked - t.since on, as far as strings.HasPrefix says yes; then w.looked. Return t.moved(w.prefix), asked under the same lock.
//lab:hint for _, change := range t.changes[min(w.looked, t.newest())-t.since:] { ... }; w.looked = max(w.looked, t.newest()).
func (w *Watcher) lookAtTail() (changes []*Change, moved <-chan struct{}, err error) {
	t := w.tail
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case t.closed:
		return nil, nil, ErrClosed
	case w.looked < t.since:
		return nil, t.moved(w.prefix), errBehind
	}
	for _, change := range t.changes[min(w.looked, t.newest())-t.since:] {
		if strings.HasPrefix(change.Key, w.prefix) {
			changes = append(changes, change)
		}
	}
	w.looked = max(w.looked, t.newest())
	return changes, t.moved(w.prefix), nil
}

// tail is the end of the change log, in memory: what nearly every watcher needs nearly always. It knows none of them
// and waits for none; so it does not matter how slow one is, or whether it ever comes back. A new tail is empty and
// begins where the log ends.
type tail struct {
	// older reads the log, as readLog does. If it finds nothing, it has looked at all that the tail had before.
	older func(ctx context.Context, prefix string, after int64) (changes []*Change, looked int64, err error)

	mu      sync.RWMutex // guards all below; the writer, which alone changes them, may read without it
	changes []*Change    // every change after since: the revisions have no gaps
	bytes   int          // the size of their values
	since   int64        // changes up to here are in the log only
	woken   int64        // the newest when all watchers were last woken
	closed  bool

	sleeping sync.Mutex               // guards wake, for watchers that read the rest
	wake     map[string]chan struct{} // by kind: closed, and taken out, when changes of it are published
}

// moved returns the channel that is closed when there is a change of the kind that the prefix is of, and now and then for
// others: the leases of a hundred nodes shall not wake all who wait for pods. The caller holds mu.
func (t *tail) moved(prefix string) <-chan struct{} {
	t.sleeping.Lock()
	defer t.sleeping.Unlock()
	if t.wake == nil {
		t.wake = map[string]chan struct{}{}
	}
	kind := kindOf(prefix)
	if t.wake[kind] == nil {
		t.wake[kind] = make(chan struct{})
	}
	return t.wake[kind]
}

// kindOf returns the part of a key or a prefix before the first slash. A prefix without one is of all kinds: "".
func kindOf(key string) string {
	kind, _, found := strings.Cut(key, "/")
	if !found {
		return ""
	}
	return kind
}

// wakeUp wakes the watchers of the kinds and those of all kinds. Nil means everybody. The caller holds mu for writing.
func (t *tail) wakeUp(kinds map[string]bool) {
	for kind, sleepers := range t.wake {
		if kinds == nil || kinds[kind] || kind == "" {
			close(sleepers)
			delete(t.wake, kind)
		}
	}
}

func (t *tail) newest() int64 { return t.since + int64(len(t.changes)) }

// publish appends changes that are on the disk, drops the oldest until the tail is within its bounds, and wakes who waits
// for such changes. Before the tail has moved on by half of its length it wakes all: so nobody who sleeps falls behind it.
func (t *tail) publish(changes []*Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes = append(t.changes, changes...)
	for _, change := range changes {
		t.bytes += change.size()
	}
	drop := 0
	for ; len(t.changes)-drop > tailChanges || t.bytes > tailBytes; drop++ {
		t.bytes -= t.changes[drop].size()
	}
	clear(t.changes[:drop]) // the array lives on behind the slice
	t.changes = t.changes[drop:]
	t.since += int64(drop)
	if t.newest()-t.woken >= tailChanges/2 {
		t.woken = t.newest()
		t.wakeUp(nil)
		return
	}
	kinds := map[string]bool{}
	for _, change := range changes {
		kinds[kindOf(change.Key)] = true
	}
	t.wakeUp(kinds)
}

func (c *Change) size() int { return len(c.Value) + len(c.Previous) }

// close ends all watchers with ErrClosed. Nothing may be published after it.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wakeUp(nil)
}
