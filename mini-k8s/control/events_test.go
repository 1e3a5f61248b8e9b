package control_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
)

func TestEventThatSaysTheSameIsCountedNotRepeated(t *testing.T) {
	for _, row := range []struct {
		name   string
		record func(e *control.Events, pod *corev1.Pod)
		want   map[string]int32 // counts by source, reason and message
	}{
		{"the same thrice", func(e *control.Events, pod *corev1.Pod) {
			for range 3 {
				e.Warning(pod, "Failed", "no luck")
				time.Sleep(time.Minute)
			}
		}, map[string]int32{"a Failed no luck": 3}},
		{"at the same instant", func(e *control.Events, pod *corev1.Pod) {
			e.Normal(pod, "Made", "one")
			e.Normal(pod, "Made", "two")
			e.Normal(pod, "Made", "two")
		}, map[string]int32{"a Made one": 1, "a Made two": 2}},
		{"of different sources", func(e *control.Events, pod *corev1.Pod) {
			e.Normal(pod, "Made", "one")
			e.From("b").Normal(pod, "Made", "one")
		}, map[string]int32{"a Made one": 1, "b Made one": 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				events := control.NewEvents(bench.Loops(), "a", "")
				bench.Start(events.Run)
				row.record(events, mastertest.Create(t, bench.Client, mastertest.Pod("web")))
				synctest.Wait()
				got := map[string]int32{}
				for _, e := range mastertest.Events(t, bench.Client, "web") {
					got[e.Source.Component+" "+e.Reason+" "+e.Message] = e.Count
				}
				if len(got) != len(row.want) {
					t.Errorf("events %v, want %v", got, row.want)
				}
				for what, count := range row.want {
					if got[what] != count {
						t.Errorf("%s: counted %d, want %d", what, got[what], count)
					}
				}
			})
		})
	}
}

func TestEventIsCountedWhoeverWroteItAndHoweverLongAgo(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		pod := mastertest.Create(t, bench.Client, mastertest.Pod("web"))
		for range 2 { // the second recorder knows nothing of the first
			events := control.NewEvents(bench.Loops(), "a", "")
			stop := bench.Start(events.Run)
			events.Normal(pod, "Made", "it")
			time.Sleep(30 * time.Minute)
			stop()
		}
		found := mastertest.Events(t, bench.Client, "web")
		if len(found) != 1 || found[0].Count != 2 || found[0].LastTimestamp.Sub(found[0].FirstTimestamp.Time) != 30*time.Minute {
			t.Fatalf("events: %v", found)
		}
	})
}

func TestEventThatWasDeletedIsWrittenAnew(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		events := control.NewEvents(bench.Loops(), "a", "")
		bench.Start(events.Run)
		pod := mastertest.Create(t, bench.Client, mastertest.Pod("web"))
		events.Normal(pod, "Made", "it")
		synctest.Wait()
		mastertest.Delete[*corev1.Event](t, bench.Client, "default", mastertest.Events(t, bench.Client, "web")[0].Name, "")
		events.Normal(pod, "Made", "it")
		synctest.Wait()
		if found := mastertest.Events(t, bench.Client, "web"); len(found) != 1 || found[0].Count != 1 {
			t.Errorf("events: %v", found)
		}
	})
}

func TestEventsOfObjectsWithoutNamespaceAreInDefault(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		events := control.NewEvents(bench.Loops(), "a", "")
		bench.Start(events.Run)
		events.Warning(mastertest.Join(t, bench.Client, mastertest.Node("node-1", "1", "1Gi", "10")), "Odd", "it is")
		synctest.Wait()
		if found := mastertest.Events(t, bench.Client, "node-1"); len(found) != 1 || found[0].Namespace != "default" || found[0].InvolvedObject.Kind != "Node" {
			t.Errorf("events: %v", found)
		}
	})
}

// In the bubble, a call that waits for ever fails the test.
func TestRecordingNeverWaits(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		pod := mastertest.Create(t, bench.Client, mastertest.Pod("web"))
		idle := control.NewEvents(bench.Loops(), "a", "")
		for i := range 10_000 { // nobody writes them
			idle.Normal(pod, "Made", "%d", i)
		}
		events, tries := control.NewEvents(bench.Loops(), "a", ""), atomic.Int32{}
		bench.Start(events.Run)
		bench.Wire.Intercept(func(*http.Request, func() (*http.Response, error)) (*http.Response, error) {
			tries.Add(1)
			return nil, errors.New("the server is away")
		})
		for i := range 100 {
			events.Normal(pod, "Made", "%d", i)
		}
		synctest.Wait()
		bench.Wire.Intercept(nil)
		events.Normal(pod, "Made", "at last")
		synctest.Wait()
		if found := mastertest.Events(t, bench.Client, "web"); tries.Load() != 100 || len(found) != 1 || found[0].Message != "at last" {
			t.Errorf("%d tries while the server was away; events after it: %v", tries.Load(), found)
		}
	})
}
