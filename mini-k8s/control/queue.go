package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
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

	mu       sync.Mutex      // guards all below
	waiting  []string        // in the order of arrival
	dirty    map[string]bool // need a look: they wait, or will as soon as the work on them is done
	active   map[string]bool // are being worked on
	failures map[string]int  // in a row
	due      map[string]time.Time
	wake     *sync.Cond // when there is work, or the end has come
}

// NewQueue returns an empty queue. The name stands in the log.
func NewQueue(name string) *Queue {
	q := &Queue{name: name, dirty: map[string]bool{}, active: map[string]bool{}, failures: map[string]int{}, due: map[string]time.Time{}}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// Add says that the key needs a look now.
func (q *Queue) Add(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(key)
}

func (q *Queue) add(key string) {
	if q.dirty[key] {
		return
	}
	q.dirty[key] = true
	if !q.active[key] {
		q.waiting = append(q.waiting, key)
		q.wake.Signal()
	}
}

// AddAfter says that the key needs a look in a while. Of several such wishes for a key the earliest counts.
func (q *Queue) AddAfter(key string, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addAfter(key, wait)
}

func (q *Queue) addAfter(key string, wait time.Duration) {
	if wait <= 0 {
		q.add(key)
		return
	}
	at := time.Now().Add(wait)
	if due, ok := q.due[key]; ok && !at.Before(due) {
		return
	}
	q.due[key] = at
	time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.due[key] == at { // else an earlier wish has taken its place
			delete(q.due, key)
			q.add(key)
		}
	})
}

// Run calls reconcile for the keys, with so many workers at a time, until the context ends. A key whose reconcile
// failed comes again after a while that doubles with each failure. Run returns when all workers have.
func (q *Queue) Run(ctx context.Context, workers int, reconcile func(ctx context.Context, key string) error) error {
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock() // who saw that the context had not ended is waiting by now
		defer q.mu.Unlock()
		q.wake.Broadcast()
	})
	defer stop()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for key, ok := q.take(ctx); ok; key, ok = q.take(ctx) {
				q.done(key, reconcile(ctx, key))
			}
		})
	}
	running.Wait()
	return ctx.Err()
}

// take waits for the next key. It returns false when the context has ended.
func (q *Queue) take(ctx context.Context) (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && ctx.Err() == nil {
		q.wake.Wait()
	}
	if ctx.Err() != nil {
		return "", false
	}
	key := q.waiting[0]
	q.waiting = q.waiting[1:]
	delete(q.dirty, key)
	q.active[key] = true
	return key, true
}

func (q *Queue) done(key string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.active, key)
	if q.dirty[key] {
		delete(q.dirty, key)
		q.add(key)
	}
	if err == nil {
		delete(q.failures, key)
		return
	}
	q.failures[key]++
	wait := backoff(q.failures[key], firstRetry, lastRetry)
	// Somebody else was faster: that is no fault, and the next look will see what they did. The same goes for the end of a
	// namespace.
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		slog.Debug("looking again", "loop", q.name, "key", key, "reason", err)
	} else if !errors.Is(err, context.Canceled) {
		slog.Warn("trying again", "loop", q.name, "key", key, "in", wait, "reason", err)
	}
	q.addAfter(key, wait)
}
