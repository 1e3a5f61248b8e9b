package store

import (
	"context"
	"database/sql"
	"fmt"
)

// compactStep is how many changes one transaction of a compaction looks at: a write waits for no more.
const compactStep = 500

const (
	setCompacted = `UPDATE compaction SET revision = ?`
	// A change may go when a change up to the mark has replaced it. Those that stay are what an object points to,
	// or the value before a change that is still in the log.
	deleteReplaced = `DELETE FROM changes WHERE revision IN
		(SELECT previous FROM changes WHERE revision > ? AND revision <= ?)`
	deleteDeletions = `DELETE FROM changes WHERE revision > ? AND revision <= ? AND value IS NULL`
)

// Compact implements Store. It works in short steps between other writes, each of them complete: after an error
// or a crash the log is compacted up to some earlier revision. The file keeps its size; later writes fill it.
func (s *SQLite) Compact(ctx context.Context, revision int64) error {
	for finished := false; !finished; {
		err := s.do(ctx, func(tx *sql.Tx) (_ *Change, err error) {
			finished, err = s.compact(tx, revision)
			return nil, err
		})
		if err != nil {
			return fmt.Errorf("compact up to revision %d: %w", revision, err)
		}
	}
	return nil
}

// compact does one step and tells whether it was the last.
func (s *SQLite) compact(tx *sql.Tx, revision int64) (finished bool, err error) {
	var from, newest int64
	if err := tx.QueryRow(selectMarks).Scan(&newest, &from); err != nil {
		return false, err
	}
	if revision > newest {
		return false, refusal{fmt.Errorf("%w (at %d)", ErrFuture, newest)}
	}
	to := min(from+compactStep, revision)
	if to <= from {
		return true, nil
	}
	// Watchers must know before a change is gone. Should the commit fail, some have listed again for nothing.
	s.tail.markCompacted(to)
	if _, err := tx.Exec(deleteReplaced, from, to); err != nil {
		return false, err
	}
	if _, err := tx.Exec(deleteDeletions, from, to); err != nil {
		return false, err
	}
	_, err = tx.Exec(setCompacted, to)
	return to == revision, err
}
