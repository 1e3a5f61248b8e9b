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
	"time"

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

const (
	// selectMarks gives the revision of the store, which outlives the newest change, and the compacted one.
	selectMarks = `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0), revision FROM compaction`

	selectObject  = `SELECT revision, value FROM changes WHERE revision = (SELECT revision FROM objects WHERE key = ?)`
	selectObjects = `SELECT o.key, o.revision, c.value FROM objects o JOIN changes c ON c.revision = o.revision
		WHERE o.key >= ? AND o.key < ? ORDER BY o.key`
	selectChanges = `SELECT c.revision, c.key, c.value, p.value, c.at, c.who
		FROM changes c LEFT JOIN changes p ON p.revision = c.previous
		WHERE c.revision > ? AND c.revision <= ? AND c.key >= ? AND c.key < ? ORDER BY c.revision LIMIT ?`
)

// Options of every connection. FULL: a commit returns when the write-ahead log is on the disk, not merely with
// the kernel. Those who read never wait for the one who writes, nor it for them. Each has a page cache of its own of
// 512 KiB: what is not in it is in the kernel's.
const options = "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_stmt_cache_size=16&_cache_size=-512"

// readers is how many reads run at a time; more wait.
const readers = 4

// SQLite is a Store in one file. One goroutine writes; any number read, each the state of the last commit. No
// other process may write to the file.
type SQLite struct {
	reads  *sql.DB // connections that cannot write
	writes *sql.DB // the one connection of the writer
	tail   *tail
	now    func() time.Time

	jobs    chan *job     // for the writer; unbuffered: a job that it took is answered
	closing chan struct{} // closed when there shall be no more jobs
	stopped chan struct{} // closed by the writer when it has answered the last
	close   func() error

	written, commits atomic.Int64
}

// OpenSQLite opens the store in the file at path, which it creates if need be, readable for its owner only. The
// caller must Close it.
func OpenSQLite(path string) (*SQLite, error) {
	s := &SQLite{
		now:     time.Now,
		jobs:    make(chan *job),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	s.close = sync.OnceValue(s.stop)
	if err := s.open(path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	go s.writeLoop()
	return s, nil
}

func (s *SQLite) open(path string) (err error) {
	// SQLite gives the files that it puts beside this one the same mode.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil {
		return err
	}
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
	s.tail = &tail{older: s.readLog, asleep: make(map[string]*sleepers)}
	if _, err = s.writes.Exec(schema); err == nil {
		err = s.reads.QueryRow(selectMarks).Scan(&s.tail.revision, &s.tail.compacted)
	}
	if err != nil {
		return errors.Join(err, s.reads.Close(), s.writes.Close())
	}
	s.tail.since = s.tail.revision
	return nil
}

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

// List implements Store.
func (s *SQLite) List(ctx context.Context, prefix string) ([]Object, int64, error) {
	objects, revision, err := s.list(ctx, prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("list %q: %w", prefix, s.orClosed(err))
	}
	return objects, revision, nil
}

func (s *SQLite) list(ctx context.Context, prefix string) (objects []Object, revision int64, err error) {
	tx, err := s.reads.BeginTx(ctx, nil)
	if err != nil {
		return nil, 0, err
	}
	defer tx.Rollback() // it only reads
	// Both queries see the state in which the first finds the store.
	if err := tx.QueryRowContext(ctx, selectMarks).Scan(&revision, new(int64)); err != nil {
		return nil, 0, err
	}
	rows, err := tx.QueryContext(ctx, selectObjects, prefix, end(prefix))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var object Object
		if err := rows.Scan(&object.Key, &object.Revision, &object.Value); err != nil {
			return nil, 0, err
		}
		objects = append(objects, object)
	}
	return objects, revision, rows.Err()
}

// end returns a key after all that begin with the prefix: no UTF-8 text has the byte 0xff.
func end(prefix string) string { return prefix + "\xff" }

// Watch implements Store.
func (s *SQLite) Watch(prefix string, after int64) (*Watcher, error) {
	// The log is asked, not the tail: a reader may know of a commit a moment before it is published.
	var revision int64
	if err := s.reads.QueryRow(selectMarks).Scan(&revision, new(int64)); err != nil {
		return nil, fmt.Errorf("watch %q: %w", prefix, s.orClosed(err))
	}
	if after > revision {
		return nil, fmt.Errorf("watch %q after revision %d: %w (at %d)", prefix, after, ErrFuture, revision)
	}
	return s.tail.watch(prefix, after)
}

// readLog reads the changes that the tail has no more.
func (s *SQLite) readLog(ctx context.Context, prefix string, after, until int64) ([]*Change, error) {
	rows, err := s.reads.QueryContext(ctx, selectChanges, after, until, prefix, end(prefix), nextChanges)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var changes []*Change
	for rows.Next() {
		var c Change
		var at int64
		if err := rows.Scan(&c.Revision, &c.Key, &c.Value, &c.Previous, &at, &c.Who); err != nil {
			return nil, err
		}
		c.At = time.Unix(0, at)
		changes = append(changes, &c)
	}
	return changes, rows.Err()
}

// Stats returns how many writes were made since the store was opened, and how many commits they took.
func (s *SQLite) Stats() (writes, commits int64) { return s.written.Load(), s.commits.Load() }

// Close implements Store. Calls that come too late return ErrClosed.
func (s *SQLite) Close() error { return s.close() }

func (s *SQLite) stop() error {
	close(s.closing)
	<-s.stopped
	s.tail.close()
	return errors.Join(s.reads.Close(), s.writes.Close())
}

// orClosed replaces what the driver says about a closed store.
func (s *SQLite) orClosed(err error) error {
	select {
	case <-s.closing:
		return ErrClosed
	default:
		return err
	}
}
