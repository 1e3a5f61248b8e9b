package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
)

func TestComponentThatFailsStopsTheOthersAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, stopped := errors.New("out of paper"), 0
		other := control.Component{Name: "other", Run: func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // Run waits for it
			stopped++
			return ctx.Err()
		}}
		err := control.Run(t.Context(), other, control.Component{Name: "printer", Run: func(context.Context) error {
			time.Sleep(time.Minute)
			return broken
		}})
		if !errors.Is(err, broken) || err.Error() != "printer: out of paper" {
			t.Errorf("Run returned %v", err)
		}
		if stopped != 1 {
			t.Error("Run did not wait for the other component")
		}
	})
}

func TestRunThatIsToldToStopIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		until := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		if err := control.Run(ctx, control.Component{Name: "a", Run: until}, control.Component{Name: "b", Run: until}); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestInformersAskedForLateRunAndAllStopWithTheirSet(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		informers := control.NewInformers(bench.Loops())
		early := control.Shared[*corev1.Pod](informers)
		stop := bench.Start(informers.Run)
		synctest.Wait()
		late := control.Shared[*corev1.Node](informers)
		if control.Shared[*corev1.Pod](informers) != early || control.Shared[*corev1.Node](informers) != late {
			t.Error("a kind has two informers")
		}
		for _, wait := range []func(context.Context) error{early.WaitSynced, late.WaitSynced} {
			if err := wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		afterwards := control.Shared[*corev1.Service](informers) // must not start: the bubble would find it running
		mastertest.Create(t, bench.Client, mastertest.Pod("unseen"))
		time.Sleep(time.Minute)
		if len(early.List()) != 0 || len(afterwards.List()) != 0 {
			t.Error("an informer ran on")
		}
	})
}

func TestHandlerMayAskForAnotherInformerWhileTheSetStops(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		informers := control.NewInformers(bench.Loops())
		pods := control.Shared[*corev1.Pod](informers)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- informers.Run(ctx) }()
		if err := pods.WaitSynced(ctx); err != nil {
			t.Fatal(err)
		}
		called := false
		pods.Subscribe(t.Context(), func(_, _ *corev1.Pod) {
			cancel()
			time.Sleep(time.Second) // until Run waits for us
			control.Shared[*corev1.Node](informers)
			called = true
		})
		mastertest.Create(t, bench.Client, mastertest.Pod("web"))
		if err := <-ended; !errors.Is(err, context.Canceled) || !called {
			t.Errorf("Run returned %v, the handler got through: %v", err, called)
		}
	})
}

func TestWritesAndEventsCarryTheNameOfTheLoop(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := bench.Deps().As("tester")
		pod := mastertest.Create(t, deps.Client, mastertest.Pod("web"))
		if got := pod.ManagedFields[0].Manager; got != "tester" {
			t.Errorf("the pod was written by %q", got)
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
