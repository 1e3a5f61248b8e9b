package apiserver

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// What one client can make the server do is bounded, so that the others do not go without: how much there is in a body
// (shape.go), how many requests are under way, and how long the server waits for who does not send or read.
//
// In Kubernetes: --max-requests-inflight and the fair queues of KEP-1040, --request-timeout, and etcd's limit of 1.5 MB.
const (
	// How many requests of one user may be under way, over the network. Those that stay and do little count apart.
	maxRequests = 100
	maxWatches  = 2_000
	// patience is how long a client may take to send a body, or to take what is written to it.
	patience = time.Minute
)

// inFlight counts the requests of each user that are under way.
type inFlight struct {
	mu       sync.Mutex // guards requests
	requests map[userRequests]int
}

type userRequests struct {
	user  User
	watch bool
}

// begin counts a request, until done is called, or refuses it.
func (f *inFlight) begin(user User, r *http.Request) (done func(), err error) {
	query := r.URL.Query()
	stays := query.Get("watch") != "" || query.Get("follow") != "" || r.Header.Get("Upgrade") != ""
	of, most := userRequests{user, stays}, maxRequests
	if of.watch {
		most = maxWatches
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.requests[of] >= most {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d requests of %s are under way, try again later", most, user), 1)
	}
	f.requests[of]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests[of]--
	}, nil
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
