package store_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"workshop/mini-k8s/master/store"
)

var twoKB = bytes.Repeat([]byte("mini-k8s"), 256)

// BenchmarkWrite measures durable writes; commits/op tells how well they share a trip to the disk.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "state.db"))
			fill(b, s, writers)
			writes, commits := s.Stats()
			var left atomic.Int64
			left.Store(int64(b.N))
			var group sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				group.Go(func() {
					key, revision := name(w), int64(w+1)
					for left.Add(-1) >= 0 {
						var err error
						if revision, err = s.Update(b.Context(), key, twoKB, revision, "bench"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			allWrites, allCommits := s.Stats()
			b.ReportMetric(float64(allCommits-commits)/float64(allWrites-writes), "commits/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "state.db"))
	fill(b, s, 5000)
	for i := 0; b.Loop(); i++ {
		if _, err := s.Get(b.Context(), name(i%5000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList5000(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "state.db"))
	fill(b, s, 5000)
	b.ReportAllocs()
	for b.Loop() {
		if objects, _, err := s.List(b.Context(), "pods/"); err != nil || len(objects) != 5000 {
			b.Fatal(len(objects), err)
		}
	}
}

// BenchmarkWatch measures a write until the last of 500 watchers has seen it.
func BenchmarkWatch500(b *testing.B) {
	for _, prefix := range []string{"pods/", "services/"} {
		b.Run(prefix, func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "state.db"))
			fill(b, s, 1)
			ctx, cancel := context.WithCancel(b.Context())
			var watching, seen sync.WaitGroup
			for range 500 {
				watcher, err := s.Watch(prefix, 1)
				if err != nil {
					b.Fatal(err)
				}
				watching.Go(func() {
					for {
						changes, err := watcher.Next(ctx)
						if err != nil {
							return
						}
						seen.Add(-len(changes))
					}
				})
			}
			revision := int64(1)
			for b.Loop() {
				if prefix == "pods/" {
					seen.Add(500)
				}
				var err error
				if revision, err = s.Update(ctx, name(0), twoKB, revision, "bench"); err != nil {
					b.Fatal(err)
				}
				seen.Wait()
			}
			cancel()
			watching.Wait()
		})
	}
}

func name(i int) string { return fmt.Sprintf("pods/default/pod-%d", i) }

// fill creates objects of 2 KB with the revisions 1 to n.
func fill(b *testing.B, s *store.SQLite, n int) {
	b.Helper()
	for i := range n {
		if _, err := s.Create(b.Context(), name(i), twoKB, "bench"); err != nil {
			b.Fatal(err)
		}
	}
}
