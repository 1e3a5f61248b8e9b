package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

// The key of changes is the revision; AUTOINCREMENT keeps SQLite from giving a number again after the newest
// rows are gone. An object is a pointer into the log, so that each value is written once.
const schema = `
CREATE TABLE IF NOT EXISTS changes (
	revision INTEGER PRIMARY KEY AUTOINCREMENT,
	key      TEXT    NOT NULL,
	previous INTEGER NOT NULL, -- the revision that this change replaced; 0: it created the object
	at       INTEGER NOT NULL, -- Unix time in nanoseconds
	who      TEXT    NOT NULL,
	value    BLOB              -- NULL: it deleted the object
);
CREATE TABLE IF NOT EXISTS objects (
	key      TEXT    PRIMARY KEY,
	revision INTEGER NOT NULL -- of its last change
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compaction (
	row      INTEGER PRIMARY KEY CHECK (row = 1),
	revision INTEGER NOT NULL -- up to here, changes may be gone
);
INSERT OR IGNORE INTO compaction VALUES (1, 0);`

// Options of every connection. FULL: a commit returns when the write-ahead log is on the disk, not merely with
// the kernel. Those who read never wait for the one who writes, nor it for them. Each has a page cache of its own of
// 512 KiB: what is not in it is in the kernel's.
const options = "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_stmt_cache_size=16&_cache_size=-512"

// readers is how many reads run at a time; more wait.
const readers = 4

// SQLite is a Store in one file. One write commits at a time, with all that wait; any number of reads run, each on the
// state of the last commit. No other process may write to the file.
type SQLite struct {
	reads  *sql.DB // connections that cannot write
	writes *sql.DB // the one connection that can
	tail   *tail
	turn   chan struct{} // holds one token: of who commits, or closes the store
	closed atomic.Bool

	mu      sync.Mutex // guards waiting
	waiting []*waiter  // for the next commit

	written, commits atomic.Int64
}

// OpenSQLite opens the store in the file at path, which it creates if need be, readable for its owner only. The
// caller must Close it.
func OpenSQLite(path string) (*SQLite, error) {
	s := &SQLite{turn: make(chan struct{}, 1)}
	s.tail = &tail{older: s.readLog}
	if err := s.open(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func (s *SQLite) open(path string) error {
	// SQLite gives the files that it puts beside this one the same mode.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	file.Close()
	uri := "file:" + url.PathEscape(path) + options
	if s.writes, err = sql.Open("sqlite3", uri+"&_txlock=immediate"); err != nil {
		return err
	}
	if s.reads, err = sql.Open("sqlite3", uri+"&_query_only=1"); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(1)
	s.reads.SetMaxOpenConns(readers)
	s.reads.SetMaxIdleConns(readers)
	if _, err = s.writes.Exec(schema); err == nil {
		err = s.reads.QueryRow(selectMarks).Scan(&s.tail.since, new(int64))
	}
	if err != nil {
		s.Close()
	}
	return err
}

// Stats returns how many writes were made since the store was opened, and how many commits they took.
func (s *SQLite) Stats() (writes, commits int64) { return s.written.Load(), s.commits.Load() }

// Close implements Store. Calls that come too late return ErrClosed.
func (s *SQLite) Close() error {
	s.turn <- struct{}{} // when the commit under way is done
	defer func() { <-s.turn }()
	if s.closed.Swap(true) {
		return nil
	}
	s.tail.close()
	return errors.Join(s.reads.Close(), s.writes.Close())
}

// orClosed replaces what the driver says about a closed store.
func (s *SQLite) orClosed(err error) error {
	if err != nil && s.closed.Load() {
		return ErrClosed
	}
	return err
}

// compactStep is how many changes one transaction of a compaction looks at: a write waits for no more.
const compactStep = 500

// compaction is one step, from a revision up to another. A change may go when a change up to the mark has replaced
// it. Those that stay are what an object points to, or the value before a change that is still in the log.
var compaction = []string{
	`DELETE FROM changes WHERE revision IN (SELECT previous FROM changes WHERE revision > ?1 AND revision <= ?2)`,
	`DELETE FROM changes WHERE revision > ?1 AND revision <= ?2 AND value IS NULL`,
	`UPDATE compaction SET revision = max(revision, ?2)`,
}

// Compact implements Store. It works in short steps between other writes, each of them complete: after an error
// or a crash the log is compacted up to some earlier revision. The file keeps its size; later writes fill it.
func (s *SQLite) Compact(ctx context.Context, revision int64) error {
	var from int64
	err := s.view(ctx, func(_ *sql.Tx, newest, compacted int64) error {
		if from = compacted; revision > newest {
			return fmt.Errorf("%w (at %d)", ErrFuture, newest)
		}
		return nil
	})
	for ; err == nil && from < revision; from += compactStep {
		err = s.compact(ctx, from, min(from+compactStep, revision))
	}
	if err != nil {
		return fmt.Errorf("compact up to revision %d: %w", revision, s.orClosed(err))
	}
	return nil
}

func (s *SQLite) compact(ctx context.Context, from, to int64) error {
	tx, err := s.writes.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	for _, statement := range compaction {
		if _, err := tx.ExecContext(ctx, statement, from, to); err != nil {
			return err
		}
	}
	return tx.Commit()
}
