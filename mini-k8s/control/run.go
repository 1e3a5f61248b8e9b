package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Component is something that runs until its context ends.
type Component struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run runs components side by side. When one fails, the others are told to stop; Run returns when all have,
// with the failures, or with nil if they only ended because the context did.
func Run(ctx context.Context, components ...Component) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(components))
	var running sync.WaitGroup
	for i, component := range components {
		running.Go(func() {
			if err := component.Run(ctx); err != nil && ctx.Err() == nil {
				failures[i] = fmt.Errorf("%s: %w", component.Name, err)
			}
			cancel()
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

// Sleep waits, or returns early when the context ends.
func Sleep(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	<-ctx.Done()
}

// backoff returns how long to wait after so many failures: from the first wait on it doubles, up to the last.
func backoff(failures int, first, last time.Duration) time.Duration {
	return min(first<<min(failures-1, 20), last)
}
