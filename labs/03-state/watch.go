package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"workshop/labs/lab"
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
//  3. With nothing found, sleep until the channel that came with the look is closed, or ctx ends: then return its error.
//     Else begin again: what has come may be of other prefixes.
//
//lab:03 4
func (w *Watcher) Next(ctx context.Context) ([]*Change, error) {
	return nil, lab.TODO("03", "Watcher.Next")
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
//  4. Return them with the channel t.moved, which is closed when the tail moves on.
//
//lab:03 4
func (w *Watcher) lookAtTail() (changes []*Change, moved <-chan struct{}, err error) {
	return nil, nil, lab.TODO("03", "Watcher.lookAtTail")
}

// tail is the end of the change log, in memory: what nearly every watcher needs nearly always. It knows none of them
// and waits for none; so it does not matter how slow one is, or whether it ever comes back. A new tail is empty and
// begins where the log ends.
type tail struct {
	// older reads the log, as readLog does. If it finds nothing, it has looked at all that the tail had before.
	older func(ctx context.Context, prefix string, after int64) (changes []*Change, looked int64, err error)

	mu      sync.RWMutex  // guards all below; the writer, which alone changes them, may read without it
	changes []*Change     // every change after since: the revisions have no gaps
	bytes   int           // the size of their values
	since   int64         // changes up to here are in the log only
	moved   chan struct{} // closed, and replaced, when changes are published
	closed  bool
}

func (t *tail) newest() int64 { return t.since + int64(len(t.changes)) }

// publish appends changes that are on the disk, drops the oldest until the tail is within its bounds, and wakes all
// who sleep. One who waits for another prefix looks and sleeps on: so even they never fall behind.
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
	close(t.moved)
	t.moved = make(chan struct{})
}

func (c *Change) size() int { return len(c.Value) + len(c.Previous) }

// close ends all watchers with ErrClosed. Nothing may be published after it.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	close(t.moved)
}
