package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/labs/labtest"
)

// The tests of lab 03, in the order of its tasks. The store in them is a file in a temporary directory.

// limit is how long a test waits for what must happen; only a test that fails takes so long.
const limit = 10 * time.Second

// onFile runs a test of a task on a store of its own.
func onFile(t *testing.T, task int) (*labtest.T, *SQLite) {
	lab := labtest.Task(t, "03", task)
	return lab, opened(lab, filepath.Join(t.TempDir(), "state.db"))
}

func opened(lab *labtest.T, path string) *SQLite {
	lab.Helper()
	s, err := OpenSQLite(path)
	if err != nil {
		lab.Fatal(err)
	}
	lab.Cleanup(func() {
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		if lab.Failed() {
			return // somebody may have kept the turn
		}
		select {
		case <-closed:
		case <-time.After(limit):
			lab.Check(false, labtest.Report{Did: "closed the store, when all writes were done", Want: "that it is closed", Got: "it waits for the turn",
				Cause: "who has had the turn gives it back when it has committed: receive from s.turn"})
		}
	})
	return s
}

// soon returns what do returns, and fails the test if that takes for ever.
func soon[V any](lab *labtest.T, did, cause string, do func() V) V {
	lab.Helper()
	result := make(chan V, 1)
	go func() { result <- do() }()
	select {
	case value := <-result:
		return value
	case <-time.After(limit):
		lab.Must(false, labtest.Report{Did: did, Want: "that it ends", Got: fmt.Sprintf("it still waited after %v", limit), Cause: cause})
		panic("not reached")
	}
}

// transact does something in one transaction, with nothing of task 3.
func transact(lab *labtest.T, s *SQLite, do func(tx *sql.Tx)) {
	lab.Helper()
	tx, err := s.writes.Begin()
	if err != nil {
		lab.Fatal(err)
	}
	defer tx.Rollback()
	do(tx)
	if err := tx.Commit(); err != nil {
		lab.Fatal(err)
	}
}

// put swaps in a transaction of its own and returns the change.
func put(lab *labtest.T, s *SQLite, key string, value []byte, expected int64) *Change {
	lab.Helper()
	change := &Change{Key: key, Value: value, Who: "test"}
	transact(lab, s, func(tx *sql.Tx) {
		refused, failed := swap(tx, change, expected)
		lab.NoError("swapped "+key+", which has the revision that was expected", errors.Join(refused, failed), "compare expected with the revision that the key's object has now: nothing is to be refused here, and no statement fails")
	})
	return change
}

// row is a change as the file has it.
type row struct {
	Revision int64
	Key      string
	Previous int64
	Who      string
	Value    string // "NULL": it deleted the object
}

func logOf(lab *labtest.T, s *SQLite) (rows []row) {
	lab.Helper()
	found, err := s.reads.Query(`SELECT revision, key, previous, who, coalesce(CAST(value AS TEXT), 'NULL') FROM changes ORDER BY revision`)
	if err != nil {
		lab.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var r row
		if err := found.Scan(&r.Revision, &r.Key, &r.Previous, &r.Who, &r.Value); err != nil {
			lab.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

// Task 1

func TestTask1ChangeIsAppendedAndIsCurrent(t *testing.T) {
	lab, s := onFile(t, 1)
	created := put(lab, s, "a", []byte("one"), absent)
	updated := put(lab, s, "a", []byte("two"), created.Revision)
	lab.Equal("created a and updated it, and read the log", logOf(lab, s), []row{{1, "a", 0, "test", "one"}, {2, "a", 1, "test", "two"}},
		"each change is a row of its own with insertChange: the key, the revision before it (0 for a new object), the time, who, the value")
	object, err := s.Get(lab.Context(), "a")
	lab.NoError("got what was updated", err, "putObject points the object at its last change")
	lab.Equal("got what was updated", object, Object{"a", []byte("two"), 2}, "putObject takes the revision of the change, which LastInsertId tells")
	lab.Check(created.Previous == nil && string(updated.Previous) == "one", labtest.Report{Did: "looked at the field Previous of a creation and of an update after it", Want: `nil, "one"`,
		Got: fmt.Sprintf("%q, %q", created.Previous, updated.Previous), Cause: "scan the value that selectObject finds into change.Previous: watchers with a selector need both sides"})
	var at int64
	if err := s.reads.QueryRow(`SELECT at FROM changes WHERE revision = 2`).Scan(&at); err != nil {
		lab.Fatal(err)
	}
	lab.Check(!updated.At.IsZero() && updated.At.UnixNano() == at, labtest.Report{Did: "compared the change's field At with the log", Want: "the same time", Got: "another",
		Cause: "take the time once, and use it for both: a watcher from the tail and one from the log must hear the same"})
}

func TestTask1WriteIsRefusedUnlessTheRevisionIsTheExpectedOne(t *testing.T) {
	lab, s := onFile(t, 1)
	first := put(lab, s, "a", []byte("one"), absent)
	put(lab, s, "a", []byte("two"), first.Revision)
	before := logOf(lab, s)
	because := map[error]string{
		ErrExists:   "absent is expected, and there is an object: its revision is not 0",
		ErrConflict: "the object has another revision than the one that was expected, older or newer: any other is refused",
		ErrNotFound: "there is no object, and a revision was expected: that is not a conflict, and is asked first, for 0 is no revision that an object can have",
	}
	for _, try := range []struct {
		what     string
		key      string
		value    []byte
		expected int64
		want     error
	}{
		{"created a key that is there", "a", []byte("three"), absent, ErrExists},
		{"updated a key at the revision before its last", "a", []byte("three"), 1, ErrConflict},
		{"updated a key at a revision that it has not reached", "a", []byte("three"), 3, ErrConflict},
		{"updated a key at revision 0", "a", []byte("three"), 0, ErrConflict},
		{"deleted a key at the revision before its last", "a", nil, 1, ErrConflict},
		{"updated a key that is not there", "b", []byte("three"), 1, ErrNotFound},
		{"updated a key that is not there, at revision 0", "b", []byte("three"), 0, ErrNotFound},
		{"deleted a key that is not there", "b", nil, 2, ErrNotFound},
	} {
		transact(lab, s, func(tx *sql.Tx) {
			refused, failed := swap(tx, &Change{Key: try.key, Value: try.value, Who: "test"}, try.expected)
			lab.NoError(try.what+", and looked at the second result", failed, "a refusal is the first result; the second is for what breaks the transaction for all. sql.ErrNoRows is neither")
			lab.IsError(try.what, refused, try.want, because[try.want])
		})
		if lab.Failed() {
			return
		}
	}
	lab.Equal("read the log after writes that were refused", logOf(lab, s), before, "decide before you write: a refused change leaves nothing, and takes no revision")
}

func TestTask1DeletionIsAChangeAndAnEmptyValueIsNone(t *testing.T) {
	lab, s := onFile(t, 1)
	first := put(lab, s, "a", []byte("one"), absent)
	deleted := put(lab, s, "a", nil, first.Revision)
	_, err := s.Get(lab.Context(), "a")
	lab.IsError("deleted a, and got it", err, ErrNotFound, "a change without a value takes the object away: deleteObject")
	lab.Check(deleted.Revision == 2 && string(deleted.Previous) == "one", labtest.Report{Did: "looked at the deletion", Want: `revision 2, and "one" as the value before it`,
		Got: fmt.Sprintf("revision %d, %q", deleted.Revision, deleted.Previous), Cause: "a deletion is a change like any other: it is appended to the log"})
	again := put(lab, s, "a", []byte{}, absent)
	object, err := s.Get(lab.Context(), "a")
	lab.NoError("created a again, with an empty value, and got it", err, "only nil means deletion: compare the value with nil, not its length with 0")
	lab.Check(again.Revision == 3 && again.Previous == nil && object.Revision == 3 && len(object.Value) == 0, labtest.Report{Did: "created a again after its deletion", Want: "revision 3, with nothing before it",
		Got: fmt.Sprintf("revision %d, after %q", again.Revision, again.Previous), Cause: "the objects say what is there now; the log has the old object's changes still"})
}

// Task 2

func keysOf(objects []Object) string {
	var keys []string
	for _, object := range objects {
		keys = append(keys, fmt.Sprintf("%s=%s@%d", object.Key, object.Value, object.Revision))
	}
	return strings.Join(keys, " ")
}

func TestTask2ListGivesThePrefixInTheOrderOfTheKeys(t *testing.T) {
	lab, s := onFile(t, 2)
	for _, key := range []string{"pods/b", "pods/a/z", "pod", "pods0", "pods/ä", "nodes/a"} {
		put(lab, s, key, []byte("x"), absent)
	}
	put(lab, s, "pods/b", []byte("y"), 1)
	for _, list := range []struct{ prefix, want string }{{"pods/", "pods/a/z=x@2 pods/b=y@7 pods/ä=x@5"}, {"pods/b", "pods/b=y@7"}, {"none/", ""}} {
		objects, _, err := s.List(lab.Context(), list.prefix)
		lab.NoError(fmt.Sprintf("listed %q", list.prefix), err, "rows.Err() and Scan have nothing to complain of here")
		lab.Equal(fmt.Sprintf("listed %q", list.prefix), keysOf(objects), list.want, "selectObjects takes the prefix and its end; it gives a key, a revision and a value, in this order")
	}
	objects, _, err := s.List(lab.Context(), "")
	lab.NoError("listed all", err, "see above")
	lab.Equal("listed all, and counted", len(objects), 6, "the empty prefix is that of every key")
}

func TestTask2ListKnowsTheRevisionOfTheStore(t *testing.T) {
	lab, s := onFile(t, 2)
	check := func(did string, want int64) {
		lab.Helper()
		_, at, err := s.List(lab.Context(), "pods/")
		lab.NoError(did+", and listed pods/", err, "a list without objects is no failure")
		lab.Equal(did+", and listed pods/ for its revision", at, want, "it is the revision of the whole store in that view, not of the newest object in the list: a watch after it must begin behind all that the list has seen")
	}
	put(lab, s, "pods/a", []byte("x"), absent)
	check("created pods/a", 1)
	put(lab, s, "nodes/a", []byte("x"), absent)
	check("created nodes/a after it", 2)
	put(lab, s, "pods/a", nil, 1)
	check("deleted pods/a", 3)
}

func TestTask2ListAndItsRevisionAreOfOneState(t *testing.T) {
	lab, s := onFile(t, 2)
	put(lab, s, "0", []byte("x"), absent)
	const changes = 250
	failed := make(chan error, 1)
	go func() { // each change creates one object, and nothing else happens: at revision n there are n
		failed <- func() error {
			for i := 1; i < changes; i++ {
				tx, err := s.writes.Begin()
				if err != nil {
					return err
				}
				refused, err := swap(tx, &Change{Key: strconv.Itoa(i), Value: []byte("x"), Who: "test"}, absent)
				if err = errors.Join(refused, err); err != nil {
					return errors.Join(err, tx.Rollback())
				}
				if err := tx.Commit(); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	apart := false
	for writing := true; writing; {
		select {
		case err := <-failed:
			lab.NoError("created objects, one by one", err, "see task 1")
			writing = false
		default:
		}
		objects, at, err := s.List(lab.Context(), "")
		lab.NoError("listed while another goroutine wrote", err, "those who read never wait for the one who writes")
		apart = apart || int64(len(objects)) != at
	}
	lab.Check(!apart, labtest.Report{Did: "listed all, again and again, while another goroutine created one object after the other", Want: "as many objects as the revision of the list says",
		Got: "a list with more or fewer", Cause: "the objects and the revision were read from two states: both must come from the one transaction of the view"})
}

func TestTask2ListOfAClosedStoreSaysSo(t *testing.T) {
	lab, s := onFile(t, 2)
	put(lab, s, "a", []byte("x"), absent)
	_, _, err := s.List(lab.Context(), "a")
	lab.NoError("listed", err, "see the tests before")
	ended, cancel := context.WithCancel(lab.Context())
	cancel()
	_, _, err = s.List(ended, "a")
	lab.IsError("listed with a context that has ended", err, context.Canceled, "give ctx to the view and to the query, and wrap what they return with %w")
	s.Close()
	_, _, err = s.List(lab.Context(), "a")
	lab.IsError("closed the store, and listed", err, ErrClosed, "the view replaces what the driver says by ErrClosed: return its error, wrapped with %w")
	lab.Check(err != nil && strings.Contains(err.Error(), `"a"`), labtest.Report{Did: "read that error", Want: `that it names what was listed: "a"`, Got: fmt.Sprint(err), Cause: `wrap it: fmt.Errorf("list %q: %w", prefix, err)`})
}

// Task 3

// together makes writes wait behind a turn that the test has, each joining after the one before, lets go of it, and returns
// their errors. Meanwhile, when all wait, it calls then.
func together(lab *labtest.T, s *SQLite, then func(), writes ...func() error) []error {
	lab.Helper()
	select {
	case s.turn <- struct{}{}:
	case <-time.After(limit):
		lab.Must(false, labtest.Report{Did: "asked for the turn, when all writes were done", Want: "that it is free", Got: "somebody has it", Cause: "who has had the turn gives it back when it has committed: receive from s.turn"})
	}
	errs := make([]error, len(writes))
	var all sync.WaitGroup
	var returned atomic.Int32
	for i, write := range writes {
		all.Go(func() {
			errs[i] = write()
			returned.Add(1)
		})
		for began := time.Now(); ; runtime.Gosched() {
			s.mu.Lock()
			waiting := len(s.waiting)
			s.mu.Unlock()
			if waiting+int(returned.Load()) > i {
				break
			}
			if time.Since(began) > limit {
				<-s.turn
				lab.Must(false, labtest.Report{Did: "wrote while another had the turn, and looked at s.waiting", Want: "the write waits there", Got: "it does not",
					Cause: "a write joins those who wait before it tries to get the turn: the one who has it next then commits for all"})
			}
		}
	}
	then()
	<-s.turn
	soon(lab, "let several writes wait, and gave them the turn", "each writer has a channel done that is closed with its answer, whoever commits; who has had the turn gives it back", func() bool { all.Wait(); return true })
	return errs
}

func nothing() {}

// creating returns a write that creates a key.
func creating(lab *labtest.T, s *SQLite, key string) func() error {
	return func() error {
		_, err := s.Create(lab.Context(), key, []byte("one"), "test")
		return err
	}
}

type written struct {
	revision int64
	err      error
}

func TestTask3WriteIsThereWhenItReturns(t *testing.T) {
	lab, s := onFile(t, 3)
	for i, step := range []struct {
		did   string
		write func() (int64, error)
		want  string // what Get says then
	}{
		{"created a", func() (int64, error) { return s.Create(lab.Context(), "a", []byte("one"), "me") }, "one"},
		{"updated a", func() (int64, error) { return s.Update(lab.Context(), "a", []byte("two"), 1, "me") }, "two"},
		{"deleted a", func() (int64, error) { return s.Delete(lab.Context(), "a", 2, "me") }, ErrNotFound.Error()},
	} {
		got := soon(lab, step.did, "alone, a write gets the turn at once, commits itself, and gives the turn back", func() written {
			revision, err := step.write()
			return written{revision, err}
		})
		lab.NoError(step.did, got.err, "the revision that is expected is the right one")
		lab.Equal(step.did+", and looked at the revision that was returned", got.revision, int64(i+1), "it is that which swap gave to the change")
		lab.Equal(step.did+", and asked the tail for its newest revision", s.tail.newest(), got.revision, "what was committed is published before the answer: who has it may watch from there")
		object, err := s.Get(lab.Context(), "a")
		told := string(object.Value)
		if err != nil {
			told = errors.Unwrap(err).Error()
		}
		lab.Equal(step.did+", and got it", told, step.want, "write returns when the transaction is committed, not before")
	}
	lab.Equal("read who made the changes", logOf(lab, s)[2].Who, "me", "the change that write is given is the one that is stored")
}

func TestTask3WritesThatWaitShareOneCommit(t *testing.T) {
	lab, s := onFile(t, 3)
	var writes []func() error
	for i := range 20 {
		writes = append(writes, creating(lab, s, fmt.Sprint(i)))
	}
	err := errors.Join(together(lab, s, nothing, writes...)...)
	lab.NoError("let 20 writes wait, and gave them the turn", err, "none is refused: each creates a key of its own")
	wrote, commits := s.Stats()
	lab.Equal("counted the writes", wrote, int64(20), "s.written counts the changes that were committed")
	lab.Check(commits == 1, labtest.Report{Did: "counted the commits that the 20 writes took", Want: "1", Got: "another number",
		Cause: "who has the turn commits all who wait in one transaction: a commit waits for the disk, and that is what they share. With nobody waiting there is nothing to commit"})
}

func TestTask3RefusedWriteFailsAlone(t *testing.T) {
	lab, s := onFile(t, 3)
	lab.NoError("created taken", soon(lab, "created taken", "see the tests before", creating(lab, s, "taken")), "see the tests before")
	errs := together(lab, s, nothing, creating(lab, s, "a"), creating(lab, s, "taken"), creating(lab, s, "b"),
		func() error { _, err := s.Delete(lab.Context(), "missing", 1, "test"); return err }, creating(lab, s, "c"), creating(lab, s, "c"))
	const cause = "in a batch, a refusal is the answer to one: keep it in the waiter's err and go on with the next"
	for _, refused := range []struct {
		what string
		err  error
		want error
	}{{"create taken", errs[1], ErrExists}, {"delete missing", errs[3], ErrNotFound}, {"create c a second time", errs[5], ErrExists}} {
		lab.IsError("committed six writes together, of which three are refused, and looked at one of those: "+refused.what, refused.err, refused.want, cause)
		if lab.Failed() {
			return
		}
	}
	for _, i := range []int{0, 2, 4} {
		lab.NoError("committed three writes together with three that are refused", errs[i], cause)
	}
	_, at, err := s.List(lab.Context(), "")
	lab.NoError("listed", err, "see task 2")
	lab.Equal("looked at the revision of the store after one write and three of six", at, int64(4), "a refused write takes no revision, in a batch as elsewhere")
}

func TestTask3FailedCommitFailsAllAndChangesNothing(t *testing.T) {
	lab, s := onFile(t, 3)
	lab.NoError("created taken", soon(lab, "created taken", "see the tests before", creating(lab, s, "taken")), "see the tests before")
	intruder := func() { // another process writes to the file
		if _, err := s.writes.Exec(insertChange, "x", 0, 1, "intruder", []byte("x")); err != nil {
			lab.Fatal(err)
		}
	}
	errs := together(lab, s, intruder, creating(lab, s, "a"), creating(lab, s, "taken"), creating(lab, s, "b"))
	for _, i := range []int{0, 2} {
		lab.Check(errs[i] != nil, labtest.Report{Did: "let writes wait together, and meanwhile wrote past the store, as another process would; then gave them the turn", Want: "an error for each", Got: "one was told that all is well",
			Cause: "there is a revision that watchers here will never hear of: commit must fail. And the error of a commit is that of all who wait for it; without it they believe that their change is stored"})
		if lab.Failed() {
			return
		}
	}
	lab.Check(errs[1] != nil && !errors.Is(errs[1], ErrExists), labtest.Report{Did: "looked at the error of a write that was refused in the commit that failed", Want: "the error of the commit",
		Got: fmt.Sprint(errs[1]), Cause: "what it was refused for may be undone now: the failure replaces it"})
	_, err := s.Get(lab.Context(), "a")
	lab.IsError("got a, whose commit has failed", err, ErrNotFound, "roll the transaction back: defer tx.Rollback(), which does nothing after a commit")
	lab.Equal("asked the tail for its newest revision after a commit that failed", s.tail.newest(), int64(1), "publish what is on the disk, never what failed: a watcher cannot take back what it has told")
}

func TestTask3ContextThatEndsWhileItWaitsCallsNothingOff(t *testing.T) {
	lab, s := onFile(t, 3)
	ended, cancel := context.WithCancel(lab.Context())
	cancel()
	_, err := s.Create(ended, "a", []byte("one"), "test")
	lab.IsError("created a with a context that has ended already", err, context.Canceled, "look at ctx.Err() before you join those who wait")
	_, err = s.Get(lab.Context(), "a")
	lab.IsError("got a", err, ErrNotFound, "a write that fails with its context leaves nothing")
	told := 0
	const rounds = 20
	for i := range rounds {
		ctx, cancel := context.WithCancel(lab.Context())
		errs := together(lab, s, func() {
			cancel()
			s.commitWaiting() // as another one who has the turn
		}, func() error {
			_, err := s.Create(ctx, fmt.Sprint("round-", i), []byte("one"), "test")
			return err
		})
		if _, err := s.Get(lab.Context(), fmt.Sprint("round-", i)); (err == nil) != (errs[0] == nil) {
			told++
		}
	}
	lab.Check(told == 0, labtest.Report{Did: fmt.Sprintf("ended the context of a write while it waited for the turn, %d times", rounds), Want: "no error, and the object is there: or an error, and it is not", Got: "an error, though the object is there",
		Cause: "in the queue it is too late to give up: whoever has the turn commits this change as well. Wait for done or for the turn, not for the context"})
}

func TestTask3CountingGoroutinesLoseNoIncrement(t *testing.T) {
	lab, s := onFile(t, 3)
	first := soon(lab, "created a counter", "see the tests before", func() written {
		revision, err := s.Create(lab.Context(), "counter", []byte("0"), "test")
		return written{revision, err}
	})
	lab.NoError("created a counter", first.err, "see the tests before")
	const goroutines, each = 8, 10
	increment := func() error {
		for {
			object, err := s.Get(lab.Context(), "counter")
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(object.Value))
			if err != nil {
				return err
			}
			if _, err = s.Update(lab.Context(), "counter", []byte(strconv.Itoa(n+1)), object.Revision, "test"); !errors.Is(err, ErrConflict) {
				return err
			}
		}
	}
	err := soon(lab, "let 8 goroutines count to 10 in one object", "one of those who write at a revision always wins, so the count always goes on", func() error {
		var all sync.WaitGroup
		errs := make([]error, goroutines)
		for g := range goroutines {
			all.Go(func() {
				for range each {
					errs[g] = errors.Join(errs[g], increment())
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	})
	lab.NoError("let 8 goroutines count to 10 in one object", err, "only ErrConflict may come, and be tried again")
	object, err := s.Get(lab.Context(), "counter")
	lab.NoError("got the counter", err, "see the tests before")
	lab.Check(string(object.Value) == "80", labtest.Report{Did: "let 8 goroutines count to 10 in one object, and read it", Want: "80", Got: "less",
		Cause: "an increment was overwritten unseen: two writers were told that they won at one revision"})
}

// Task 4

// read returns what a watcher tells up to a revision, as "key@revision", and the error that came before that.
func read(lab *labtest.T, w *Watcher, until int64) (string, error) {
	lab.Helper()
	ctx, cancel := context.WithTimeout(lab.Context(), limit/2)
	defer cancel()
	var told []string
	err := soon(lab, "asked a watcher for the changes up to a revision", "Next returns when there are changes, and when its context ends", func() error {
		for seen := int64(0); seen < until; {
			changes, err := look(ctx, w)
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				return errors.New("neither changes nor an error")
			}
			for _, change := range changes {
				told = append(told, fmt.Sprintf("%s@%d", change.Key, change.Revision))
				seen = change.Revision
			}
			if len(told) > 5000 {
				return errors.New("changes without end")
			}
		}
		return nil
	})
	return strings.Join(told, " "), err
}

// look calls Next, and returns a panic as an error.
func look(ctx context.Context, w *Watcher) (changes []*Change, err error) {
	defer func() {
		if crash := recover(); crash != nil {
			err = fmt.Errorf("a panic: %v", crash)
		}
	}()
	return w.Next(ctx)
}

func tailOf(keys ...string) *tail {
	t := &tail{}
	extend(t, keys...)
	return t
}

// extend publishes a change of each key.
func extend(t *tail, keys ...string) {
	for _, key := range keys {
		t.publish([]*Change{{Revision: t.newest() + 1, Key: key, Value: []byte("x")}})
	}
}

func TestTask4WatcherTellsEachChangeOnceAndInOrder(t *testing.T) {
	lab := labtest.Task(t, "03", 4)
	for _, watch := range []struct {
		prefix string
		after  int64
		first  string
		then   string
	}{
		{"", 0, "pods/a@1 nodes/a@2 pods/b@3 podsx@4", "pods/c@5 nodes/b@6 pods/d@7"},
		{"pods/", 0, "pods/a@1 pods/b@3", "pods/c@5 pods/d@7"},
		{"pods/", 1, "pods/b@3", "pods/c@5 pods/d@7"},
		{"pods/", 3, "", "pods/c@5 pods/d@7"},
		{"pods/", 5, "", "pods/d@7"}, // has read the log, and is ahead of the tail
	} {
		tail := tailOf("pods/a", "nodes/a", "pods/b", "podsx")
		w := &Watcher{tail: tail, prefix: watch.prefix, looked: watch.after}
		did := fmt.Sprintf("watched %q after revision %d, in a tail of four changes that goes on", watch.prefix, watch.after)
		if watch.first != "" {
			got, err := read(lab, w, 3)
			lab.NoError(did, err, "the changes of the prefix are in the tail: return them at once")
			lab.Equal(did, got, watch.first, "the changes after the watcher's revision that begin with the prefix, in their order; the first of t.changes has the revision t.since+1")
		} else {
			ctx, cancel := context.WithCancel(lab.Context())
			cancel()
			err := soon(lab, did, "Next returns when its context ends", func() error { _, err := look(ctx, w); return err })
			lab.IsError(did+", where nothing is to be told, and ended the context", err, context.Canceled, "nothing to tell is no answer: sleep, until there is something or the context ends. (Is the watcher ahead of the tail? Then there is nothing for it.)")
		}
		lab.Equal(did+", and asked how far it has looked", w.Revision(), max(4, watch.after), "it moves on to the newest change, of any prefix: that is what bookmarks promise. But never back")
		if lab.Failed() {
			return
		}
		extend(tail, "pods/c", "nodes/b", "pods/d")
		got, err := read(lab, w, 7)
		lab.NoError(did, err, "see above")
		lab.Equal(did+", for the second time", got, watch.then, "each change once: the watcher moves on with what it has told, and not back when it is ahead of the tail")
	}
}

func TestTask4WatcherBehindTheTailReadsTheLog(t *testing.T) {
	lab := labtest.Task(t, "03", 4)
	path := filepath.Join(t.TempDir(), "state.db")
	s := opened(lab, path)
	const old = maxRead + 100 // in two reads of the log
	var want []string
	transact(lab, s, func(tx *sql.Tx) {
		for i := range old {
			key := "leases/" + strconv.Itoa(i)
			refused, failed := swap(tx, &Change{Key: key, Value: []byte("x"), Who: "test"}, absent)
			lab.NoError("filled the log", errors.Join(refused, failed), "see task 1")
			want = append(want, fmt.Sprintf("%s@%d", key, i+1))
		}
	})
	s.Close()
	s = opened(lab, path) // with an empty tail
	all, err := s.Watch("", 0)
	lab.NoError("watched from the beginning after a restart", err, "see task 2")
	pods, err := s.Watch("pods/", 0)
	lab.NoError("watched pods/, which has no changes yet", err, "see task 2")
	got, err := read(lab, all, old)
	lab.NoError(fmt.Sprintf("read %d changes that are older than the tail", old), err, "if lookAtTail says errBehind, ask w.tail.older; it returns how far it has looked, and the watcher moves there: else it reads the same changes again and again")
	lab.Check(got == strings.Join(want, " "), labtest.Report{Did: fmt.Sprintf("read %d changes that are older than the tail, from the log", old), Want: "each of them once, in order", Got: firstDifference(strings.Fields(got), want),
		Cause: "reading the log moves the watcher as well: older returns how far it has looked, and that is where the next read begins"})
	ctx, cancel := context.WithTimeout(lab.Context(), limit/2)
	defer cancel()
	quiet := make(chan error, 1)
	go func() {
		changes, err := pods.Next(ctx)
		if err == nil && (len(changes) != 1 || changes[0].Key != "pods/a") {
			err = errors.New("other changes")
		}
		quiet <- err
	}()
	lab.NoError("created pods/a", soon(lab, "created pods/a", "see task 3", creating(lab, s, "pods/a")), "see task 3")
	got, err = read(lab, all, old+1)
	lab.NoError("went on with what was written then", err, "from the end of the log the watcher goes on in the tail")
	lab.Equal("went on with what was written then", got, fmt.Sprintf("pods/a@%d", old+1), "from the end of the log the watcher goes on in the tail")
	lab.NoError("waited in pods/, where the log had nothing", soon(lab, "waited in pods/, where the log had nothing", "sleep until the tail moves", func() error { return <-quiet }), "nothing found in the log: sleep until the tail moves, then look again")
	lab.Equal("asked how far the watcher of pods/ has looked", pods.Revision(), int64(old+1), "the watcher moves as far as the log was read, even if nothing was found in it")
}

// firstDifference says where two lists part.
func firstDifference(got, want []string) string {
	for i := range want {
		if i >= len(got) {
			return fmt.Sprintf("only %d", len(got))
		}
		if got[i] != want[i] {
			return fmt.Sprintf("%s as number %d", got[i], i+1)
		}
	}
	return fmt.Sprintf("%d of them", len(got))
}

func TestTask4SleepersWakeAndEnd(t *testing.T) {
	lab := labtest.Task(t, "03", 4)
	tail := tailOf("pods/a")
	type ended struct {
		prefix string
		told   string
		err    error
	}
	const each = 10
	sleep := func(ctx context.Context, prefixes ...string) chan ended {
		results := make(chan ended, each*len(prefixes))
		for range each {
			for _, prefix := range prefixes {
				w := &Watcher{tail: tail, prefix: prefix, looked: tail.newest()}
				go func() {
					changes, err := w.Next(ctx)
					var told []string
					for _, change := range changes {
						told = append(told, change.Key)
					}
					results <- ended{prefix, strings.Join(told, " "), err}
				}()
			}
		}
		return results
	}
	collect := func(did, cause string, results chan ended) (all []ended) {
		lab.Helper()
		return soon(lab, did, cause, func() []ended {
			for range cap(results) {
				all = append(all, <-results)
			}
			slices.SortFunc(all, func(a, b ended) int { return cmp.Compare(a.prefix+a.told, b.prefix+b.told) })
			return all
		})
	}

	did := "let 30 watchers of three prefixes sleep, and published a change of pods/ and one of nodes/"
	awake := sleep(lab.Context(), "pods/", "nodes/", "")
	extend(tail, "pods/b", "nodes/b")
	for _, w := range collect(did, "sleep on the channel that came with the look, and look again when it is closed", awake) {
		lab.NoError(did, w.err, "there is something for each")
		fits := map[string][]string{"pods/": {"pods/b"}, "nodes/": {"nodes/b"}, "": {"pods/b", "pods/b nodes/b"}}[w.prefix]
		lab.Must(slices.Contains(fits, w.told), labtest.Report{Did: fmt.Sprintf("%s; looked at what a watcher of %q heard", did, w.prefix), Want: strings.Join(fits, ", or "), Got: w.told,
			Cause: "who is woken by a change of another prefix looks, and sleeps on"})
	}

	did = "let watchers sleep, and ended their context"
	ctx, cancel := context.WithCancel(lab.Context())
	asleep := sleep(ctx, "pods/")
	cancel()
	for _, w := range collect(did, "the sleep is a select: the channel, or ctx.Done()", asleep) {
		lab.IsError(did, w.err, context.Canceled, "return the error of the context")
	}

	did = "let watchers sleep, and closed the store"
	asleep = sleep(lab.Context(), "pods/")
	tail.close()
	for _, w := range collect(did, "closing wakes those who sleep: look again, and return the error of the look", asleep) {
		lab.IsError(did, w.err, ErrClosed, "the tail knows that it is closed: lookAtTail returns ErrClosed, Next wraps it")
	}

	s := opened(lab, filepath.Join(t.TempDir(), "state.db"))
	put(lab, s, "a", []byte("x"), absent)
	put(lab, s, "b", []byte("x"), absent)
	s.tail.since = 2 // as after a restart
	overtaken, err := s.Watch("", 0)
	lab.NoError("watched from the beginning", err, "see task 2")
	if err := s.Compact(lab.Context(), 2); err != nil {
		lab.Fatal(err)
	}
	_, err = read(lab, overtaken, 2)
	lab.IsError("asked a watcher for changes that were compacted since it began", err, ErrCompacted, "the log says so: return its error, wrapped with %w; the client has to list again")
}
