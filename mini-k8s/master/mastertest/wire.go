package mastertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Wire carries requests to the API server.
type Wire struct {
	next http.RoundTripper

	mu        sync.Mutex // guards all below
	writes    []string
	intercept Intercept
}

// Intercept stands between a loop and the API server. do carries the request there; it may be called or not.
type Intercept func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	if r.Method != http.MethodGet {
		w.writes = append(w.writes, r.Method+" "+r.URL.Path+" "+r.UserAgent())
	}
	intercept := w.intercept
	w.mu.Unlock()
	do := func() (*http.Response, error) { return w.next.RoundTrip(r) }
	if intercept == nil {
		return do()
	}
	return intercept(r, do)
}

// Intercept sets what stands between from now on; nil for nothing.
func (w *Wire) Intercept(intercept Intercept) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.intercept = intercept
}

// Writes returns the writes so far, each as "PUT /api/v1/nodes/node-1 scheduler", but for those of which a part is named.
func (w *Wire) Writes(except ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var writes []string
next:
	for _, write := range w.writes {
		for _, part := range except {
			if strings.Contains(write, part) {
				continue next
			}
		}
		writes = append(writes, write)
	}
	return writes
}

// Is reports whether a request is of the method and its path ends like this.
func Is(r *http.Request, method, pathEnd string) bool {
	return r.Method == method && strings.HasSuffix(r.URL.Path, pathEnd)
}

// IsWatch reports whether a request is a watch of the resource.
func IsWatch(r *http.Request, resource string) bool {
	return Is(r, http.MethodGet, "/"+resource) && r.URL.Query().Get("watch") != ""
}

// Refusal returns the answer of an API server that refuses: err is of the kind that apierrors makes.
func Refusal(err error) *http.Response {
	var failure apierrors.APIStatus
	if !errors.As(err, &failure) {
		panic("mastertest: not a Status: " + err.Error())
	}
	status := failure.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	body, _ := json.Marshal(status)
	return &http.Response{StatusCode: int(status.Code), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
}

// Once deals in its own way with the first request that is meant, and lets all others pass.
func Once(meant func(*http.Request) bool, how Intercept) Intercept {
	var first sync.Once
	return func(r *http.Request, do func() (*http.Response, error)) (response *http.Response, err error) {
		met := false
		if meant(r) {
			first.Do(func() { met = true })
		}
		if met {
			return how(r, do)
		}
		return do()
	}
}

// Refuse is a way to deal with a request: it does not reach the server, and this is answered.
func Refuse(err error) Intercept {
	return func(*http.Request, func() (*http.Response, error)) (*http.Response, error) { return Refusal(err), nil }
}

// Gate holds back what comes over the body of an answer while it is closed. A new one is open.
type Gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while open, closed by Open
}

// Shut holds back what comes from now on.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

// Open lets through what was held back.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// Hold puts the gate into the answers to requests that are meant.
func (g *Gate) Hold(meant func(*http.Request) bool) Intercept {
	return func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
		response, err := do()
		if err == nil && meant(r) {
			response.Body = &gatedBody{ReadCloser: response.Body, gate: g, request: r}
		}
		return response, err
	}
}

type gatedBody struct {
	io.ReadCloser
	gate    *Gate
	request *http.Request
}

func (b *gatedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	b.gate.mu.Lock()
	shut := b.gate.shut
	b.gate.mu.Unlock()
	if shut == nil {
		return n, err
	}
	select {
	case <-shut:
		return n, err
	case <-b.request.Context().Done():
		return 0, b.request.Context().Err()
	}
}

// Lag makes what comes over an answer come later: each piece by as long as wait says.
func Lag(response *http.Response, wait func() time.Duration) {
	response.Body = &laggingBody{response.Body, wait}
}

type laggingBody struct {
	io.ReadCloser
	wait func() time.Duration
}

func (b *laggingBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	time.Sleep(b.wait())
	return n, err
}
