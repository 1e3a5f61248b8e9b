package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestTailStaysWithinItsBounds(t *testing.T) {
	for name, size := range map[string]int{"many changes": 1, "large changes": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			tail := &tail{}
			value := make([]byte, size)
			for revision := range int64(tailChanges + 100) {
				tail.publish([]*Change{{Revision: revision + 1, Value: value}})
			}
			if len(tail.changes) > tailChanges || len(tail.changes)*size > tailBytes || tail.bytes != len(tail.changes)*size {
				t.Errorf("the tail holds %d changes and says they are %d bytes", len(tail.changes), tail.bytes)
			}
			if tail.changes[0].Revision != tail.since+1 {
				t.Errorf("the tail begins after %d with %d", tail.since, tail.changes[0].Revision)
			}
		})
	}
}

// Whoever waits for a quiet prefix must not fall behind the tail meanwhile, nor be overtaken by compaction.
func TestSleeperKeepsUpWithOtherPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := &tail{}
		watcher := &Watcher{tail: tail, prefix: "pods/"}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := watcher.Next(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Next returned %v", err)
			}
		}()
		synctest.Wait() // until it sleeps
		const others = tailChanges + 1
		for revision := range int64(others) {
			tail.publish([]*Change{{Revision: revision + 1, Key: "leases/a"}})
			synctest.Wait() // until it sleeps again
		}
		cancel()
		synctest.Wait()
		if watcher.Revision() < others-tailChanges/2 {
			t.Errorf("the watcher looked up to %d of %d", watcher.Revision(), others)
		}
		tail.publish([]*Change{{Revision: others + 1, Key: "pods/a"}})
		if changes, err := watcher.Next(t.Context()); err != nil || len(changes) != 1 || watcher.Revision() != others+1 {
			t.Errorf("Next returned %d changes up to %d, %v", len(changes), watcher.Revision(), err)
		}
	})
}
