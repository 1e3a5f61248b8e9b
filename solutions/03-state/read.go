package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	// selectMarks gives the revision of the store, which outlives the newest change, and the compacted one.
	selectMarks = `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0), revision FROM compaction`

	selectObject  = `SELECT revision, value FROM changes WHERE revision = (SELECT revision FROM objects WHERE key = ?)`
	selectObjects = `SELECT o.key, o.revision, c.value FROM objects o JOIN changes c ON c.revision = o.revision
		WHERE o.key >= ? AND o.key < ? ORDER BY o.key`
	// selectObjectsAt finds the newest change of each key up to a revision, unless that deleted it.
	selectObjectsAt = `SELECT key, revision, value FROM changes WHERE value IS NOT NULL AND revision IN
		(SELECT max(revision) FROM changes WHERE revision <= ? AND key >= ? AND key < ? GROUP BY key) ORDER BY key`
	selectChanges = `SELECT c.revision, c.key, c.value, p.value, c.at, c.who
		FROM changes c LEFT JOIN changes p ON p.revision = c.previous
		WHERE c.revision > ? AND c.key >= ? AND c.key < ? ORDER BY c.revision LIMIT ?`
)

// maxRead is how many changes one read of the log returns at most.
const maxRead = 1024

// Get implements Store.
func (s *SQLite) Get(ctx context.Context, key string) (Object, error) {
	object := Object{Key: key}
	err := s.reads.QueryRowContext(ctx, selectObject, key).Scan(&object.Revision, &object.Value)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Object{}, fmt.Errorf("get %s: %w", key, s.orClosed(err))
	}
	return object, nil
}

// List implements Store. readLog, below, has the same shape.
//  1. Begin a view: all that is read in it is of one state of the store, and it knows the revision of that state.
//  2. Read the objects with selectObjects, from the prefix up to end(prefix), in the order of their keys.
//  3. Return them with the revision of the view: also if there are none, and whatever the newest of them has.
//
// An error says that it was this list that failed, and wraps the one of the view: that knows ErrClosed.
//
//lab:03 2
func (s *SQLite) List(ctx context.Context, prefix string) (objects []Object, at int64, err error) {
	err = s.view(ctx, func(tx *sql.Tx, revision, _ int64) error {
		at = revision
		rows, err := tx.QueryContext(ctx, selectObjects, prefix, end(prefix))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var object Object
			if err := rows.Scan(&object.Key, &object.Revision, &object.Value); err != nil {
				return err
			}
			objects = append(objects, object)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list %q: %w", prefix, err)
	}
	return objects, at, nil
}

// ListAt implements Store. What compaction leaves of the log is enough for it: the state of the compacted revision, and
// the changes after it.
func (s *SQLite) ListAt(ctx context.Context, prefix string, revision int64) (objects []Object, at int64, err error) {
	err = s.view(ctx, func(tx *sql.Tx, newest, compacted int64) error {
		if at = revision; revision == Oldest {
			at = compacted
		}
		switch {
		case at > newest:
			return fmt.Errorf("%w (at %d)", ErrFuture, newest)
		case at < compacted:
			return ErrCompacted
		}
		rows, err := tx.QueryContext(ctx, selectObjectsAt, at, prefix, end(prefix))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var object Object
			if err := rows.Scan(&object.Key, &object.Revision, &object.Value); err != nil {
				return err
			}
			objects = append(objects, object)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list %q as of revision %d: %w", prefix, revision, err)
	}
	return objects, at, nil
}

// end returns a key after all that begin with the prefix: no UTF-8 text has the byte 0xff.
func end(prefix string) string { return prefix + "\xff" }

// readLog returns the changes of the prefix after the revision, in order: all, or the first maxRead. Up to
// looked there are no others.
//  1. Begin a view. Fail with ErrCompacted if changes after the revision may be gone.
//  2. Read the changes.
//  3. If there may be more, looked is the revision of the last; else it is that of the view.
func (s *SQLite) readLog(ctx context.Context, prefix string, after int64) (changes []*Change, looked int64, err error) {
	err = s.view(ctx, func(tx *sql.Tx, revision, compacted int64) error {
		if after < compacted {
			return ErrCompacted
		}
		rows, err := tx.QueryContext(ctx, selectChanges, after, prefix, end(prefix), maxRead)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c Change
			var at int64
			if err := rows.Scan(&c.Revision, &c.Key, &c.Value, &c.Previous, &at, &c.Who); err != nil {
				return err
			}
			c.At = time.Unix(0, at)
			changes = append(changes, &c)
		}
		if looked = revision; len(changes) == maxRead {
			looked = changes[maxRead-1].Revision
		}
		return rows.Err()
	})
	if err != nil {
		return nil, after, err
	}
	return changes, looked, nil
}

// view calls read with a transaction that sees one state of the store: the revision of that state, and the one up to
// which changes may be gone from the log.
func (s *SQLite) view(ctx context.Context, read func(tx *sql.Tx, revision, compacted int64) error) error {
	tx, err := s.reads.BeginTx(ctx, nil)
	if err != nil {
		return s.orClosed(err)
	}
	defer tx.Rollback() // it only reads
	var revision, compacted int64
	// The first query decides which state it is.
	if err = tx.QueryRowContext(ctx, selectMarks).Scan(&revision, &compacted); err == nil {
		err = read(tx, revision, compacted)
	}
	return s.orClosed(err)
}
