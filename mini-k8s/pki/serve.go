package pki

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// shutdownTimeout is how long requests have to end when their server does.
const shutdownTimeout = 5 * time.Second

// ClientTLS is for a client that speaks to a server of the cluster.
func ClientTLS(caPEM []byte, pair Pair) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("use the certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool(caPEM)}, nil
}

// ServerTLS is for a server of the cluster, and for a client as well. Who calls the server may show a certificate; one
// that the CA has not signed is refused.
func ServerTLS(caPEM []byte, pair Pair) (*tls.Config, error) {
	config, err := ClientTLS(caPEM, pair)
	if err == nil {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, config.RootCAs
	}
	return config, err
}

// pool returns the CA as what certificates are checked against.
func pool(caPEM []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(caPEM)
	return p
}

// Serve answers what comes over the port until the context ends, and closes it. It ends the requests that go on, a
// watch for example, by their context, and returns after all of them.
func Serve(ctx context.Context, port net.Listener, config *tls.Config, handler http.Handler) error {
	var serving sync.RWMutex // held by each request: http.Server does not wait for one that has taken its connection over
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serving.RLock()
			defer serving.RUnlock()
			taken := &takeover{ResponseWriter: w, ctx: r.Context()}
			defer taken.end()
			handler.ServeHTTP(taken, r)
		}),
		TLSConfig:         config.Clone(), // the server adds to it what it speaks
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		// A client over HTTP/2 that is gone, or does not read, must not keep its streams.
		HTTP2:       &http.HTTP2Config{SendPingTimeout: 30 * time.Second, WriteByteTimeout: 30 * time.Second},
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if server.Shutdown(timeout) != nil {
			server.Close()
		}
	})
	if err := server.ServeTLS(port, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	serving.Lock()
	defer serving.Unlock()
	return nil
}

// takeover is for a request that takes its connection over, which http.Server then forgets. The connection ends with the
// request, for which there is little time when its context has ended.
type takeover struct {
	http.ResponseWriter
	ctx  context.Context
	conn net.Conn // once it is taken over
}

func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.conn = politeConn{conn.(*tls.Conn)}
	context.AfterFunc(t.ctx, func() { conn.SetDeadline(time.Now().Add(shutdownTimeout)) })
	return t.conn, buffered, nil
}

func (t *takeover) end() {
	if t.conn != nil {
		t.conn.Close()
	}
}

// Unwrap leads http.ResponseController to the rest.
func (t *takeover) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// politeConn listens to the other side until that has heard our last words, or has had time enough to. To close a connection
// over which more is on its way resets it, and what was sent last is lost: the exit code of `yes | kubectl exec`.
type politeConn struct{ *tls.Conn }

func (c politeConn) Close() error {
	c.SetWriteDeadline(time.Now().Add(shutdownTimeout))
	c.CloseWrite()
	io.Copy(io.Discard, c.Conn)
	return c.Conn.Close()
}

func (c politeConn) CloseWrite() error {
	c.SetReadDeadline(time.Now().Add(shutdownTimeout))
	return c.Conn.CloseWrite()
}
