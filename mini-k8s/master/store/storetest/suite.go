// Package storetest holds what every store.Store must do, as tests.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/master/store"
)

// patience is how long a test waits for what must happen; no test waits this long unless it fails.
const patience = 30 * time.Second

// Run runs the suite. Each test calls open once, for an empty store that open closes at the end of the test; a
// test may have closed it already.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, harness)
	}{
		{"CreatedObjectCanBeRead", createdObjectCanBeRead},
		{"MissingObjectIsNotFound", missingObjectIsNotFound},
		{"UpdateReplacesTheValue", updateReplacesTheValue},
		{"DeletedObjectIsGoneAndCanComeBack", deletedObjectIsGone},
		{"WriteIsRefusedUnlessTheRevisionIsExpected", writeIsRefused},
		{"EmptyValueIsNotADeletion", emptyValueIsNotADeletion},
		{"ListIsOrderedAndEndsWithThePrefix", listIsOrdered},
		{"RevisionsOnlyGrow", revisionsOnlyGrow},
		{"CountingGoroutinesLoseNoIncrement", countingLosesNothing},
		{"ListRevisionMissesNoChange", listRevisionMissesNoChange},
		{"WatchFromThePastTellsEveryChange", watchFromThePast},
		{"WatchSeesItsPrefixOnly", watchSeesItsPrefixOnly},
		{"WatchRevisionPassesOtherPrefixes", watchRevisionPassesOtherPrefixes},
		{"WatchOfTheFutureIsRefused", watchOfTheFuture},
		{"SleepingWatchersAllWake", sleepingWatchersAllWake},
		{"ChangeIsDerivedOnce", changeIsDerivedOnce},
		{"SlowWatcherHarmsNobody", slowWatcherHarmsNobody},
		{"ListAtRevisionIsTheStateOfThen", listAtRevision},
		{"ListAtSurvivesCompactionFromItsRevisionOn", listAtSurvivesCompaction},
		{"CompactedChangesAreRefused", compactedChangesAreRefused},
		{"CompactionKeepsObjectsAndPreviousValues", compactionKeepsObjects},
		{"CompactionOfTheFutureIsRefused", compactionOfTheFuture},
		{"EndedContextEndsTheCall", endedContextEndsTheCall},
		{"CloseEndsWatchesAndCalls", closeEndsWatches},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			test.run(t, harness{T: t, ctx: ctx, store: open(t)})
		})
	}
}

// harness is a store under test with calls that fail the test when the store fails.
type harness struct {
	*testing.T
	ctx   context.Context
	store store.Store
}

func (h harness) create(key, value string) int64 {
	h.Helper()
	revision, err := h.store.Create(h.ctx, key, []byte(value), "test")
	h.must(err)
	return revision
}

func (h harness) update(key, value string, expected int64) int64 {
	h.Helper()
	revision, err := h.store.Update(h.ctx, key, []byte(value), expected, "test")
	h.must(err)
	return revision
}

func (h harness) delete(key string, expected int64) int64 {
	h.Helper()
	revision, err := h.store.Delete(h.ctx, key, expected, "test")
	h.must(err)
	return revision
}

func (h harness) list(prefix string) ([]store.Object, int64) {
	h.Helper()
	objects, revision, err := h.store.List(h.ctx, prefix)
	h.must(err)
	return objects, revision
}

func (h harness) watch(prefix string, after int64) *store.Watcher {
	h.Helper()
	watcher, err := h.store.Watch(prefix, after)
	h.must(err)
	return watcher
}

// until reads the watcher up to the change with the revision, which must come.
func (h harness) until(watcher *store.Watcher, revision int64) []*store.Change {
	h.Helper()
	var all []*store.Change
	for len(all) == 0 || all[len(all)-1].Revision < revision {
		changes, err := watcher.Next(h.ctx)
		h.must(err)
		if len(changes) == 0 {
			h.Fatal("Next returned neither changes nor an error")
		}
		all = append(all, changes...)
		if last := all[len(all)-1].Revision; watcher.Revision() < last {
			h.Fatalf("the watcher is at revision %d after change %d", watcher.Revision(), last)
		}
	}
	return all
}

func (h harness) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h harness) mustBe(err, target error) {
	h.Helper()
	if !errors.Is(err, target) {
		h.Errorf("error is %v, want %v", err, target)
	}
}

func (h harness) mustEqual(got, want any) {
	h.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		h.Errorf("got %v, want %v", got, want)
	}
}

// tell writes a change down as "key: previous -> value".
func tell(changes []*store.Change) []string {
	side := func(value []byte) string {
		if value == nil {
			return "nothing"
		}
		return string(value)
	}
	var told []string
	for _, c := range changes {
		told = append(told, fmt.Sprintf("%s: %s -> %s", c.Key, side(c.Previous), side(c.Value)))
	}
	return told
}

func createdObjectCanBeRead(t *testing.T, h harness) {
	revision := h.create("pods/default/web", "one")
	object, err := h.store.Get(h.ctx, "pods/default/web")
	h.must(err)
	h.mustEqual(object, store.Object{Key: "pods/default/web", Value: []byte("one"), Revision: revision})
	_, err = h.store.Create(h.ctx, "pods/default/web", []byte("two"), "test")
	h.mustBe(err, store.ErrExists)
}

func missingObjectIsNotFound(t *testing.T, h harness) {
	_, err := h.store.Get(h.ctx, "a")
	h.mustBe(err, store.ErrNotFound)
	for _, expected := range []int64{0, 1} {
		_, err = h.store.Update(h.ctx, "a", []byte("one"), expected, "test")
		h.mustBe(err, store.ErrNotFound)
		_, err = h.store.Delete(h.ctx, "a", expected, "test")
		h.mustBe(err, store.ErrNotFound)
	}
	objects, revision := h.list("")
	if len(objects) != 0 || revision < 0 {
		t.Errorf("empty store lists %v at revision %d", objects, revision)
	}
}

func updateReplacesTheValue(t *testing.T, h harness) {
	created := h.create("a", "one")
	updated := h.update("a", "two", created)
	object, err := h.store.Get(h.ctx, "a")
	h.must(err)
	h.mustEqual(object, store.Object{Key: "a", Value: []byte("two"), Revision: updated})
}

func deletedObjectIsGone(t *testing.T, h harness) {
	watcher := h.watch("", h.revision())
	h.delete("a", h.create("a", "one"))
	_, err := h.store.Get(h.ctx, "a")
	h.mustBe(err, store.ErrNotFound)
	objects, _ := h.list("")
	h.mustEqual(len(objects), 0)
	changes := h.until(watcher, h.create("a", "again"))
	h.mustEqual(tell(changes), []string{"a: nothing -> one", "a: one -> nothing", "a: nothing -> again"})
}

func writeIsRefused(t *testing.T, h harness) {
	first := h.create("a", "one")
	second := h.update("a", "two", first)
	for _, stale := range []int64{0, first, second + 1} {
		_, err := h.store.Update(h.ctx, "a", []byte("three"), stale, "test")
		h.mustBe(err, store.ErrConflict)
		_, err = h.store.Delete(h.ctx, "a", stale, "test")
		h.mustBe(err, store.ErrConflict)
	}
	h.mustEqual(h.revision(), second) // a refused write is no change
}

func emptyValueIsNotADeletion(t *testing.T, h harness) {
	watcher := h.watch("", h.revision())
	for i, empty := range [][]byte{nil, {}} {
		revision, err := h.store.Create(h.ctx, strconv.Itoa(i), empty, "test")
		h.must(err)
		object, err := h.store.Get(h.ctx, strconv.Itoa(i))
		h.must(err)
		change := h.until(watcher, revision)[0]
		if object.Value == nil || change.Value == nil {
			t.Errorf("object is %v, change is %v; both must be empty, not nil", object, change)
		}
	}
}

func listIsOrdered(t *testing.T, h harness) {
	for _, key := range []string{"pods/b", "pods/a/z", "pod", "pods0", "pods/ä", "pods/", "nodes/a"} {
		h.create(key, key)
	}
	objects, _ := h.list("pods/")
	var keys []string
	for _, object := range objects {
		keys = append(keys, object.Key)
		h.mustEqual(string(object.Value), object.Key)
	}
	h.mustEqual(keys, []string{"pods/", "pods/a/z", "pods/b", "pods/ä"})
	objects, _ = h.list("")
	h.mustEqual(len(objects), 7)
}

func revisionsOnlyGrow(t *testing.T, h harness) {
	last := h.revision()
	grow := func(revision int64) int64 {
		t.Helper()
		if revision <= last || h.revision() != revision {
			t.Fatalf("write after revision %d got %d, the store is at %d", last, revision, h.revision())
		}
		last = revision
		return revision
	}
	for range 3 {
		revision := grow(h.create("a", "one"))
		revision = grow(h.update("a", "two", revision))
		grow(h.delete("a", revision))
	}
}

func countingLosesNothing(t *testing.T, h harness) {
	const goroutines, increments = 16, 10
	h.create("counter", "0")
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for range increments {
				if err := h.increment("counter"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	object, err := h.store.Get(h.ctx, "counter")
	h.must(err)
	h.mustEqual(string(object.Value), goroutines*increments)
}

// increment adds one to a decimal number, again and again until nobody else was faster.
func (h harness) increment(key string) error {
	for {
		object, err := h.store.Get(h.ctx, key)
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(string(object.Value))
		if err != nil {
			return err
		}
		_, err = h.store.Update(h.ctx, key, []byte(strconv.Itoa(number+1)), object.Revision, "test")
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// While others write, a list with the changes after it must lead to the same objects as a list at the end.
func listRevisionMissesNoChange(t *testing.T, h harness) {
	const writers, keys, rounds = 8, 4, 25
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				key := fmt.Sprintf("pods/%d-%d", w, i%keys)
				revision, err := h.store.Create(h.ctx, key, fmt.Append(nil, i), "test")
				if err == nil && i%2 == 0 {
					revision, err = h.store.Update(h.ctx, key, fmt.Append(nil, i, "+"), revision, "test")
				}
				if err == nil && i+keys < rounds {
					_, err = h.store.Delete(h.ctx, key, revision, "test")
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer writing.Wait()
	type start struct {
		objects map[string]string
		watcher *store.Watcher
	}
	var starts []start
	for range 20 {
		objects, revision := h.list("pods/")
		known := map[string]string{}
		for _, object := range objects {
			known[object.Key] = string(object.Value)
		}
		starts = append(starts, start{known, h.watch("pods/", revision)})
	}
	writing.Wait()
	last := h.create("pods/last", "")
	want := map[string]string{}
	objects, _ := h.list("pods/")
	for _, object := range objects {
		want[object.Key] = string(object.Value)
	}
	for _, start := range starts {
		seen := start.watcher.Revision()
		for _, change := range h.until(start.watcher, last) {
			if change.Revision <= seen {
				t.Fatalf("change %d came after %d", change.Revision, seen)
			}
			seen = change.Revision
			known, exists := start.objects[change.Key]
			if exists != (change.Previous != nil) || known != string(change.Previous) {
				t.Fatalf("change %d of %s replaces %q, the object was %q", change.Revision, change.Key, change.Previous, known)
			}
			if start.objects[change.Key] = string(change.Value); change.Value == nil {
				delete(start.objects, change.Key)
			}
		}
		h.mustEqual(start.objects, want)
	}
}

func watchFromThePast(t *testing.T, h harness) {
	before := h.revision()
	began := time.Now().Add(-time.Second)
	first := h.create("a", "one")
	last := h.delete("a", h.update("a", "two", first))
	all := []string{"a: nothing -> one", "a: one -> two", "a: two -> nothing"}
	changes := h.until(h.watch("", before), last)
	h.mustEqual(tell(changes), all)
	h.mustEqual(tell(h.until(h.watch("", first), last)), all[1:])
	for _, change := range changes {
		if change.Who != "test" || change.At.Before(began) || change.At.After(time.Now().Add(time.Second)) {
			t.Errorf("change is by %q at %v", change.Who, change.At)
		}
	}
}

func watchSeesItsPrefixOnly(t *testing.T, h harness) {
	pods, one, all := h.watch("pods/", h.revision()), h.watch("pods/b", h.revision()), h.watch("", h.revision())
	for _, key := range []string{"nodes/a", "pods/a", "podsx", "pods/b"} {
		h.create(key, "1")
	}
	last := h.create("pods/bc", "1")
	h.mustEqual(len(h.until(pods, last)), 3)
	h.mustEqual(len(h.until(one, last)), 2)
	h.mustEqual(len(h.until(all, last)), 5)
}

// A bookmark is only of use when it moves on in a store where others write.
func watchRevisionPassesOtherPrefixes(t *testing.T, h harness) {
	watcher := h.watch("pods/", h.revision())
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan error)
	go func() {
		_, err := watcher.Next(ctx)
		ended <- err
	}()
	other := h.watch("nodes/", h.revision())
	last := h.create("nodes/a", "one")
	h.until(other, last)
	cancel()
	h.mustBe(<-ended, context.Canceled)
	ctx, cancel = context.WithTimeout(h.ctx, time.Millisecond)
	defer cancel()
	_, err := watcher.Next(ctx)
	h.mustBe(err, context.DeadlineExceeded)
	h.mustEqual(watcher.Revision(), last)
}

func watchOfTheFuture(t *testing.T, h harness) {
	_, err := h.store.Watch("", h.create("a", "one")+1)
	h.mustBe(err, store.ErrFuture)
}

func sleepingWatchersAllWake(t *testing.T, h harness) {
	const each = 20
	start := h.revision()
	var group sync.WaitGroup
	for _, prefix := range []string{"pods/", "pods/a", "", "pods/a"} {
		for range each {
			watcher := h.watch(prefix, start)
			group.Go(func() {
				if changes, err := watcher.Next(h.ctx); err != nil || changes[0].Key != "pods/a" {
					t.Errorf("watch of %q: %v, %v", prefix, tell(changes), err)
				}
			})
		}
	}
	h.create("pods/a", "one")
	group.Wait()
}

func changeIsDerivedOnce(t *testing.T, h harness) {
	start := h.revision()
	last := h.create("a", "one")
	var calls atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		change := h.until(h.watch("", start), last)[0]
		group.Go(func() {
			got := change.Derive(func(c *store.Change) any {
				calls.Add(1)
				return strings.ToUpper(string(c.Value))
			})
			if got != "ONE" {
				t.Errorf("derived %v", got)
			}
		})
	}
	group.Wait()
	h.mustEqual(calls.Load(), 1)
}

func slowWatcherHarmsNobody(t *testing.T, h harness) {
	slow, quick := h.watch("", h.revision()), h.watch("", h.revision())
	revision, want := h.create("a", "0"), []string{"a: nothing -> 0"}
	h.until(quick, revision)
	for i := range 50 {
		revision = h.update("a", strconv.Itoa(i+1), revision)
		want = append(want, fmt.Sprintf("a: %d -> %d", i, i+1))
		h.until(quick, revision)
	}
	h.mustEqual(tell(h.until(slow, revision)), want)
}

// Whatever was listed once must be listed again when its revision is asked for.
func listAtRevision(t *testing.T, h harness) {
	lists := map[int64][]store.Object{}
	note := func(revision int64) int64 { lists[revision], _ = h.list("pods/"); return revision }
	note(h.revision())
	a := note(h.create("pods/a", "one"))
	b := note(h.create("pods/b", "one"))
	a = note(h.update("pods/a", "two", a))
	note(h.create("nodes/a", "one"))
	note(h.delete("pods/b", b))
	note(h.create("pods/b", ""))
	note(h.delete("pods/a", a))
	last := note(h.create("pods0", "one"))
	for revision, want := range lists {
		got, at, err := h.store.ListAt(h.ctx, "pods/", revision)
		h.must(err)
		h.mustEqual(got, want)
		h.mustEqual(at, revision)
	}
	_, _, err := h.store.ListAt(h.ctx, "pods/", last+1)
	h.mustBe(err, store.ErrFuture)
}

func listAtSurvivesCompaction(t *testing.T, h harness) {
	objects, start, err := h.store.ListAt(h.ctx, "", store.Oldest)
	h.must(err)
	h.mustEqual(len(objects), 0)
	a := h.create("a", "one")
	h.delete("gone", h.create("gone", "one"))
	kept := h.create("b", "one")
	want, mark := h.list("")
	h.update("a", "two", a)
	last := h.delete("b", kept)
	h.must(h.store.Compact(h.ctx, mark))
	for _, revision := range []int64{store.Oldest, mark} {
		got, at, err := h.store.ListAt(h.ctx, "", revision)
		h.must(err)
		h.mustEqual(got, want)
		h.mustEqual(at, mark)
		h.mustEqual(tell(h.until(h.watch("", at), last)), []string{"a: one -> two", "b: one -> nothing"})
	}
	for _, revision := range []int64{start, mark - 1} {
		_, _, err := h.store.ListAt(h.ctx, "", revision)
		h.mustBe(err, store.ErrCompacted)
	}
}

func compactedChangesAreRefused(t *testing.T, h harness) {
	start := h.revision()
	first := h.create("a", "one")
	second := h.update("a", "two", first)
	last := h.update("a", "three", second)
	h.must(h.store.Compact(h.ctx, second))
	h.must(h.store.Compact(h.ctx, first)) // is compacted already
	for _, after := range []int64{start, first} {
		_, err := h.store.Watch("", after)
		h.mustBe(err, store.ErrCompacted)
	}
	h.mustEqual(tell(h.until(h.watch("", second), last)), []string{"a: two -> three"})
}

func compactionKeepsObjects(t *testing.T, h harness) {
	kept, changed, deleted := h.create("kept", "one"), h.create("changed", "one"), h.create("deleted", "one")
	h.delete("gone", h.create("gone", "one"))
	mark := h.revision()
	h.update("changed", "two", changed)
	last := h.delete("deleted", deleted)
	h.must(h.store.Compact(h.ctx, mark))
	object, err := h.store.Get(h.ctx, "kept")
	h.must(err)
	h.mustEqual(object, store.Object{Key: "kept", Value: []byte("one"), Revision: kept})
	h.mustEqual(tell(h.until(h.watch("", mark), last)), []string{"changed: one -> two", "deleted: one -> nothing"})
	h.must(h.store.Compact(h.ctx, last))
	objects, revision := h.list("")
	h.mustEqual(len(objects), 2)
	h.mustEqual(revision, last)
}

func compactionOfTheFuture(t *testing.T, h harness) {
	h.mustBe(h.store.Compact(h.ctx, h.create("a", "one")+1), store.ErrFuture)
}

func endedContextEndsTheCall(t *testing.T, h harness) {
	watcher := h.watch("", h.revision())
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan error)
	go func() {
		_, err := watcher.Next(ctx)
		ended <- err
	}()
	cancel()
	h.mustBe(<-ended, context.Canceled)
	_, err := h.store.Create(ctx, "a", nil, "test")
	h.mustBe(err, context.Canceled)
	_, err = h.store.Get(ctx, "a")
	h.mustBe(err, context.Canceled)
	_, _, err = h.store.List(ctx, "")
	h.mustBe(err, context.Canceled)
	_, _, err = h.store.ListAt(ctx, "", store.Oldest)
	h.mustBe(err, context.Canceled)
	// The watcher lives on.
	h.mustEqual(tell(h.until(watcher, h.create("b", "one"))), []string{"b: nothing -> one"})
}

func closeEndsWatches(t *testing.T, h harness) {
	start := h.revision()
	h.create("a", "one")
	asleep, late := h.watch("pods/", h.revision()), h.watch("", start)
	ended := make(chan error)
	go func() {
		_, err := asleep.Next(h.ctx)
		ended <- err
	}()
	h.must(h.store.Close())
	h.mustBe(<-ended, store.ErrClosed)
	_, err := late.Next(h.ctx)
	h.mustBe(err, store.ErrClosed)
	_, err = h.store.Watch("", start)
	h.mustBe(err, store.ErrClosed)
	_, err = h.store.Create(h.ctx, "b", nil, "test")
	h.mustBe(err, store.ErrClosed)
	_, err = h.store.Get(h.ctx, "a")
	h.mustBe(err, store.ErrClosed)
	_, _, err = h.store.List(h.ctx, "")
	h.mustBe(err, store.ErrClosed)
	_, _, err = h.store.ListAt(h.ctx, "", start)
	h.mustBe(err, store.ErrClosed)
	h.mustBe(h.store.Compact(h.ctx, start), store.ErrClosed)
	h.must(h.store.Close()) // again does nothing
}

// revision is the revision of the store.
func (h harness) revision() int64 {
	h.Helper()
	_, revision := h.list("no such prefix/")
	return revision
}
