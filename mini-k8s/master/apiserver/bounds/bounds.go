// Package bounds keeps one client from making the server do so much that the others go without: it bounds how many of its
// requests are under way, and how long the server waits for who does not send or read. How much there is in a body is for the
// package bodies.
//
// In Kubernetes: --max-requests-inflight and the fair queues of KEP-1040, --request-timeout, and etcd's limit of 1.5 MB.
package bounds

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// How many requests of one user may be under way, over the network. Those that stay and do little count apart.
	maxRequests = 100
	maxWatches  = 2_000
	// patience is how long a client may take to send a body, or to take what is written to it.
	patience = time.Minute
)

// InFlight counts the requests of each user that are under way. The zero value is ready for use.
type InFlight struct {
	mu       sync.Mutex // guards requests
	requests map[requests]int
}

type requests struct {
	user  string
	watch bool
}

// Begin counts a request, until done is called, or refuses it.
func (f *InFlight) Begin(user string, r *http.Request) (done func(), err error) {
	query := r.URL.Query()
	stays := query.Get("watch") != "" || query.Get("follow") != "" || r.Header.Get("Upgrade") != ""
	of, most := requests{user, stays}, maxRequests
	if of.watch {
		most = maxWatches
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.requests[of] >= most {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d requests of %s are under way, try again later", most, user), 1)
	}
	if f.requests == nil {
		f.requests = map[requests]int{}
	}
	f.requests[of]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests[of]--
	}, nil
}

// InTime bounds how long the body of a request may take to come, and what is written to w to go.
func InTime(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if r.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
	}
	return timedWriter{w}
}

// timedWriter gives up on a client that does not read. The time counts only while something is written: over HTTP/2 a
// deadline that passes ends a stream even if nothing waits to be written to it.
type timedWriter struct{ http.ResponseWriter }

func (w timedWriter) Write(data []byte) (n int, err error) {
	w.inTime(func(*http.ResponseController) { n, err = w.ResponseWriter.Write(data) })
	return n, err
}

// FlushError is the Flush of http.ResponseController.
func (w timedWriter) FlushError() (err error) {
	w.inTime(func(control *http.ResponseController) { err = control.Flush() })
	return err
}

func (w timedWriter) inTime(write func(*http.ResponseController)) {
	control := http.NewResponseController(w.ResponseWriter)
	control.SetWriteDeadline(time.Now().Add(patience))
	write(control)
	control.SetWriteDeadline(time.Time{})
}

// Unwrap leads http.ResponseController to what is not done here.
func (w timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
