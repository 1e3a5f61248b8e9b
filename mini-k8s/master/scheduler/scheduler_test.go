package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func expectPlaces(t *testing.T, bench *mastertest.Bench, want map[string]string) {
	t.Helper()
	mastertest.Settle()
	for name, node := range want {
		if got := place(t, bench, name); got != node {
			t.Errorf("%s is on %q, want %q", name, got, node)
		}
	}
}

// expectBound checks how many pods have a node.
func expectBound(t *testing.T, bench *mastertest.Bench, want int) {
	t.Helper()
	if got := bound(t, bench); got != want {
		t.Errorf("%d pods are bound, want %d", got, want)
	}
}

func TestPodThatFitsNowhereSaysSoOnceAndIsScheduledWhenTheClusterChanges(t *testing.T) {
	big := requests("800m", "1Mi")
	for _, row := range []struct {
		name   string
		why    string
		before func(t *testing.T, b *mastertest.Bench)
		change func(t *testing.T, b *mastertest.Bench)
		want   string
	}{
		{"a node is added", "no nodes available to schedule pods",
			func(*testing.T, *mastertest.Bench) {},
			func(t *testing.T, b *mastertest.Bench) { mastertest.Join(t, b.Client, node("new", "1", "1Gi", "10")) }, "new"},
		{"a pod goes", "0/1 nodes are available: 1 Insufficient cpu.",
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Join(t, b.Client, node("n", "1", "1Gi", "10"))
				mastertest.Create(t, b.Client, pod("old", big, func(p *corev1.Pod) { p.Spec.NodeName = "n" }))
			},
			func(t *testing.T, b *mastertest.Bench) {
				if _, err := client.Of[*corev1.Pod](b.Client).Delete(t.Context(), "default", "old", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
					t.Fatal(err)
				}
			}, "n"},
		{"a pod finishes", "0/1 nodes are available: 1 Insufficient cpu.",
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Join(t, b.Client, node("n", "1", "1Gi", "10"))
				mastertest.Create(t, b.Client, pod("old", big, func(p *corev1.Pod) { p.Spec.NodeName = "n" }))
			},
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.ChangeStatus(t, b.Client, "default", "old", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
			}, "n"},
		{"a node is uncordoned", "0/1 nodes are available: 1 node(s) were unschedulable.",
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Join(t, b.Client, node("n", "1", "1Gi", "10", cordoned))
			},
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Change(t, b.Client, "", "n", func(n *corev1.Node) { n.Spec.Unschedulable = false })
			}, "n"},
		{"a taint is taken off", "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.",
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Join(t, b.Client, node("n", "1", "1Gi", "10", tainted(corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule})))
			},
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Change(t, b.Client, "", "n", func(n *corev1.Node) { n.Spec.Taints = nil })
			}, "n"},
		{"a node grows", "0/1 nodes are available: 1 Insufficient cpu.",
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.Join(t, b.Client, node("n", "500m", "1Gi", "10"))
			},
			func(t *testing.T, b *mastertest.Bench) {
				mastertest.ChangeStatus(t, b.Client, "", "n", func(n *corev1.Node) { n.Status.Allocatable = node("n", "2", "1Gi", "10").Status.Allocatable })
			}, "n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				row.before(t, bench)
				bench.Start(New(bench.Deps()).Run)
				mastertest.Create(t, bench.Client, pod("web", big))
				time.Sleep(20 * time.Minute) // it is tried again now and then
				synctest.Wait()
				web := mastertest.Get[*corev1.Pod](t, bench.Client, "default", "web")
				if c := web.Status.Conditions; len(c) != 1 || c[0].Status != corev1.ConditionFalse || c[0].Reason != corev1.PodReasonUnschedulable || c[0].Message != row.why {
					t.Errorf("conditions: %v", c)
				}
				if e := mastertest.Events(t, bench.Client, "web"); len(e) != 1 || e[0].Count != 1 || e[0].Reason != "FailedScheduling" || e[0].Message != row.why {
					t.Errorf("events: %v", e)
				}
				row.change(t, bench)
				expectPlaces(t, bench, map[string]string{"web": row.want})
				scheduled := mastertest.Get[*corev1.Pod](t, bench.Client, "default", "web").Status.Conditions
				if len(scheduled) != 1 || scheduled[0].Status != corev1.ConditionTrue {
					t.Errorf("conditions: %v", scheduled)
				}
			})
		})
	}
}

func TestPodOfTheSameNameIsToldAnew(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run)
		for range 2 {
			mastertest.Create(t, bench.Client, pod("web"))
			mastertest.Settle()
			if c := mastertest.Get[*corev1.Pod](t, bench.Client, "default", "web").Status.Conditions; len(c) != 1 {
				t.Errorf("conditions: %v", c)
			}
			mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "web", "")
		}
		mastertest.Settle()
		if events := mastertest.Events(t, bench.Client, "web"); len(events) != 2 {
			t.Errorf("%d events for two pods", len(events))
		}
	})
}

// There is room for one pod. Whatever becomes of the first binding, one pod is bound in the end and the room is not
// given twice.
func TestRoomOfABindingThatFailsIsFreeAgainAndOfOneThatOnlySeemedToIsNot(t *testing.T) {
	for _, row := range []struct {
		name string
		how  mastertest.Intercept
	}{
		{"conflict", conflict},
		{"forbidden", mastertest.Refuse(apierrors.NewForbidden(podResource, "web", errors.New("not now")))},
		{"a failure of the server", mastertest.Refuse(apierrors.NewInternalError(errors.New("disk full")))},
		{"no connection", func(*http.Request, func() (*http.Response, error)) (*http.Response, error) {
			return nil, errors.New("connection refused")
		}},
		{"an answer that is lost", func(_ *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if response, err := do(); err == nil {
				response.Body.Close()
			}
			return nil, errors.New("connection reset")
		}},
		{"an answer that is lost, long after the watch has told", func(_ *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if response, err := do(); err == nil {
				response.Body.Close()
			}
			time.Sleep(5 * time.Second)
			return nil, errors.New("connection reset")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				mastertest.Join(t, bench.Client, node("n", "1", "1Gi", "10"))
				bench.Wire.Intercept(mastertest.Once(isBinding, row.how))
				bench.Start(New(bench.Deps()).Run)
				for i := range 3 {
					mastertest.Create(t, bench.Client, pod(fmt.Sprint("web-", i), requests("800m", "1Mi")))
				}
				time.Sleep(time.Minute)
				expectBound(t, bench, 1)
			})
		})
	}
}

func TestDecisionStandsUntilTheWatchTellsHoweverLateItIs(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		var gate mastertest.Gate
		lost := mastertest.Once(isBinding, func(_ *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			time.Sleep(time.Second) // until all pods are in the cache
			gate.Shut()
			if response, err := do(); err == nil {
				response.Body.Close()
			}
			return nil, errors.New("connection reset")
		})
		held := gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") })
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			return held(r, func() (*http.Response, error) { return lost(r, do) })
		})
		mastertest.Join(t, bench.Client, node("n", "1", "1Gi", "10"))
		bench.Start(New(bench.Deps()).Run)
		for i := range 3 {
			mastertest.Create(t, bench.Client, pod(fmt.Sprint("web-", i), requests("800m", "1Mi")))
		}
		time.Sleep(time.Minute) // the second try is answered with "already assigned"
		gate.Open()
		mastertest.Settle()
		expectBound(t, bench, 1)
	})
}

func TestSchedulerThatStartsAnewDoesNotRepeatWhatIsTold(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := bench.Deps()
		stop := bench.Start(New(deps).Run)
		mastertest.Create(t, bench.Client, pod("web"))
		mastertest.Settle()
		stop()
		writes := len(bench.Wire.Writes())
		bench.Start(New(deps).Run)
		mastertest.Settle()
		if got := bench.Wire.Writes()[writes:]; len(got) > 0 {
			t.Errorf("writes: %v", got)
		}
		mastertest.Join(t, bench.Client, node("new", "1", "1Gi", "10"))
		expectPlaces(t, bench, map[string]string{"web": "new"})
	})
}

func TestRoomOfAPodThatIsDeletedBeforeItsBindingGoesToTheNext(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		mastertest.Join(t, bench.Client, node("n", "1", "1Gi", "10"))
		bench.Wire.Intercept(mastertest.Once(isBinding, func(_ *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			time.Sleep(time.Second) // meanwhile the second pod finds no room
			mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "first", "")
			return do()
		}))
		bench.Start(New(bench.Deps()).Run)
		mastertest.Create(t, bench.Client, pod("first", requests("800m", "1Mi")))
		synctest.Wait()
		mastertest.Create(t, bench.Client, pod("second", requests("800m", "1Mi")))
		expectPlaces(t, bench, map[string]string{"second": "n"})
	})
}

// Invariant 1, at every moment: while pods and nodes come and go, answers are lost, the watch lags and the scheduler
// restarts, no node has more on it than it has room for. In the end no pod waits that would fit.
func TestNodesAreNeverOverbookedWhateverHappens(t *testing.T) {
	for range 3 {
		seed := uint64(time.Now().UnixNano())
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) { storm(t, bench, seed) })
		})
	}
}

func storm(t *testing.T, bench *mastertest.Bench, seed uint64) {
	var mu sync.Mutex
	shared := rand.New(rand.NewPCG(seed, 0))
	chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return shared.IntN(n) }
	bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
		if isBinding(r) {
			time.Sleep(time.Duration(chance(30)) * time.Millisecond)
			switch chance(12) {
			case 0:
				return nil, errors.New("connection refused")
			case 1:
				if response, err := do(); err == nil {
					response.Body.Close()
				}
				return nil, errors.New("connection reset")
			case 2:
				return conflict(r, do)
			}
		}
		response, err := do()
		if err == nil && r.URL.Query().Get("watch") != "" {
			mastertest.Lag(response, func() time.Duration { return time.Duration(chance(20)) * time.Millisecond })
		}
		return response, err
	})

	nodes := map[string]*corev1.Node{}
	books := newBooks(t)
	witness := control.NewInformer(client.Of[*corev1.Pod](bench.Client), client.Selection{})
	witness.Subscribe(t.Context(), books.note)
	bench.Start(witness.Run)
	join := func() {
		n := node(fmt.Sprint("node-", len(nodes)), fmt.Sprint(1+chance(4)), fmt.Sprint(1+chance(4), "Gi"), fmt.Sprint(4+chance(8)))
		books.join(n)
		nodes[n.Name] = mastertest.Join(t, bench.Client, n)
	}
	join()
	join()
	deps := bench.Deps()
	stop := bench.Start(New(deps).Run)

	var users sync.WaitGroup
	for user := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, user+1))
		users.Go(func() {
			var mine []string
			for i := range 50 {
				if random.IntN(3) > 0 || len(mine) == 0 {
					name := fmt.Sprintf("pod-%d-%d", user, i)
					_, err := client.Of[*corev1.Pod](bench.Client).Create(t.Context(), pod(name, ownedBy(fmt.Sprint("owner-", random.IntN(4))),
						requests(fmt.Sprint(random.IntN(12), "00m"), fmt.Sprint(random.IntN(10), "00Mi"))))
					if err != nil {
						t.Errorf("create %s: %v", name, err)
					}
					mine = append(mine, name)
				} else {
					i := random.IntN(len(mine))
					_, err := client.Of[*corev1.Pod](bench.Client).Delete(t.Context(), "default", mine[i], metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
					if err != nil {
						t.Errorf("delete %s: %v", mine[i], err)
					}
					mine = slices.Delete(mine, i, i+1)
				}
				time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			}
		})
	}
	for range 4 {
		time.Sleep(400 * time.Millisecond)
		stop()
		if chance(2) == 0 {
			join()
		}
		stop = bench.Start(New(deps).Run)
	}
	users.Wait()
	time.Sleep(30 * time.Second) // retries, but not yet everUnfit
	synctest.Wait()

	l := newLedger()
	for _, n := range mastertest.List[*corev1.Node](t, bench.Client) {
		l.setNode(nil, n)
	}
	waiting := 0
	pods := mastertest.List[*corev1.Pod](t, bench.Client)
	for _, p := range pods {
		l.setPod(nil, p)
	}
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			continue
		}
		waiting++
		if best, _ := choose(p, l.nodes); best != "" {
			t.Errorf("%s waits, though %s has room for it", p.Name, best)
		}
	}
	t.Logf("%d nodes, %d pods at the end, %d of them waiting; at most %d%% of a node was taken", len(nodes), len(pods), waiting, books.most)
	if books.most < 80 {
		t.Error("the nodes never were near full: nothing was tested")
	}
}

// books keeps what the pods on each node ask for, as the watch tells, and fails the test when that is too much.
type books struct {
	t    *testing.T
	mu   sync.Mutex
	room map[string]resources
	used map[string]resources
	most int64 // share of a node that was taken, in percent
}

func newBooks(t *testing.T) *books {
	return &books{t: t, room: map[string]resources{}, used: map[string]resources{}}
}

func (b *books) join(n *corev1.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.room[n.Name] = roomOf(n)
}

func (b *books) note(old, p *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	add := func(p *corev1.Pod, sign int64) {
		if p == nil || p.Spec.NodeName == "" || api.PodFinished(p) {
			return
		}
		cpu, memory := api.PodRequests(p)
		u := b.used[p.Spec.NodeName]
		b.used[p.Spec.NodeName] = resources{u.cpu + sign*cpu.MilliValue(), u.memory + sign*memory.Value(), u.pods + sign}
	}
	add(old, -1)
	add(p, 1)
	if p == nil || p.Spec.NodeName == "" {
		return
	}
	used, room := b.used[p.Spec.NodeName], b.room[p.Spec.NodeName]
	if used.cpu > room.cpu || used.memory > room.memory || used.pods > room.pods {
		b.t.Errorf("%s is overbooked by %s: %+v of %+v", p.Spec.NodeName, p.Name, used, room)
	}
	b.most = max(b.most, 100*used.cpu/room.cpu, 100*used.memory/room.memory, 100*used.pods/room.pods)
	if old != nil && old.Spec.NodeName != "" && old.Spec.NodeName != p.Spec.NodeName {
		b.t.Errorf("%s was bound twice: %s", p.Name, strings.Join([]string{old.Spec.NodeName, p.Spec.NodeName}, ", "))
	}
}
