package control_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// looks collects the keys that a loop looks at.
type looks struct {
	mu   sync.Mutex
	keys []string
}

func (l *looks) look(_ context.Context, key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(l.keys, key)
	return nil
}

func (l *looks) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.keys)
	if !slices.Equal(l.keys, want) {
		t.Errorf("looked at %v, want %v", l.keys, want)
	}
	l.keys = nil
}

func TestLoopLooksAtTheKeysOfWhatIsThereChangesAndGoes(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps, seen := bench.Deps(), looks{}
		pods := control.Of[*corev1.Pod](deps)
		loop := control.NewLoop(deps, 2, seen.look)
		control.Watch(loop, pods, func(p *corev1.Pod) []string { return []string{p.Name, "v" + label(p)} })
		control.Read(loop, control.Of[*corev1.Node](deps))
		mastertest.Create(t, bench.Client, labelled("a", "1"))
		bench.Start(loop.Run)
		seen.expect(t, "a", "v1")
		relabel(t, bench, "a", "2")
		seen.expect(t, "a", "v1", "v2")
		mastertest.Join(t, bench.Client, mastertest.Node("node-1", "1", "1Gi", "10"))
		seen.expect(t)
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "a", "")
		seen.expect(t, "a", "v2")
	})
}

func TestLoopBeginsWhenAllItsCachesAreFilled(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/nodes") {
				time.Sleep(time.Minute)
			}
			return do()
		})
		deps, seen := bench.Deps(), looks{}
		loop := control.NewLoop(deps, 2, seen.look)
		control.Watch(loop, control.Of[*corev1.Pod](deps), control.Itself)
		control.Read(loop, control.Of[*corev1.Node](deps))
		mastertest.Create(t, bench.Client, labelled("a", "1"))
		bench.Start(loop.Run)
		time.Sleep(50 * time.Second)
		seen.expect(t)
		time.Sleep(20 * time.Second)
		seen.expect(t, "default/a")
	})
}

// Each look makes one more pod and then finds all that were made before, though the watch lags behind.
func TestLookSeesAllThatTheLoopHasWritten(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "pods") {
				mastertest.Lag(response, func() time.Duration { return 300 * time.Millisecond })
			}
			return response, err
		})
		deps := bench.Deps()
		pods := control.Of[*corev1.Pod](deps)
		made := atomic.Int32{}
		var loop *control.Loop
		loop = control.NewLoop(deps, 1, func(ctx context.Context, key string) error {
			n := made.Load()
			if got := len(pods.List()); got != int(n) {
				t.Errorf("the cache shows %d pods of %d", got, n)
			}
			if n == 5 {
				return nil
			}
			made.Add(1)
			loop.Add(key)
			_, err := pods.Create(ctx, mastertest.Pod(fmt.Sprint("pod-", n)))
			return err
		})
		control.Read(loop, pods)
		bench.Start(loop.Run)
		loop.Add("a")
		time.Sleep(time.Minute)
		if n := made.Load(); n != 5 {
			t.Errorf("%d pods were made", n)
		}
	})
}

func TestLookSeesWhatWasWrittenThoughNobodySaidSo(t *testing.T) {
	for _, row := range []struct {
		name   string
		answer func(do func() (*http.Response, error)) (*http.Response, error)
		next   bool // another loop looks, the first has ended
	}{
		{"the answer was lost", func(do func() (*http.Response, error)) (*http.Response, error) {
			do()
			return nil, io.ErrUnexpectedEOF
		}, false},
		{"the loop before has written it", func(do func() (*http.Response, error)) (*http.Response, error) { return do() }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					if mastertest.Is(r, http.MethodPost, "/pods") {
						return row.answer(do)
					}
					response, err := do()
					if err == nil && mastertest.IsWatch(r, "pods") {
						mastertest.Lag(response, func() time.Duration { return time.Second })
					}
					return response, err
				})
				deps := bench.Deps()
				start := func() (stop func()) {
					pods := control.Of[*corev1.Pod](deps)
					loop := control.NewLoop(deps, 1, func(ctx context.Context, key string) (err error) {
						if len(pods.List()) == 0 {
							pod := mastertest.Pod("")
							pod.GenerateName = "web-"
							_, err = pods.Create(ctx, pod)
						}
						return err
					})
					control.Watch(loop, pods, control.Itself)
					loop.Add("the only one")
					return bench.Start(loop.Run)
				}
				stop := start()
				time.Sleep(500 * time.Millisecond)
				if row.next {
					stop()
					start()
				}
				time.Sleep(5 * time.Second)
				if made := mastertest.List[*corev1.Pod](t, bench.Client); len(made) != 1 {
					t.Errorf("%d pods were made, want 1", len(made))
				}
			})
		})
	}
}

func TestChangeWritesACopyAndOnlyWhatDiffers(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		pods := control.Of[*corev1.Pod](bench.Deps())
		pod := mastertest.Create(t, bench.Client, labelled("a", "1"))
		mark := func(p *corev1.Pod) { p.Labels["v"] = "2"; p.Status.PodIP = "10.0.0.1" }
		same, err := pods.Change(t.Context(), pod, func(*corev1.Pod) {})
		if err != nil || same != pod || len(bench.Wire.Writes()) != 0 {
			t.Errorf("changed nothing: %v, %v, writes %v", same, err, bench.Wire.Writes())
		}
		changed, err := pods.Change(t.Context(), pod, mark)
		if err != nil || label(changed) != "2" || changed.Status.PodIP != "" || label(pod) != "1" {
			t.Errorf("changed: %v, %v; the object that was read: %v", changed, err, pod)
		}
		if stale, err := pods.Change(t.Context(), pod, mark); !apierrors.IsConflict(err) || stale != pod {
			t.Errorf("a change of what has changed: %v, %v", stale, err)
		}
		told, err := pods.ChangeStatus(t.Context(), changed, mark)
		if err != nil || told.Status.PodIP != "10.0.0.1" {
			t.Errorf("status: %v, %v", told, err)
		}
	})
}

func TestDeleteMeansOneObjectAndIsContentIfThatIsGone(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		pods := control.Of[*corev1.Pod](bench.Deps())
		old := mastertest.Create(t, bench.Client, labelled("a", "1"))
		for range 2 {
			if err := pods.Delete(t.Context(), old); err != nil {
				t.Error(err)
			}
		}
		mastertest.Create(t, bench.Client, labelled("a", "2"))
		if err := pods.Delete(t.Context(), old); !apierrors.IsConflict(err) {
			t.Errorf("deleting one that is gone, whose name another has: %v", err)
		}
		if _, ok := mastertest.Find[*corev1.Pod](t, bench.Client, "default", "a"); !ok {
			t.Error("the other one is gone")
		}
	})
}

func TestObjectsAreFoundByTheirController(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		guest := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "guest", UID: "guest"}
		boss := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "boss", UID: "boss", Controller: new(true)}
		mastertest.Create(t, bench.Client, mastertest.Pod("owned", func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{guest, boss} }))
		mastertest.Create(t, bench.Client, mastertest.Pod("visited", func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{guest} }))
		pods := control.Of[*corev1.Pod](bench.Deps())
		if err := pods.WaitSynced(t.Context()); err != nil {
			t.Fatal(err)
		}
		for uid, want := range map[types.UID]string{"boss": "owned", "": "visited", "guest": ""} {
			got := ""
			for _, p := range pods.Controlled(uid) {
				got += p.Name
			}
			if got != want {
				t.Errorf("of %q: %q, want %q", uid, got, want)
			}
		}
	})
}

func TestCachesAskedForLateRunAndAllStopWithTheirSet(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := control.NewDeps(bench.Loops(), "master")
		early := control.Of[*corev1.Pod](deps)
		stop := bench.Start(deps.Run)
		synctest.Wait()
		late := control.Of[*corev1.Node](deps.As("loop"))
		if control.Of[*corev1.Pod](deps.As("loop")).Informer != early.Informer || control.Of[*corev1.Node](deps).Informer != late.Informer {
			t.Error("a kind has two caches")
		}
		for _, wait := range []func(context.Context) error{early.CatchUp, late.CatchUp} {
			if err := wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		afterwards := control.Of[*corev1.Service](deps) // must not start: the bubble would find it running
		mastertest.Create(t, bench.Client, mastertest.Pod("unseen"))
		time.Sleep(time.Minute)
		if len(early.List()) != 0 || len(afterwards.List()) != 0 {
			t.Error("a cache was kept on")
		}
	})
}

func TestHandlerMayAskForAnotherCacheWhileTheSetStops(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := control.NewDeps(bench.Loops(), "master")
		pods := control.Of[*corev1.Pod](deps)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- deps.Run(ctx) }()
		if err := pods.WaitSynced(ctx); err != nil {
			t.Fatal(err)
		}
		called := false
		pods.Subscribe(t.Context(), func(_, _ *corev1.Pod) {
			cancel()
			time.Sleep(time.Second) // until Run waits for us
			control.Of[*corev1.Node](deps)
			called = true
		})
		mastertest.Create(t, bench.Client, mastertest.Pod("web"))
		if err := <-ended; err != nil || !called {
			t.Errorf("Run returned %v, the handler got through: %v", err, called)
		}
	})
}

func TestWritesAndEventsCarryTheNameOfTheLoop(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := bench.Deps().As("tester")
		pod, err := control.Of[*corev1.Pod](deps).Create(t.Context(), mastertest.Pod("web"))
		if err != nil || !slices.ContainsFunc(pod.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "tester" }) {
			t.Errorf("the pod was written by %v, %v", pod.ManagedFields, err)
		}
		deps.Events.Normal(pod, "Tested", "it is %s", "fine")
		synctest.Wait()
		events := mastertest.Events(t, bench.Client, "web")
		if len(events) != 1 || events[0].Source.Component != "tester" || events[0].Message != "it is fine" || events[0].InvolvedObject.Kind != "Pod" {
			t.Errorf("events: %v", events)
		}
		for _, write := range bench.Wire.Writes() {
			if !strings.HasSuffix(write, " tester") && !strings.Contains(write, "/events") {
				t.Errorf("unexpected write: %s", write)
			}
		}
	})
}
