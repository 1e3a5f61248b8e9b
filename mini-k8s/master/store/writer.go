package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// maxBatch bounds the writes of one commit, and so how long the first of them waits for the last.
const maxBatch = 512

const (
	insertChange = `INSERT INTO changes (key, previous, at, who, value) VALUES (?, ?, ?, ?, ?)`
	putObject    = `INSERT INTO objects (key, revision) VALUES (?, ?)
		ON CONFLICT (key) DO UPDATE SET revision = excluded.revision`
	deleteObject = `DELETE FROM objects WHERE key = ?`
)

// job is what the writer does for one caller, as a part of the transaction of a batch.
type job struct {
	ctx  context.Context
	run  func(*sql.Tx) (*Change, error) // returns what shall go to the log, if anything
	err  error
	done chan struct{} // closed by the writer when err is final
}

// refusal is the error of a job that changed nothing; any other error fails the whole batch.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Create implements Store. When ctx ends while a Create, Update or Delete is under way, it returns the error of
// ctx, and the write may still happen.
func (s *SQLite) Create(ctx context.Context, key string, value []byte, who string) (int64, error) {
	return s.write(ctx, "create", 0, &Change{Key: key, Value: notNil(value), Who: who})
}

// Update implements Store.
func (s *SQLite) Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error) {
	return s.write(ctx, "update", expected, &Change{Key: key, Value: notNil(value), Who: who})
}

// Delete implements Store.
func (s *SQLite) Delete(ctx context.Context, key string, expected int64, who string) (int64, error) {
	return s.write(ctx, "delete", expected, &Change{Key: key, Who: who})
}

// notNil keeps an empty value apart from the nil that a deletion leaves.
func notNil(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func (s *SQLite) write(ctx context.Context, verb string, expected int64, change *Change) (int64, error) {
	err := s.do(ctx, func(tx *sql.Tx) (*Change, error) {
		var current int64 // stays 0 when there is no object
		err := tx.QueryRow(selectObject, change.Key).Scan(&current, &change.Previous)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if err := check(verb, expected, current); err != nil {
			return nil, refusal{err}
		}
		return change, s.apply(tx, change, current)
	})
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", verb, change.Key, err)
	}
	return change.Revision, nil
}

// check is the compare of the compare-and-swap.
func check(verb string, expected, current int64) error {
	switch {
	case verb == "create" && current != 0:
		return ErrExists
	case verb != "create" && current == 0:
		return ErrNotFound
	case verb != "create" && current != expected:
		return fmt.Errorf("%w (at revision %d, now %d)", ErrConflict, expected, current)
	}
	return nil
}

// apply is the swap: it appends the change to the log, where it gets its revision, and points the object at it.
func (s *SQLite) apply(tx *sql.Tx, change *Change, previous int64) error {
	at := s.now().UnixNano()
	change.At = time.Unix(0, at) // without the monotonic clock, as it will be read from the log
	result, err := tx.Exec(insertChange, change.Key, previous, at, change.Who, change.Value)
	if err != nil {
		return err
	}
	if change.Revision, err = result.LastInsertId(); err != nil {
		return err
	}
	if change.Value == nil {
		_, err = tx.Exec(deleteObject, change.Key)
	} else {
		_, err = tx.Exec(putObject, change.Key, change.Revision)
	}
	return err
}

// do hands a job to the writer and waits for it.
func (s *SQLite) do(ctx context.Context, run func(*sql.Tx) (*Change, error)) error {
	j := &job{ctx: ctx, run: run, done: make(chan struct{})}
	select {
	case s.jobs <- j:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeLoop is the writer: it takes a job and all that wait behind it, does them in one transaction and commits
// once. While it waits for the disk the next batch gathers; so batches grow with the load, and a lone write
// waits for nobody.
func (s *SQLite) writeLoop() {
	defer close(s.stopped)
	for {
		var batch []*job
		select {
		case j := <-s.jobs:
			batch = append(batch, j)
		case <-s.closing:
			return
		}
		for waiting := true; waiting && len(batch) < maxBatch; {
			select {
			case j := <-s.jobs:
				batch = append(batch, j)
			default:
				waiting = false
			}
		}
		changes, err := s.commit(batch)
		if err == nil {
			s.tail.publish(changes) // before the answers: who has one may rely on it
		}
		for _, j := range batch {
			if err != nil {
				j.err = err // even of a refused job: it was judged by what is undone now
			}
			close(j.done)
		}
	}
}

// commit does the jobs in one transaction and returns their changes when these are on the disk. After an error
// nothing has changed.
func (s *SQLite) commit(batch []*job) ([]*Change, error) {
	tx, err := s.writes.Begin()
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after the commit it does nothing
	var changes []*Change
	for _, j := range batch {
		if j.err = j.ctx.Err(); j.err != nil {
			continue // the caller is gone
		}
		change, err := j.run(tx)
		if j.err = err; err != nil && !errors.As(err, new(refusal)) {
			return nil, err
		}
		if change != nil {
			changes = append(changes, change)
		}
	}
	// Revisions have no gaps, unless somebody else took one: watchers here would never hear of that change. (The
	// tail gets its revision from this goroutine, so no lock is needed to read it.)
	if len(changes) > 0 && changes[0].Revision != s.tail.revision+1 {
		return nil, errors.New("another process writes to the store")
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	s.written.Add(int64(len(changes)))
	s.commits.Add(1)
	return changes, nil
}
