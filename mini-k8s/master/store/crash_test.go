package store_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"workshop/mini-k8s/master/store"
)

// Variables that make this test binary the victim, and that set how often there is one.
const (
	crashFile   = "MINI_K8S_CRASH_FILE"
	crashRounds = "MINI_K8S_CRASH_ROUNDS"
)

// acknowledged is a write that returned without an error.
type acknowledged struct {
	key      string
	revision int64
	hash     string // of the value; "-" of a deletion
}

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		fmt.Fprintln(os.Stderr, "the victim ends on its own:", writeForever(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestCrashLosesNoAcknowledgedWrite kills a process in the midst of its writes, again and again on one file, and
// looks at what is left. (The kernel lives on, so this says nothing of power cuts: those are up to fsync.)
func TestCrashLosesNoAcknowledgedWrite(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv(crashRounds), "5"))
	must(t, err)
	path := file(t)
	all := map[int64]acknowledged{} // of all rounds
	var log []string                // as the last round left it
	for round := range rounds {
		acks := writeUntilKilled(t, path, 100+rand.IntN(900))
		for _, ack := range acks {
			if before, repeated := all[ack.revision]; repeated {
				t.Fatalf("revision %d was given twice: %v and %v", ack.revision, before, ack)
			}
			all[ack.revision] = ack
		}
		log = checkAfterCrash(t, path, all, log)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
	t.Logf("%d rounds, %d acknowledged writes, %d in the log", rounds, len(all), len(log))
}

// writeUntilKilled runs a victim, kills it when it has acknowledged so many writes, and returns these and those
// that it acknowledged while it was dying.
func writeUntilKilled(t *testing.T, path string, enough int) []acknowledged {
	t.Helper()
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env = append(os.Environ(), crashFile+"="+path)
	victim.Stderr = os.Stderr
	output, err := victim.StdoutPipe()
	must(t, err)
	must(t, victim.Start())
	var acks []acknowledged
	for lines := bufio.NewReader(output); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // it is dead; what is left is half a line
		}
		var ack acknowledged
		if _, err := fmt.Sscan(line, &ack.key, &ack.revision, &ack.hash); err != nil {
			t.Errorf("the victim says %q: %v", line, err)
		}
		if acks = append(acks, ack); len(acks) == enough {
			must(t, victim.Process.Kill())
		}
	}
	if err := victim.Wait(); len(acks) < enough || victim.ProcessState.Exited() {
		t.Fatalf("the victim ended on its own after %d writes: %v", len(acks), err)
	}
	return acks
}

// checkAfterCrash checks the file against the acknowledged writes and its own log, which must continue the log
// of the round before, and returns that log.
func checkAfterCrash(t *testing.T, path string, all map[int64]acknowledged, before []string) []string {
	t.Helper()
	s, err := store.OpenSQLite(path)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	objects, last, err := s.List(t.Context(), "")
	must(t, err)
	listed := map[string]string{}
	for _, object := range objects {
		listed[object.Key] = fmt.Sprint(object.Revision, " ", hash(object.Value))
	}

	watcher, err := s.Watch("", 0)
	must(t, err)
	var log []string
	replayed, values := map[string]string{}, map[string]string{}
	found := 0
	for watcher.Revision() < last {
		changes, err := watcher.Next(t.Context())
		must(t, err)
		for _, change := range changes {
			told := fmt.Sprint(change.Key, " ", change.Revision, " ", hash(change.Value))
			log = append(log, told)
			if ack, exists := all[change.Revision]; exists {
				found++
				if ack != (acknowledged{change.Key, change.Revision, hash(change.Value)}) {
					t.Errorf("the log has %q, acknowledged was %v", told, ack)
				}
			}
			if values[change.Key] != hash(change.Previous) && values[change.Key] != "" {
				t.Errorf("change %q does not replace the value before it", told)
			}
			values[change.Key] = hash(change.Value)
			if replayed[change.Key] = fmt.Sprint(change.Revision, " ", hash(change.Value)); change.Value == nil {
				delete(replayed, change.Key)
			}
		}
	}
	if found != len(all) {
		t.Errorf("%d of %d acknowledged writes are in the log", found, len(all))
	}
	if !maps.Equal(replayed, listed) {
		t.Errorf("the log leads to %v, the objects are %v", replayed, listed)
	}
	if len(log) < len(before) || !slices.Equal(log[:len(before)], before) {
		t.Error("the log does not continue the one of the round before")
	}
	return log
}

// writeForever is the life of a victim: it writes with several goroutines and prints what was acknowledged. It
// returns only the first error.
func writeForever(path string) error {
	s, err := store.OpenSQLite(path)
	if err != nil {
		return err
	}
	var output sync.Mutex // one line at a time
	failed := make(chan error)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("pods/%d-%d", w, i%5)
				value := []byte(strings.Repeat(fmt.Sprint(rand.Uint64()), 1+rand.IntN(200)))
				revision, err := change(context.Background(), s, key, value)
				if err != nil {
					failed <- err
					return
				}
				if revision < 0 {
					revision, value = -revision, nil
				}
				output.Lock()
				fmt.Println(key, revision, hash(value))
				output.Unlock()
			}
		}()
	}
	return <-failed
}

// change creates the object, or updates it, or every third time deletes it and returns the revision negated.
func change(ctx context.Context, s store.Store, key string, value []byte) (int64, error) {
	objects, _, err := s.List(ctx, key)
	switch {
	case err != nil:
		return 0, err
	case len(objects) == 0:
		return s.Create(ctx, key, value, "victim")
	case rand.IntN(3) == 0:
		revision, err := s.Delete(ctx, key, objects[0].Revision, "victim")
		return -revision, err
	default:
		return s.Update(ctx, key, value, objects[0].Revision, "victim")
	}
}

func hash(value []byte) string {
	if value == nil {
		return "-"
	}
	h := fnv.New64a()
	h.Write(value)
	return strconv.FormatUint(h.Sum64(), 16)
}
