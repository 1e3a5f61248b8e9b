package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// burn keeps a CPU busy for so many milliseconds before it answers: work for an autoscaler to see.
func burn(w http.ResponseWriter, r *http.Request) {
	milliseconds, err := strconv.Atoi(r.PathValue("milliseconds"))
	if err != nil || milliseconds < 0 || milliseconds > 10_000 {
		http.Error(w, "burn how many milliseconds? 0 to 10000", http.StatusBadRequest)
		return
	}
	for end := time.Now().Add(time.Duration(milliseconds) * time.Millisecond); time.Now().Before(end); {
	}
	io.WriteString(w, "burnt\n")
}

// load sends so many requests a second to the URL until the context ends, and tells every five seconds how that goes. Each
// is on a connection of its own, so that a service spreads them.
func load(ctx context.Context, url string, rate int) error {
	if rate < 1 || rate > 10_000 {
		return fmt.Errorf("load URL RATE: %d requests a second are none, or too many", rate)
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var done, failed atomic.Int64
	var requests sync.WaitGroup
	defer requests.Wait()
	next, told := time.NewTicker(time.Second/time.Duration(rate)), time.NewTicker(5*time.Second)
	defer next.Stop()
	defer told.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told.C:
			log.Printf("%d answers, %d failures in 5 s", done.Swap(0), failed.Swap(0))
		case <-next.C:
			requests.Go(func() {
				response, err := client.Get(url)
				if err != nil || response.StatusCode >= 400 {
					failed.Add(1)
				} else {
					done.Add(1)
				}
				if err == nil {
					response.Body.Close()
				}
			})
		}
	}
}
