package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"workshop/mini-k8s/control"
)

func TestOneWorkerOfAMachineLooksAfterTheServicesAndThenTheNext(t *testing.T) {
	cluster := fmt.Sprint("alone-", os.Getpid())
	type turn struct {
		node   string
		active int // of all workers, at that moment
	}
	turns, active := make(chan turn), make(chan int, 1)
	active <- 0
	stops := map[string]func(){}
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		w := &Worker{Config: Config{Cluster: cluster, Node: node}}
		go func() {
			ended <- w.alone(ctx, control.Component{Name: "services", Run: func(ctx context.Context) error {
				count := <-active + 1
				active <- count
				turns <- turn{node, count}
				<-ctx.Done()
				active <- <-active - 1
				return ctx.Err()
			}})
		}()
		stops[node] = func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s ended with %v", node, err)
			}
		}
	}
	for range 3 {
		now := <-turns
		if now.active != 1 {
			t.Errorf("when it is the turn of %s, %d look after the services", now.node, now.active)
		}
		stops[now.node]()
	}
}
