package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	insertChange = `INSERT INTO changes (key, previous, at, who, value) VALUES (?, ?, ?, ?, ?)`
	putObject    = `INSERT OR REPLACE INTO objects (key, revision) VALUES (?, ?)`
	deleteObject = `DELETE FROM objects WHERE key = ?`
)

// absent is the expected revision of a key that is to have no object yet.
const absent = -1

// Create implements Store. A value is never nil: that is what a deletion leaves.
func (s *SQLite) Create(ctx context.Context, key string, value []byte, who string) (int64, error) {
	return s.write(ctx, &Change{Key: key, Value: append([]byte{}, value...), Who: who}, absent)
}

// Update implements Store.
func (s *SQLite) Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error) {
	return s.write(ctx, &Change{Key: key, Value: append([]byte{}, value...), Who: who}, expected)
}

// Delete implements Store.
func (s *SQLite) Delete(ctx context.Context, key string, expected int64, who string) (int64, error) {
	return s.write(ctx, &Change{Key: key, Who: who}, expected)
}

// waiter is a write that waits to be committed.
type waiter struct {
	change   *Change
	expected int64
	err      error
	done     chan struct{} // closed when the change is on the disk, or err is set
}

// write does a group commit. While one writer waits for the disk, others gather behind it, and the next of them
// commits for all: batches grow with the load, and a lone write waits for nobody.
//  1. Fail with the error of ctx if that has ended. From here on ctx does not count: another may be committing this
//     change already, and who is told that it failed must be able to rely on it.
//  2. Join those who wait: a waiter with its channel done, appended to s.waiting under s.mu.
//  3. Wait until done is closed, because another has committed this write with theirs, or until it is this one's turn:
//     whoever can send to s.turn has it. Then commitWaiting, and give the turn back by receiving from s.turn.
//  4. Return the waiter's error, wrapped with the key, or the revision that the change has now.
//
//lab:03 3
//lab:hint The type waiter above, and the fields turn, mu and waiting of SQLite, in sqlite.go.
//lab:hint A select with two cases: receive from w.done, or send to s.turn. In the second one you commit for all who wait, yourself among them.
//lab:hint case s.turn <- struct{}{}: s.commitWaiting(); <-s.turn. After the select, in both cases, w.err and change.Revision are what became of it. No case for ctx.Done().
func (s *SQLite) write(ctx context.Context, change *Change, expected int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	w := &waiter{change: change, expected: expected, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.done:
	case s.turn <- struct{}{}:
		s.commitWaiting()
		<-s.turn
	}
	if w.err != nil {
		return 0, fmt.Errorf("write %s: %w", change.Key, w.err)
	}
	return change.Revision, nil
}

// commitWaiting commits the writes of all who wait. The caller has the turn.
//  1. Take them out of s.waiting, under s.mu; who comes now waits for the next turn. If there are none, another was
//     faster: there is nothing to do.
//  2. Commit, without s.mu: the disk is slow, and others shall be able to join meanwhile. If that fails, the error, by
//     way of orClosed, is that of all of them, even of a refused one: that was judged by what is undone now.
//  3. Publish the changes on the tail, if there are any, before the answers: who has an answer may rely on it.
//  4. Answer: close done of each.
//
//lab:03 3
//lab:hint s.commit does the work, s.tail.publish tells the watchers, and each waiter has err and done for its answer.
//lab:hint Swap s.waiting for nil under the lock and unlock at once. Then commit, publish, and go over the batch: set err only if the whole commit failed, close done in any case.
//lab:hint batch := s.waiting; s.waiting = nil; changes, err := s.commit(batch); if len(changes) > 0 { s.tail.publish(changes) }; for each w: if err != nil { w.err = s.orClosed(err) }; close(w.done).
func (s *SQLite) commitWaiting() {
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	changes, err := s.commit(batch)
	if len(changes) > 0 {
		s.tail.publish(changes)
	}
	for _, w := range batch {
		if err != nil {
			w.err = s.orClosed(err)
		}
		close(w.done)
	}
}

// commit does writes in one transaction and returns the changes when they are on the disk. After an error nothing has
// changed.
//  1. Begin a transaction of s.writes. Whatever happens later, roll it back at the end: after a commit that does nothing.
//  2. For each write, swap. A refusal goes into the waiter's err and concerns it alone: the others go on. A failure of swap
//     ends it all.
//  3. Fail, with an error that says so, if the revision of the first change is not the one after the tail's newest:
//     then another process writes to the file.
//  4. Commit the transaction. Count the changes in s.written and the commit in s.commits.
//  5. Return the changes that were not refused, in the order of their revisions.
//
//lab:03 3
//lab:hint s.writes.Begin gives a transaction, swap does one write in it; tell its two errors apart.
//lab:hint defer tx.Rollback() right after Begin. In the loop: refused, failed := swap(tx, w.change, w.expected); return on failed, keep refused in w.err, append the change if both are nil.
//lab:hint Before tx.Commit(): if len(changes) > 0 && changes[0].Revision != s.tail.newest()+1 return errors.New("another process writes to the store"). After it s.written.Add(int64(len(changes))) and s.commits.Add(1).
func (s *SQLite) commit(batch []*waiter) (changes []*Change, err error) {
	tx, err := s.writes.Begin()
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // after the commit it does nothing
	for _, w := range batch {
		if w.err, err = swap(tx, w.change, w.expected); err != nil {
			return nil, err
		}
		if w.err == nil {
			changes = append(changes, w.change)
		}
	}
	// Revisions have no gaps, unless somebody else took one: watchers here would never hear of that change.
	if len(changes) > 0 && changes[0].Revision != s.tail.newest()+1 {
		return nil, errors.New("another process writes to the store")
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	s.written.Add(int64(len(changes)))
	s.commits.Add(1)
	return changes, nil
}

// swap is the compare-and-swap. It returns why the change is refused, which is for the one who asked for it, or what
// failed, which ends the transaction. It does not commit.
//  1. Read the revision and the value of the key's object with selectObject: the value is the change's Previous. If there
//     is none (sql.ErrNoRows), the revision is 0.
//  2. Refuse the change unless the revision is the expected one. If absent is expected and there is an object: ErrExists.
//     If another is expected and there is none: ErrNotFound. If they differ: ErrConflict, wrapped, with both revisions.
//  3. Append the change to the log with insertChange. The number of the new row is its Revision; its time, At, is that
//     which stands in the log.
//  4. Point the object at the change with putObject. A change whose Value is nil deletes it, with deleteObject; an empty
//     value is a value.
//
//lab:03 1
//lab:hint The statements at the top of this file, and selectObject in read.go; absent tells a creation from the rest; errors.Is(err, sql.ErrNoRows) is no failure.
//lab:hint A switch over four cases decides: failed; there though absent was expected; not there though a revision was; another revision. Only then Exec insertChange (key, current, at, who, value), LastInsertId, and one of putObject and deleteObject.
//lab:hint tx.QueryRow(selectObject, change.Key).Scan(&current, &change.Previous); at := time.Now().UnixNano(); change.At = time.Unix(0, at); result, err := tx.Exec(insertChange, change.Key, current, at, change.Who, change.Value); change.Revision, err = result.LastInsertId().
func swap(tx *sql.Tx, change *Change, expected int64) (refused, failed error) {
	var current int64
	err := tx.QueryRow(selectObject, change.Key).Scan(&current, &change.Previous)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return nil, err
	case expected == absent && current != 0:
		return ErrExists, nil
	case expected != absent && current == 0:
		return ErrNotFound, nil
	case expected != absent && current != expected:
		return fmt.Errorf("%w (at revision %d, now %d)", ErrConflict, expected, current), nil
	}
	at := time.Now().UnixNano()
	change.At = time.Unix(0, at) // without the monotonic clock, as it will be read from the log
	result, err := tx.Exec(insertChange, change.Key, current, at, change.Who, change.Value)
	if err != nil {
		return nil, err
	}
	if change.Revision, err = result.LastInsertId(); err != nil {
		return nil, err
	}
	if change.Value == nil {
		_, err = tx.Exec(deleteObject, change.Key)
	} else {
		_, err = tx.Exec(putObject, change.Key, change.Revision)
	}
	return nil, err
}
