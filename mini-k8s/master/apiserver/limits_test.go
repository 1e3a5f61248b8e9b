package apiserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/pki"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pipes is a listener without sockets, for a bubble of testing/synctest: what nobody reads is held in no buffer.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case connection := <-p.incoming:
		return connection, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6443} }

// watchOverHTTP2 returns what a client sends to begin a watch: the preface, empty settings, and the header.
func watchOverHTTP2(t *testing.T, query string) string {
	t.Helper()
	var header, sends bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", configMaps + "?watch=true" + query}} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	sends.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&sends, nil)
	err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true}))
	if err != nil {
		t.Fatal(err)
	}
	return sends.String()
}

// TestClientThatNeitherSendsNorReadsIsGivenUp: the handlers of its requests end, and so does its connection.
func TestClientThatNeitherSendsNorReadsIsGivenUp(t *testing.T) {
	head := func(method, query string) string {
		return fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", method, configMaps, query)
	}
	const given = 5 * time.Minute // in the bubble
	large := configMap("large", "", "k: "+strings.Repeat("x", 100<<10))
	for _, row := range []struct {
		name, protocol, sends string
		answered              string
	}{
		{"sends half a header", "http/1.1", head("GET", ""), ""},
		{"sends half a body", "http/1.1", head("POST", "") + "Content-Length: 1000\r\n\r\n{", "the body has not come"},
		{"reads no list", "http/1.1", head("GET", "") + "\r\n", ""},
		{"reads no watch", "http/1.1", head("GET", "?watch=true") + "\r\n", ""},
		{"takes no more of a watch", "h2", watchOverHTTP2(t, ""), "large"}, // HTTP/2 lets it say how much it takes
		{"answers no ping during its watch", "h2", watchOverHTTP2(t, "&fieldSelector=metadata.name%3Dsmall"), "small"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.post(configMaps, large).ok()
				w.post(configMaps, configMap("small", "", "")).ok()
				w.ctx = context.Background() // the world's patience is shorter than the server's
				port := &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
				s := w.serveOn(port)
				near, far := net.Pipe()
				port.incoming <- far
				config := s.tls.Clone()
				config.ServerName, config.NextProtos = "127.0.0.1", []string{row.protocol}
				connection := tls.Client(near, config)
				defer near.Close()
				if _, err := connection.Write([]byte(row.sends)); err != nil {
					t.Fatal(err)
				}
				if row.answered != "" {
					connection.SetReadDeadline(time.Now().Add(given))
					got, err := io.ReadAll(connection) // until the server closes it
					if err != nil || !strings.Contains(string(got), row.answered) {
						t.Errorf("answered %q, and then %v", got, err)
					}
				}
				time.Sleep(given)
				synctest.Wait()
				if n := s.active.Load(); n != 0 {
					t.Errorf("%d handlers wait for it", n)
				}
				if _, err := near.Write([]byte("x")); err == nil {
					t.Error("its connection is open")
				}
			})
		})
	}
}

func TestWatchThatHasNothingToTellIsNotGivenUp(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx, cancel := context.WithCancel(context.Background()) // the world's patience is shorter than this silence
				defer cancel()
				w.ctx = ctx
				port := &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
				s := w.serveOn(port)
				browser := s.browser(version)
				browser.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
					near, far := net.Pipe()
					port.incoming <- far
					return near, nil
				}
				r, err := http.NewRequestWithContext(ctx, "GET", "https://"+s.address+configMaps+"?watch=true", nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := browser.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				time.Sleep(10 * time.Minute) // in the bubble
				w.post(configMaps, configMap("late", "", "")).ok()
				if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.Contains(line, "late") || response.ProtoMajor != version {
					t.Errorf("over %s: %q, %v", response.Proto, line, err)
				}
			})
		})
	}
}

func TestAThousandWatchersAndOneThatDoesNotReadAreToldAndWritesGoOn(t *testing.T) {
	const watchers, changes = 1000, 5
	w := newWorld(t)
	w.ctx = t.Context() // with -race this takes longer than a request may
	for i := range 8 {  // more than the buffers of a connection hold
		name := fmt.Sprint("large-", i)
		large := configMap(name, "namespace: kube-public", "k: "+strings.Repeat("x", 1<<20))
		if _, err := w.store.Create(w.ctx, "configmaps/kube-public/"+name, []byte(large), "test"); err != nil {
			t.Fatal(err)
		}
	}
	s := w.serve()
	browser := s.browser(2)
	open := func(path string) io.ReadCloser {
		r, err := http.NewRequestWithContext(w.ctx, "GET", "https://"+s.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := browser.Do(r)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", response, err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response.Body
	}
	open("/api/v1/configmaps?watch=true") // and is never read
	revision := w.get(configMaps).object().ResourceVersion
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	bodies := make([]io.ReadCloser, watchers)
	for i := range bodies {
		bodies[i] = open(configMaps + "?watch=true&resourceVersion=" + revision)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / watchers
	if t.Logf("a watcher takes %d KB, of both sides", each>>10); each > 128<<10 {
		t.Errorf("a watcher takes %d KB", each>>10)
	}
	for i := range changes {
		w.post(configMaps, configMap(fmt.Sprintf("m%d", i), "", "")).ok()
	}
	var reading sync.WaitGroup
	for _, body := range bodies {
		reading.Go(func() {
			lines := bufio.NewReader(body)
			for i := range changes {
				line, err := lines.ReadBytes('\n')
				if want := fmt.Sprintf(`"name":"m%d"`, i); err != nil || !bytes.Contains(line, []byte(want)) {
					t.Errorf("want %s, got %s, %v", want, line, err)
					return
				}
			}
		})
	}
	reading.Wait()
}

func TestRequestsOfOneUserAreBoundedAndHarmNoOther(t *testing.T) {
	const watches, requests = 2000, 100
	w := newWorld(t)
	tokens := map[string]string{}
	ca, err := pki.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.server, err = apiserver.New(w.ctx, apiserver.Config{Store: w.store, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	handler := client.InMemory(w.server.Handler())
	for _, user := range []string{"admin", "viewer"} {
		if tokens[user], err = ca.Token(user); err != nil {
			t.Fatal(err)
		}
	}
	get := func(user, path string) *http.Response {
		r, err := http.NewRequestWithContext(w.ctx, "GET", "http://in-memory"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tokens[user])
		response, err := handler.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	refused := func(path string) {
		t.Helper()
		response := get("admin", path)
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer{t, response.StatusCode, nil, body}.fails(429, metav1.StatusReasonTooManyRequests, "are under way", "try again later")
		if after := response.Header.Get("Retry-After"); after != "1" {
			t.Errorf("Retry-After: %q", after)
		}
	}
	granted := func(user, path string) io.Closer {
		t.Helper()
		response := get(user, path)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s %s: %d", user, path, response.StatusCode)
		}
		return response.Body
	}
	const watch = configMaps + "?watch=true&resourceVersion=0"
	var bodies []io.Closer
	for range watches {
		bodies = append(bodies, granted("admin", watch))
	}
	refused(watch)
	bodies = append(bodies, granted("viewer", watch), granted("admin", configMaps))
	for _, body := range bodies {
		body.Close()
	}
	w.post(configMaps, configMap("a", "", "")).ok() // the write shows the handlers that they have nobody
	for ended := false; !ended; {
		response := get("admin", watch)
		ended = response.StatusCode == http.StatusOK
		response.Body.Close()
	}

	let, waiting := make(chan struct{}), atomic.Int64{}
	w.store.get = func() { waiting.Add(1); <-let }
	var running sync.WaitGroup
	for range requests {
		running.Go(func() { get("admin", configMaps+"/a").Body.Close() })
	}
	for waiting.Load() < requests {
		runtime.Gosched()
	}
	refused(configMaps)
	granted("viewer", configMaps).Close()
	close(let)
	running.Wait()
}
