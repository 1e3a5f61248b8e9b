package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestComponentThatFailsStopsTheOthersAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, stopped := errors.New("out of paper"), 0
		other := Component{Name: "other", Run: func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // Run waits for it
			stopped++
			return ctx.Err()
		}}
		err := Run(t.Context(), other, Component{Name: "printer", Run: func(context.Context) error {
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
		if err := Run(ctx, Component{Name: "a", Run: until}, Component{Name: "b", Run: until}); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestBackoffDoublesFromTheFirstToTheLast(t *testing.T) {
	for i, want := range []time.Duration{3, 6, 12, 20, 20} {
		if got := backoff(i+1, 3, 20); got != want {
			t.Errorf("after %d failures: %d, want %d", i+1, got, want)
		}
	}
	if got := backoff(1000, time.Second, time.Hour); got != time.Hour {
		t.Errorf("after 1000 failures: %v", got)
	}
}
