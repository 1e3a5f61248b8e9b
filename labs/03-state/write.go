package store

import (
	"context"
	"database/sql"

	"workshop/labs/lab"
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
func (s *SQLite) write(ctx context.Context, change *Change, expected int64) (int64, error) {
	return 0, lab.TODO("03", "SQLite.write")
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
func (s *SQLite) commitWaiting() {
	lab.TODO("03", "SQLite.commitWaiting")
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
func (s *SQLite) commit(batch []*waiter) (changes []*Change, err error) {
	return nil, lab.TODO("03", "SQLite.commit")
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
func swap(tx *sql.Tx, change *Change, expected int64) (refused, failed error) {
	return nil, lab.TODO("03", "swap")
}
