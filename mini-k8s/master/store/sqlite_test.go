package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/master/store/storetest"
)

func TestSQLiteIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, file(t)) })
}

func TestRestartNeverRepeatsARevision(t *testing.T) {
	path := file(t)
	s := open(t, path)
	first := create(t, s, "a", "one")
	last, err := s.Delete(t.Context(), "a", first, "test")
	must(t, err)
	must(t, s.Compact(t.Context(), last))
	if n := count(t, path, "changes"); n != 0 {
		t.Fatalf("%d changes are left of a deleted object", n)
	}
	must(t, s.Close())

	s = open(t, path)
	if _, revision, err := s.List(t.Context(), ""); err != nil || revision != last {
		t.Errorf("revision is %d (%v) after a restart, was %d", revision, err, last)
	}
	if _, err := s.Watch("", last-1); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch of compacted changes after a restart: %v", err)
	}
	if next := create(t, s, "b", "one"); next <= last {
		t.Errorf("revision %d was given again: %d", last, next)
	}
}

func TestWatchGoesOnOverARestart(t *testing.T) {
	path := file(t)
	s := open(t, path)
	const changes = 2500 // half of them before, in two reads of the log
	update(t, s, "a", changes/2)
	must(t, s.Close())
	s = open(t, path)
	watcher, err := s.Watch("", 0)
	must(t, err)
	previous, wrote := "", false
	for seen := int64(0); seen < changes; {
		if seen > 0 && !wrote {
			wrote = true
			update(t, s, "b", changes-changes/2)
		}
		next, err := watcher.Next(t.Context())
		must(t, err)
		for _, change := range next {
			if seen++; change.Revision != seen {
				t.Fatalf("change %d came as number %d", change.Revision, seen)
			}
			if change.Previous == nil {
				previous = ""
			}
			if string(change.Previous) != previous {
				t.Fatalf("change %d replaces %q, the object was %q", seen, change.Previous, previous)
			}
			previous = string(change.Value)
		}
	}
}

func TestWatcherBehindTheTailMissesNothing(t *testing.T) {
	s := open(t, file(t))
	watcher, err := s.Watch("", 0)
	must(t, err)
	const changes = 40 // of 2 MB: more than the tail holds
	for i := range changes {
		create(t, s, fmt.Sprint(i), strings.Repeat("x", 2<<20))
	}
	for seen := int64(0); seen < changes; {
		next, err := watcher.Next(t.Context())
		must(t, err)
		for _, change := range next {
			if seen++; change.Revision != seen {
				t.Fatalf("change %d came as number %d", change.Revision, seen)
			}
		}
	}
}

func TestWatcherInTheTailDoesNotMindCompaction(t *testing.T) {
	s := open(t, file(t))
	watcher, err := s.Watch("", 0)
	must(t, err)
	last := create(t, s, "a", "one")
	must(t, s.Compact(t.Context(), last))
	if changes, err := watcher.Next(t.Context()); err != nil || len(changes) != 1 {
		t.Errorf("Next returned %d changes, %v", len(changes), err)
	}
}

func TestCompactionForgetsAllButTheObjects(t *testing.T) {
	path := file(t)
	s := open(t, path)
	var writing sync.WaitGroup
	for _, key := range []string{"a", "b", "c"} {
		writing.Go(func() { update(t, s, key, 600) })
	}
	for range 10 { // between the writes
		_, revision, err := s.List(t.Context(), "")
		must(t, err)
		must(t, s.Compact(t.Context(), revision))
	}
	writing.Wait()
	must(t, s.Compact(t.Context(), 1800))
	if objects, changes := count(t, path, "objects"), count(t, path, "changes"); objects != 3 || changes != 3 {
		t.Errorf("%d objects and %d changes are left, want 3 and 3", objects, changes)
	}
}

func TestCompactionKeepsWhatLaterChangesReplaced(t *testing.T) {
	path := file(t)
	s := open(t, path)
	mark := create(t, s, "a", "one")
	_, err := s.Update(t.Context(), "a", []byte("two"), mark, "test")
	must(t, err)
	must(t, s.Compact(t.Context(), mark))
	must(t, s.Close())
	watcher, err := open(t, path).Watch("", mark) // which reads the file
	must(t, err)
	changes, err := watcher.Next(t.Context())
	must(t, err)
	if string(changes[0].Previous) != "one" || string(changes[0].Value) != "two" {
		t.Errorf("change is %q -> %q", changes[0].Previous, changes[0].Value)
	}
}

func TestValuesHandedOutStayAsTheyAre(t *testing.T) {
	s := open(t, file(t))
	watcher, err := s.Watch("", 0)
	must(t, err)
	revision := create(t, s, "a", "one")
	changes, err := watcher.Next(t.Context())
	must(t, err)
	object, err := s.Get(t.Context(), "a")
	must(t, err)
	objects, _, err := s.List(t.Context(), "")
	must(t, err)
	_, err = s.Update(t.Context(), "a", []byte("two"), revision, "test")
	must(t, err)
	_, _, err = s.List(t.Context(), "")
	must(t, err)
	for _, value := range [][]byte{changes[0].Value, object.Value, objects[0].Value} {
		if !bytes.Equal(value, []byte("one")) {
			t.Errorf("value became %q", value)
		}
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd? name#1 100%.db")
	create(t, open(t, path), "secrets/a", "one")
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), info.Mode())
		}
	}
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	noDatabase := file(t)
	must(t, os.WriteFile(noDatabase, bytes.Repeat([]byte("not a database"), 100), 0o600))
	for _, path := range []string{filepath.Join(t.TempDir(), "missing", "state.db"), t.TempDir(), noDatabase} {
		s, err := store.OpenSQLite(path)
		if err == nil {
			t.Errorf("opened %s: %v", path, s.Close())
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("error does not name the path: %v", err)
		}
	}
}

// Two processes on one file would each keep a tail that lacks the changes of the other.
func TestSecondWriterOfAFileIsRefused(t *testing.T) {
	path := file(t)
	first, second := open(t, path), open(t, path)
	create(t, first, "a", "one")
	if _, err := second.Create(t.Context(), "b", nil, "test"); err == nil {
		t.Error("the second writer was not refused")
	}
	create(t, first, "c", "one")
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	s := open(t, file(t))
	update(t, s, "a", 3)
	must(t, s.Close())
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(began) > 10*time.Second { // the pools of database/sql end in the background
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// open opens a store that is closed at the end of the test.
func open(t testing.TB, path string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(path)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func create(t testing.TB, s store.Store, key, value string) int64 {
	t.Helper()
	revision, err := s.Create(t.Context(), key, []byte(value), "test")
	if err != nil {
		t.Error(err)
	}
	return revision
}

// update makes n changes to a new object.
func update(t testing.TB, s store.Store, key string, n int) {
	t.Helper()
	revision := create(t, s, key, "0")
	for i := 1; i < n; i++ {
		var err error
		if revision, err = s.Update(t.Context(), key, fmt.Append(nil, i), revision, "test"); err != nil {
			t.Error(err)
			return
		}
	}
}

// count looks into the file.
func count(t *testing.T, path, table string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	must(t, err)
	defer db.Close()
	must(t, db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
