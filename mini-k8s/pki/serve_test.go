package pki

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// takenOver serves a handler that takes the connection over, and returns a client that has asked for that. served tells
// what Serve returned.
func takenOver(t *testing.T, ctx context.Context, handle func(context.Context, net.Conn)) (client *tls.Conn, served <-chan error) {
	t.Helper()
	ca, err := LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("component:apiserver", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := ServerTLS(ca.CertPEM, pair)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, port, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			handle(r.Context(), conn)
		}))
	}()
	client, err = tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: config.RootCAs, ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return client, ended
}

func TestServeEndsAndWaitsForWhoTookTheConnectionOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var handled atomic.Bool
	client, served := takenOver(t, ctx, func(ctx context.Context, conn net.Conn) {
		io.WriteString(conn, "hello\n")
		<-ctx.Done()
		io.WriteString(conn, "goodbye")
		conn.Close()
		handled.Store(true)
	})
	hears := bufio.NewReader(client)
	if line, err := hears.ReadString('\n'); line != "hello\n" {
		t.Fatalf("the client hears %q (%v)", line, err)
	}
	cancel()
	if rest, err := io.ReadAll(hears); err != nil || string(rest) != "goodbye" {
		t.Errorf("the client hears at the end %q (%v)", rest, err)
	}
	client.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if !handled.Load() {
		t.Error("Serve returned before its handler did")
	}
}

func TestLastWordsArriveThoughTheOtherSideIsStillTalking(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	words := strings.Repeat("last words ", 10_000)
	client, _ := takenOver(t, ctx, func(_ context.Context, conn net.Conn) {
		conn.Read(make([]byte, 1)) // and no more
		io.WriteString(conn, words)
		conn.Close()
	})
	talked := make(chan error, 1)
	go func() {
		_, err := io.CopyN(client, zeros{}, 20<<20)
		talked <- errors.Join(err, client.CloseWrite())
	}()
	if got, err := io.ReadAll(client); err != nil || string(got) != words {
		t.Errorf("the client has heard %d bytes of %d (%v)", len(got), len(words), err)
	}
	if err := <-talked; err != nil {
		t.Errorf("the client could not say all: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(data []byte) (int, error) { clear(data); return len(data), nil }
