package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type pods = control.Informer[*corev1.Pod]

// watchPods runs an informer of the bench's pods and returns it when it has synced.
func watchPods(t *testing.T, bench *mastertest.Bench) *pods {
	t.Helper()
	informer := control.NewInformer(client.Of[*corev1.Pod](bench.Loops()), client.Selection{})
	bench.Start(informer.Run)
	if err := informer.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return informer
}

// label returns what a pod's label "v" says.
func label(pod *corev1.Pod) string { return pod.Labels["v"] }

func labelled(name, v string) *corev1.Pod {
	return mastertest.Pod(name, func(p *corev1.Pod) { p.Labels = map[string]string{"v": v} })
}

func relabel(t *testing.T, bench *mastertest.Bench, name, v string) *corev1.Pod {
	t.Helper()
	return mastertest.Change(t, bench.Client, "default", name, func(p *corev1.Pod) { p.Labels = map[string]string{"v": v} })
}

// diary writes down what a handler is told: "+web:1", "web:1>2", "-web:2".
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(old, pod *corev1.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case old == nil:
		d.lines = append(d.lines, "+"+pod.Name+":"+label(pod))
	case pod == nil:
		d.lines = append(d.lines, "-"+old.Name+":"+label(old))
	default:
		d.lines = append(d.lines, pod.Name+":"+label(old)+">"+label(pod))
	}
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("handlers were told %v, want %v", d.lines, want)
	}
	d.lines = nil
}

func TestInformerShowsWhatThereIsAndWhatBecomesOfIt(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		mastertest.Create(t, bench.Client, labelled("a", "1"))
		informer := watchPods(t, bench)
		if pod, ok := informer.Get("default/a"); !ok || label(pod) != "1" {
			t.Fatalf("listed: %v", pod)
		}
		mastertest.Create(t, bench.Client, labelled("b", "1"))
		relabel(t, bench, "a", "2")
		synctest.Wait()
		if pod, _ := informer.Get("default/a"); label(pod) != "2" || len(informer.List()) != 2 {
			t.Errorf("a is %v, there are %d", pod, len(informer.List()))
		}
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "a", "")
		synctest.Wait()
		if _, ok := informer.Get("default/a"); ok || len(informer.List()) != 1 {
			t.Errorf("a is still there, with %d in all", len(informer.List()))
		}
	})
}

func TestIndexFindsObjectsUnderAllTheirValuesAndNoOthers(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		mastertest.Create(t, bench.Client, labelled("early", "x.y"))
		informer := watchPods(t, bench)
		informer.Index("v", func(p *corev1.Pod) []string { return strings.Split(label(p), ".") })
		informer.Index("v", func(p *corev1.Pod) []string { panic("an index is named once") })
		mastertest.Create(t, bench.Client, labelled("late", "y.z"))
		expect := func(value string, want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, p := range informer.ByIndex("v", value) {
				got = append(got, p.Name+":"+label(p))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("under %s: %v, want %v", value, got, want)
			}
		}
		expect("x", "early:x.y")
		expect("y", "early:x.y", "late:y.z")
		expect("z", "late:y.z")
		relabel(t, bench, "late", "z.x")
		expect("x", "early:x.y", "late:z.x")
		expect("y", "early:x.y")
		expect("z", "late:z.x")
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "early", "")
		expect("x", "late:z.x")
		expect("y")
		expect("never")
	})
}

func TestSubscriberSeesAllThatIsThereThenEveryChangeUntilItsContextEnds(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		mastertest.Create(t, bench.Client, labelled("a", "1"))
		informer := watchPods(t, bench)
		relabel(t, bench, "a", "2")
		synctest.Wait()
		var first, second diary
		ctx, leave := context.WithCancel(t.Context())
		informer.Subscribe(ctx, first.note)
		informer.Subscribe(t.Context(), second.note)
		relabel(t, bench, "a", "3")
		synctest.Wait()
		first.expect(t, "+a:2", "a:2>3")
		leave()
		synctest.Wait()
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "a", "")
		synctest.Wait()
		first.expect(t)
		second.expect(t, "+a:2", "a:2>3", "-a:3")
	})
}

// plug is a connection for watches that a test can pull out and put in again.
type plug struct {
	mu  sync.Mutex // guards all below
	out bool
	end []func() error // the watches
}

func (p *plug) intercept(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
	if !mastertest.IsWatch(r, "pods") {
		return do()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out {
		return nil, errors.New("the cable is out")
	}
	response, err := do()
	if err == nil {
		p.end = append(p.end, response.Body.Close)
	}
	return response, err
}

func (p *plug) pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = true
	for _, end := range p.end {
		end()
	}
}

func (p *plug) put() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = false
}

func TestObjectMadeAgainWhileNobodyWatchedIsRemovedThenAdded(t *testing.T) {
	for _, row := range []struct {
		name      string
		forgotten bool // the changes meanwhile, so that the informer must list
	}{{"the watch goes on", false}, {"the list is read anew", true}} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				var cable plug
				bench.Wire.Intercept(cable.intercept)
				mastertest.Create(t, bench.Client, labelled("a", "1"))
				mastertest.Create(t, bench.Client, labelled("b", "1"))
				mastertest.Create(t, bench.Client, labelled("c", "1"))
				informer := watchPods(t, bench)
				informer.Index("v", func(p *corev1.Pod) []string { return []string{label(p)} })
				var told diary
				informer.Subscribe(t.Context(), told.note)
				synctest.Wait()
				told.lines = nil

				cable.pull()
				mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "a", "")
				mastertest.Create(t, bench.Client, labelled("a", "2"))
				mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "b", "")
				last := mastertest.Create(t, bench.Client, labelled("d", "1"))
				time.Sleep(time.Second)
				told.expect(t)
				if row.forgotten {
					if err := bench.Store.Compact(t.Context(), control.Revision(last.ResourceVersion)); err != nil {
						t.Fatal(err)
					}
				}
				cable.put()
				if err := informer.WaitFor(t.Context(), control.Revision(last.ResourceVersion)); err != nil {
					t.Fatal(err)
				}
				if row.forgotten {
					slices.SortStableFunc(told.lines, func(a, b string) int { return strings.Compare(a[1:2], b[1:2]) }) // a list has no order
				}
				told.expect(t, "-a:1", "+a:2", "-b:1", "+d:1") // and nothing of c, which has not changed
				if old := informer.ByIndex("v", "1"); len(old) != 2 {
					t.Errorf("the index has %d of version 1, want c and d", len(old))
				}
			})
		})
	}
}

// Connections that break at any byte lose no change, and double none.
func TestNoChangeIsLostOverBrokenConnections(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		random, watches := rand.New(rand.NewPCG(seed, 0)), atomic.Int32{}
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "pods") {
				watches.Add(1)
				response.Body = &fragile{ReadCloser: response.Body, left: 500 + random.IntN(6000)}
			}
			return response, err
		})
		informer := watchPods(t, bench)
		var told diary
		informer.Subscribe(t.Context(), told.note)
		pod := mastertest.Create(t, bench.Client, labelled("a", "0"))
		want := []string{"+a:0"}
		for i := range 100 {
			pod = relabel(t, bench, "a", fmt.Sprint(i+1))
			want = append(want, fmt.Sprintf("a:%d>%d", i, i+1))
		}
		if err := informer.WaitFor(t.Context(), control.Revision(pod.ResourceVersion)); err != nil {
			t.Fatal(err)
		}
		told.expect(t, want...)
		if n := watches.Load(); n < 10 {
			t.Errorf("only %d watches: nothing was tested", n)
		}
	})
}

// fragile is a body that breaks after some bytes.
type fragile struct {
	io.ReadCloser
	left int
}

func (f *fragile) Read(into []byte) (int, error) {
	if f.left == 0 {
		f.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := f.ReadCloser.Read(into[:min(len(into), f.left)])
	f.left -= n
	return n, err
}

func TestWaitForReturnsWhenTheCacheShowsTheRevision(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		var gate mastertest.Gate
		bench.Wire.Intercept(gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") }))
		informer := watchPods(t, bench)
		gate.Shut()
		pod := mastertest.Create(t, bench.Client, labelled("a", "1"))
		revision := control.Revision(pod.ResourceVersion)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := informer.WaitFor(ctx, revision); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the wait for a change that is held back ended with %v", err)
		}
		gate.Open()
		if err := informer.WaitFor(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		if _, ok := informer.Get("default/a"); !ok {
			t.Error("the cache does not show the change that it was waited for")
		}
		if err := informer.WaitFor(t.Context(), revision-1); err != nil {
			t.Errorf("what is past needs no wait: %v", err)
		}
	})
}

func TestWaitSyncedEndsWithItsContext(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		informer := control.NewInformer(client.Of[*corev1.Pod](bench.Loops()), client.Selection{}) // does not run
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := informer.WaitSynced(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitSynced returned %v", err)
		}
	})
}

func TestInformerKeepsTryingWhateverIsAnswered(t *testing.T) {
	pod := schema.GroupResource{Resource: "pods"}
	for _, row := range []struct {
		name    string
		failure error
	}{
		{"401", apierrors.NewUnauthorized("who are you?")},
		{"403", apierrors.NewForbidden(pod, "", errors.New("not you"))},
		{"500", apierrors.NewInternalError(errors.New("the disk is full"))},
		{"no answer", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				var tries atomic.Int32
				bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					tries.Add(1)
					if row.failure == nil {
						return nil, errors.New("connection refused")
					}
					return mastertest.Refusal(row.failure), nil
				})
				mastertest.Create(t, bench.Client, labelled("a", "1"))
				informer := control.NewInformer(client.Of[*corev1.Pod](bench.Loops()), client.Selection{})
				bench.Start(informer.Run)
				time.Sleep(time.Minute)
				if n := tries.Load(); n < 5 || n > 40 {
					t.Errorf("%d tries in a minute", n)
				}
				bench.Wire.Intercept(nil)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := informer.WaitSynced(ctx); err != nil {
					t.Fatalf("still not synced when all is well again: %v", err)
				}
			})
		})
	}
}

func TestInformerFollowsOnlyWhatItSelects(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		informer := control.NewInformer(client.Of[*corev1.Pod](bench.Loops()), client.Selection{Labels: "v=1"})
		var told diary
		informer.Subscribe(t.Context(), told.note)
		bench.Start(informer.Run)
		mastertest.Create(t, bench.Client, labelled("a", "1"))
		mastertest.Create(t, bench.Client, labelled("b", "2"))
		synctest.Wait()
		relabel(t, bench, "a", "2")
		relabel(t, bench, "b", "1")
		synctest.Wait()
		told.expect(t, "+a:1", "-a:1", "+b:1")
	})
}
