package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// How long a key waits after its work failed: the first time, and at the most.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Queue holds the keys of objects that need a look. A key that is added while it waits is there once; one that is
// added while it is being worked on comes again when that work is done.
type Queue struct {
	name string

	mu      sync.Mutex // guards all below
	waiting []string   // in the order of arrival
	queued  map[string]bool
	active  map[string]bool
	again   map[string]bool // active keys that were added meanwhile
	backoff map[string]*Backoff
	timers  map[string]*timer
	wake    chan struct{} // holds one token when there may be work
	stopped bool
}

type timer struct {
	*time.Timer
	at time.Time
}

// NewQueue returns an empty queue. The name stands in the log.
func NewQueue(name string) *Queue {
	return &Queue{name: name, queued: map[string]bool{}, active: map[string]bool{}, again: map[string]bool{},
		backoff: map[string]*Backoff{}, timers: map[string]*timer{}, wake: make(chan struct{}, 1)}
}

// Add says that the key needs a look now.
func (q *Queue) Add(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(key)
}

func (q *Queue) add(key string) {
	switch {
	case q.stopped || q.queued[key]:
	case q.active[key]:
		q.again[key] = true
	default:
		q.queued[key] = true
		q.waiting = append(q.waiting, key)
		q.signal()
	}
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// AddAfter says that the key needs a look in a while. Of several such wishes for a key the earliest counts.
func (q *Queue) AddAfter(key string, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait <= 0 {
		q.add(key)
		return
	}
	at := time.Now().Add(wait)
	if t := q.timers[key]; q.stopped || t != nil && !at.Before(t.at) {
		return
	} else if t != nil {
		t.Stop()
	}
	t := &timer{at: at}
	t.Timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timers[key] == t {
			delete(q.timers, key)
			q.add(key)
		}
	})
	q.timers[key] = t
}

// Run calls reconcile for the keys, with so many workers at a time, until the context ends. A key whose reconcile
// failed comes again after a while that doubles with each failure. Run returns when all workers have.
func (q *Queue) Run(ctx context.Context, workers int, reconcile func(ctx context.Context, key string) error) error {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				key, ok := q.take()
				if !ok {
					select {
					case <-q.wake:
						continue
					case <-ctx.Done():
						return
					}
				}
				if ctx.Err() != nil {
					return
				}
				q.done(key, reconcile(ctx, key))
			}
		})
	}
	running.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for _, t := range q.timers {
		t.Stop()
	}
	return ctx.Err()
}

// take returns the next key, if one waits, and passes the wake-up on if there are more.
func (q *Queue) take() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return "", false
	}
	key := q.waiting[0]
	q.waiting = q.waiting[1:]
	delete(q.queued, key)
	q.active[key] = true
	if len(q.waiting) > 0 {
		q.signal()
	}
	return key, true
}

func (q *Queue) done(key string, err error) {
	q.mu.Lock()
	delete(q.active, key)
	if q.again[key] {
		delete(q.again, key)
		q.add(key)
	}
	if err == nil {
		delete(q.backoff, key)
		q.mu.Unlock()
		return
	}
	if q.backoff[key] == nil {
		q.backoff[key] = NewBackoff(firstRetry, lastRetry)
	}
	wait := q.backoff[key].Next()
	q.mu.Unlock()
	// A conflict is no fault: somebody else was faster, and the next look will see what they did.
	if apierrors.IsConflict(err) {
		slog.Debug("looking again", "loop", q.name, "key", key, "reason", err)
	} else if !errors.Is(err, context.Canceled) {
		slog.Warn("trying again", "loop", q.name, "key", key, "in", wait, "reason", err)
	}
	q.AddAfter(key, wait)
}

// Backoff gives waits that double from the first to the last. It is not safe for concurrent use.
type Backoff struct{ first, last, next time.Duration }

// NewBackoff returns a Backoff at its first wait.
func NewBackoff(first, last time.Duration) *Backoff {
	return &Backoff{first: first, last: last, next: first}
}

// Next returns how long to wait now.
func (b *Backoff) Next() time.Duration {
	wait := b.next
	b.next = min(2*b.next, b.last)
	return wait
}

// Reset goes back to the first wait.
func (b *Backoff) Reset() { b.next = b.first }

// Sleep waits, or returns early when the context ends.
func Sleep(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Writes remembers the revision of a loop's last write for each key, so that the next look at the key can wait
// until the cache shows it.
type Writes struct {
	mu   sync.Mutex // guards last
	last map[string]int64
}

// Note remembers a write; resourceVersion is what the server answered.
func (w *Writes) Note(key, resourceVersion string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[string]int64{}
	}
	w.last[key] = max(w.last[key], Revision(resourceVersion))
}

// Last returns the revision of the last write, 0 if there was none.
func (w *Writes) Last(key string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[key]
}

// Forget is for a key that is gone.
func (w *Writes) Forget(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, key)
}
