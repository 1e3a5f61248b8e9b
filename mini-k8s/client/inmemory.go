package client

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// InMemory returns a transport that calls an API server's handler in the same process: the same requests and
// the same bytes, but no socket, no TLS and no port.
func InMemory(handler http.Handler) http.RoundTripper { return inMemory{handler} }

type inMemory struct{ handler http.Handler }

func (t inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	body, feed := io.Pipe()
	w := &pipeWriter{header: http.Header{}, feed: feed, started: make(chan struct{}), code: http.StatusOK}
	go func() {
		// The end of a handler that was told to stop is not the end of its answer.
		defer func() { feed.CloseWithError(r.Context().Err()) }()
		defer w.start()
		t.handler.ServeHTTP(w, r)
	}()
	// A server closes the connection of a request that is given up. Here that is the pipe.
	stop := context.AfterFunc(r.Context(), func() { feed.CloseWithError(r.Context().Err()) })
	select {
	case <-w.started:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{
		StatusCode: w.code, Status: http.StatusText(w.code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: pipeBody{body, stop}, Request: r, ContentLength: -1,
	}, nil
}

// pipeWriter is the handler's side. The header is handed over with the first byte.
type pipeWriter struct {
	header  http.Header
	feed    *io.PipeWriter
	code    int
	once    sync.Once
	started chan struct{}
}

func (w *pipeWriter) start()              { w.once.Do(func() { close(w.started) }) }
func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) Flush()              { w.start() }

func (w *pipeWriter) WriteHeader(code int) {
	w.code = code
	w.start()
}

func (w *pipeWriter) Write(data []byte) (int, error) {
	w.start()
	return w.feed.Write(data)
}

// pipeBody is the caller's side. Closing it makes the handler's writes fail.
type pipeBody struct {
	*io.PipeReader
	stop func() bool
}

func (b pipeBody) Close() error {
	b.stop()
	return b.PipeReader.Close()
}
