// Package mastertest is the bench on which the loops of the control plane are tested. How to use it:
//
//	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
//		deps := bench.Deps() // shared caches and events, running until the test ends
//		stop := bench.Start(scheduler.New(deps).Run)
//		mastertest.Create(t, bench.Client, mastertest.Pod("web"))
//		mastertest.Eventually(t, "the pod has a node", func() bool { ... })
//	})
//
// The API server is the real one, over SQLite in a temporary directory. All of it runs in a bubble of testing/synctest:
// a minute that nobody needs costs nothing, and a goroutine that is left over at the end fails the test. Every request
// of a loop goes over the Wire, which counts the writes and can refuse, delay or lose what a test wants to be refused,
// delayed or lost.
package mastertest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"
)

// Bench is an API server with what a loop needs to run against it.
type Bench struct {
	Client *client.Client // the admin's; its writes do not count
	Store  *store.SQLite
	Wire   *Wire // what loops speak over
	t      testing.TB
}

// Run runs a test in a bubble, on a bench of its own.
func Run(t *testing.T, test func(t *testing.T, bench *Bench)) {
	synctest.Test(t, func(t *testing.T) { test(t, New(t)) })
}

// New returns a bench that is gone when the test ends.
func New(t testing.TB) *Bench {
	t.Helper()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	sqlite, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sqlite.Close() })
	server, err := apiserver.New(t.Context(), apiserver.Config{Store: sqlite})
	if err != nil {
		t.Fatal(err)
	}
	direct := client.InMemory(server.As("admin"))
	return &Bench{
		Client: client.New(client.Config{Server: "http://in-memory", Name: "test", Transport: direct}),
		Store:  sqlite, Wire: &Wire{next: direct}, t: t,
	}
}

// Loops returns a client for loops: its requests go over the Wire.
func (b *Bench) Loops() *client.Client {
	return client.New(client.Config{Server: "http://in-memory", Name: "loops", Transport: b.Wire})
}

// Deps returns what loops share, running until the test ends.
func (b *Bench) Deps() control.Deps {
	deps := control.NewDeps(b.Loops(), "master")
	b.Start(deps.Run)
	return deps
}

// Start runs a loop until stop is called or the test ends. A loop that ends before that fails the test.
func (b *Bench) Start(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
			b.t.Errorf("a loop ended: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	b.t.Cleanup(stop)
	return stop
}

// Settle gives the loops a moment in the bubble: enough for what retries within seconds.
func Settle() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

// Patience is how long Eventually waits.
const Patience = 20 * time.Second

// Eventually returns when the condition holds, and fails the test if it does not in time.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
