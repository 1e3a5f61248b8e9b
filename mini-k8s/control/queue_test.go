package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// work runs a queue in the test's bubble and returns what ends it.
func work(t *testing.T, q *control.Queue, workers int, reconcile func(key string) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, workers, func(_ context.Context, key string) error { return reconcile(key) })
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// times collects when something happened, counted from its making.
type times struct {
	mu    sync.Mutex
	start time.Time
	seen  []time.Duration
}

func newTimes() *times { return &times{start: time.Now()} }

func (c *times) note() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, time.Since(c.start))
	return len(c.seen)
}

func (c *times) expect(t *testing.T, want ...time.Duration) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.seen, want) {
		t.Errorf("happened at %v, want %v", c.seen, want)
	}
}

func TestKeyThatWaitsIsThereOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, looks := control.NewQueue("test"), newTimes()
		for range 5 {
			q.Add("a")
		}
		work(t, q, 2, func(string) error { looks.note(); return nil })
		synctest.Wait()
		looks.expect(t, 0)
	})
}

func TestKeyAddedDuringItsWorkComesAgainAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, looks := control.NewQueue("test"), newTimes()
		work(t, q, 3, func(string) error { looks.note(); time.Sleep(time.Second); return nil })
		q.Add("a")
		synctest.Wait()
		for range 3 {
			q.Add("a")
		}
		time.Sleep(time.Minute)
		looks.expect(t, 0, time.Second)
	})
}

func TestEveryWorkerIsWokenWhenThereIsWorkForAll(t *testing.T) {
	for _, row := range []struct {
		name  string
		first bool
	}{{"keys that were there first", true}, {"workers that waited first", false}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const workers = 6
				q := control.NewQueue("test")
				var busy atomic.Int32
				start := func() {
					work(t, q, workers, func(string) error { busy.Add(1); time.Sleep(time.Hour); return nil })
					synctest.Wait()
				}
				if !row.first {
					start()
				}
				for i := range workers {
					q.Add(fmt.Sprint(i))
				}
				if row.first {
					start()
				}
				synctest.Wait()
				if n := busy.Load(); n != workers {
					t.Errorf("%d of %d workers are at work", n, workers)
				}
			})
		})
	}
}

// Whatever is added after a look began must be looked at again; nothing is looked at by two.
func TestNoKeyIsLostAndNoneIsWithTwoWorkers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		const keys = 12
		q := control.NewQueue("test")
		var wanted, seen [keys]atomic.Int64
		var busy [keys]atomic.Bool
		work(t, q, 5, func(key string) error {
			var i int
			fmt.Sscan(key, &i)
			if !busy[i].CompareAndSwap(false, true) {
				t.Errorf("key %d is with two workers", i)
			}
			defer busy[i].Store(false)
			look := wanted[i].Load()
			time.Sleep(time.Duration(look%5) * time.Millisecond)
			if look%4 == 3 && seen[i].Swap(-1) != -1 {
				return errors.New("the first look fails")
			}
			seen[i].Store(look)
			return nil
		})
		var adders sync.WaitGroup
		for adder := range uint64(4) {
			random := rand.New(rand.NewPCG(seed, adder))
			adders.Go(func() {
				for range 500 {
					i := random.IntN(keys)
					wanted[i].Add(1)
					switch random.IntN(4) {
					case 0:
						q.AddAfter(fmt.Sprint(i), time.Duration(random.IntN(20))*time.Millisecond)
					default:
						q.Add(fmt.Sprint(i))
					}
					if random.IntN(3) == 0 {
						time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
					}
				}
			})
		}
		adders.Wait()
		time.Sleep(10 * time.Minute)
		for i := range keys {
			if seen[i].Load() != wanted[i].Load() {
				t.Errorf("key %d: last look saw %d, want %d", i, seen[i].Load(), wanted[i].Load())
			}
		}
	})
}

func TestBackOffDoublesToItsLimitAndBeginsAnewAfterSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, looks := control.NewQueue("test"), newTimes()
		const failures = 14
		work(t, q, 2, func(string) error {
			if n := looks.note(); n == failures+1 || n == failures+3 {
				return nil
			}
			return errors.New("not yet")
		})
		q.Add("a")
		var want []time.Duration
		at, wait := time.Duration(0), 10*time.Millisecond
		for range failures {
			want = append(want, at)
			at += wait
			wait = min(2*wait, 30*time.Second)
		}
		want = append(want, at)
		time.Sleep(at + time.Second)
		looks.expect(t, want...)
		q.Add("a") // fails once more
		time.Sleep(time.Minute)
		looks.expect(t, append(want, at+time.Second, at+time.Second+10*time.Millisecond)...)
	})
}

func TestWhoWasFasterIsNoFaultAndTheNextLookComes(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, failure := range []error{apierrors.NewConflict(pods, "a", errors.New("faster")), apierrors.NewNotFound(pods, "a")} {
		synctest.Test(t, func(t *testing.T) {
			q, looks := control.NewQueue("test"), newTimes()
			work(t, q, 1, func(string) error {
				if looks.note() == 1 {
					return fmt.Errorf("write: %w", failure)
				}
				return nil
			})
			q.Add("a")
			time.Sleep(time.Minute)
			looks.expect(t, 0, 10*time.Millisecond)
		})
	}
}

func TestOneKeysFailuresDoNotDelayAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, looks := control.NewQueue("test"), newTimes()
		work(t, q, 1, func(key string) error {
			if key == "bad" {
				return errors.New("always")
			}
			looks.note()
			return nil
		})
		q.Add("bad")
		time.Sleep(time.Minute)
		q.Add("good")
		synctest.Wait()
		looks.expect(t, time.Minute)
	})
}

func TestOfSeveralWaitsTheEarliestCounts(t *testing.T) {
	for _, row := range []struct {
		name string
		add  func(q *control.Queue)
		want []time.Duration
	}{
		{"later, then earlier", func(q *control.Queue) { q.AddAfter("a", 5*time.Second); q.AddAfter("a", time.Second) }, []time.Duration{time.Second}},
		{"earlier, then later", func(q *control.Queue) { q.AddAfter("a", time.Second); q.AddAfter("a", 5*time.Second) }, []time.Duration{time.Second}},
		{"no wait is now", func(q *control.Queue) { q.AddAfter("a", 0); q.AddAfter("a", -time.Second) }, []time.Duration{0}},
		{"another after the first is over", func(q *control.Queue) {
			q.AddAfter("a", time.Second)
			time.Sleep(2 * time.Second)
			q.AddAfter("a", time.Second)
		}, []time.Duration{time.Second, 3 * time.Second}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, looks := control.NewQueue("test"), newTimes()
				work(t, q, 2, func(string) error { looks.note(); return nil })
				row.add(q)
				time.Sleep(time.Minute)
				looks.expect(t, row.want...)
			})
		})
	}
}

func TestQueueStopsOnlyWhenItsWorkersHaveAndThenTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := control.NewQueue("test")
		var done, after atomic.Int32
		stopping := false
		stop := work(t, q, 3, func(string) error {
			if stopping {
				after.Add(1)
			}
			time.Sleep(time.Second)
			done.Add(1)
			return errors.New("try again")
		})
		for _, key := range []string{"a", "b", "c", "d"} {
			q.Add(key)
		}
		synctest.Wait()
		stopping = true
		stop()
		if n := done.Load(); n != 3 {
			t.Errorf("Run returned after %d of 3 workers had ended", n)
		}
		q.Add("e")
		q.AddAfter("f", time.Second)
		time.Sleep(time.Minute)
		if n := after.Load(); n != 0 {
			t.Errorf("%d looks after the end", n)
		}
	})
}

func TestWarningsAreOfFailuresThatNobodyHasCaused(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	ending := apierrors.NewForbidden(pods, "web", errors.New("the namespace ends"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, row := range []struct {
		name string
		err  error
		warn bool
	}{
		{"failure", errors.New("broken"), true},
		{"forbidden", apierrors.NewForbidden(pods, "web", errors.New("no")), true},
		{"conflict", apierrors.NewConflict(pods, "web", errors.New("changed")), false},
		{"not found", apierrors.NewNotFound(pods, "web"), false},
		{"in a namespace that ends", fmt.Errorf("create Pod shop/web: %w", ending), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log bytes.Buffer
			before := slog.Default()
			defer slog.SetDefault(before)
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			synctest.Test(t, func(t *testing.T) {
				q, failed := control.NewQueue("test"), false
				stop := work(t, q, 1, func(string) error {
					defer func() { failed = true }()
					if failed {
						return nil
					}
					return row.err
				})
				q.Add("web")
				time.Sleep(time.Second)
				stop()
			})
			if warned := bytes.Contains(log.Bytes(), []byte("level=WARN")); warned != row.warn {
				t.Errorf("logged: %s", log.Bytes())
			}
		})
	}
}
