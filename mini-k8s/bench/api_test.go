package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/images"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	podsPath  = "/api/v1/namespaces/default/pods"
	podsInAll = 5000
	watchers  = 500
)

// apiBench is an API server with 5,000 pods, and the peer that it is measured against: a server of net/http over the
// same TLS and another store, which answers with the same bytes, and knows nothing of what they mean.
type apiBench struct {
	handler    http.Handler
	ours, bare string // URLs
	client     *http.Client
	peer       *peer
}

// BenchmarkAPI measures requests over TLS, one after the other, in turns with the peer: the median and the 99th
// percentile of both, the ratio of the medians, and what the API server allocates for one.
func BenchmarkAPI(b *testing.B) {
	s := newAPIBench(b)
	name := func(i int) string { return fmt.Sprintf("%s/pod-%d", podsPath, i%podsInAll) }
	for _, bench := range []struct {
		name, method string
		path         func(i int) string
		body         func(i int) []byte
	}{
		{"get", http.MethodGet, name, nil},
		{"list5000", http.MethodGet, func(int) string { return podsPath }, nil},
		{"create", http.MethodPost, func(int) string { return podsPath }, func(i int) []byte { return podJSON(fmt.Sprint("new-", i)) }},
		{"update", http.MethodPut, name, func(i int) []byte { return podJSON(fmt.Sprint("pod-", i%podsInAll), "turn", fmt.Sprint(i)) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var ours, bare []time.Duration
			i := 0
			request := func(server string) *http.Request {
				var body []byte
				if bench.body != nil {
					body = bench.body(i)
				}
				r, err := http.NewRequestWithContext(b.Context(), bench.method, server+bench.path(i), bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				return r
			}
			for b.Loop() {
				ours = append(ours, s.time(b, request(s.ours)))
				bare = append(bare, s.time(b, request(s.bare)))
				i++
			}
			report(b, ours, bare)
			const direct = 20
			requests := make([]*http.Request, direct)
			for n := range requests {
				requests[n] = request("http://direct")
				i++
			}
			b.ReportMetric(allocated(b, s.handler, requests)/direct, "B/request")
		})
	}
	b.Run("watch500", func(b *testing.B) { s.watch(b) })
}

// watch measures from an update until the last of 500 watchers has read the event.
func (s *apiBench) watch(b *testing.B) {
	ours, bare := s.follow(b, s.ours), s.follow(b, s.bare)
	var oursTook, bareTook []time.Duration
	var before, after runtime.MemStats
	var ourBytes uint64
	for i := 0; b.Loop(); i++ {
		runtime.ReadMemStats(&before)
		oursTook = append(oursTook, s.fanOut(b, ours, s.ours, i))
		runtime.ReadMemStats(&after)
		ourBytes += after.TotalAlloc - before.TotalAlloc
		bareTook = append(bareTook, s.fanOut(b, bare, s.bare, i))
	}
	report(b, oursTook, bareTook)
	b.ReportMetric(float64(ourBytes)/float64(len(oursTook))/watchers, "B/event")
}

// follow opens the watches, and returns what counts the events that they have still to read.
func (s *apiBench) follow(b *testing.B, server string) *sync.WaitGroup {
	var unread, open sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	b.Cleanup(func() { cancel(); ended.Wait() })
	open.Add(watchers)
	for range watchers {
		ended.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, server+podsPath+"?watch=true&resourceVersion="+s.revision(b, server), nil)
			response, err := s.client.Do(r)
			open.Done()
			if err != nil {
				b.Error(err)
				return
			}
			defer response.Body.Close()
			for lines := bufio.NewReaderSize(response.Body, 16<<10); ; unread.Done() {
				if _, err := lines.ReadSlice('\n'); err != nil {
					return
				}
			}
		})
	}
	open.Wait()
	return &unread
}

// revision returns that of the newest state.
func (s *apiBench) revision(b *testing.B, server string) string {
	if server == s.bare {
		return ""
	}
	r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, server+podsPath+"?fieldSelector=metadata.name=none", nil)
	response, err := s.client.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	var list metav1.PartialObjectMetadataList
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		b.Fatal(err)
	}
	return list.ResourceVersion
}

func (s *apiBench) fanOut(b *testing.B, unread *sync.WaitGroup, server string, i int) time.Duration {
	unread.Add(watchers)
	r, _ := http.NewRequestWithContext(b.Context(), http.MethodPut, server+podsPath+"/pod-0", bytes.NewReader(podJSON("pod-0", "watched", fmt.Sprint(i))))
	r.Header.Set("Content-Type", "application/json")
	start := time.Now()
	s.time(b, r)
	unread.Wait()
	return time.Since(start)
}

// time returns how long a request takes until its answer is read.
func (s *apiBench) time(b *testing.B, r *http.Request) time.Duration {
	start := time.Now()
	response, err := s.client.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	took := time.Since(start)
	response.Body.Close()
	if err != nil || response.StatusCode >= 300 {
		b.Fatalf("%s %s: %s %v", r.Method, r.URL, response.Status, err)
	}
	return took
}

// allocated returns the bytes that the handler allocates for the requests.
func allocated(b *testing.B, handler http.Handler, requests []*http.Request) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, r := range requests {
		w := &discard{header: http.Header{}}
		handler.ServeHTTP(w, r)
		if w.code >= 300 {
			b.Fatalf("%s %s: %d", r.Method, r.URL, w.code)
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

type discard struct {
	header http.Header
	code   int
}

func (d *discard) Header() http.Header            { return d.header }
func (d *discard) WriteHeader(code int)           { d.code = code }
func (d *discard) Write(data []byte) (int, error) { return len(data), nil }

func report(b *testing.B, ours, bare []time.Duration) {
	slices.Sort(ours)
	slices.Sort(bare)
	micros := func(all []time.Duration, percent int) float64 {
		return float64(all[(len(all)-1)*percent/100].Nanoseconds()) / 1e3
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(micros(ours, 50), "µs-p50")
	b.ReportMetric(micros(ours, 99), "µs-p99")
	b.ReportMetric(micros(bare, 50), "µs-p50-bare")
	b.ReportMetric(micros(bare, 99), "µs-p99-bare")
	b.ReportMetric(micros(ours, 50)/micros(bare, 50), "ratio")
}

func newAPIBench(b *testing.B) *apiBench {
	b.Helper()
	sqlite := openStore(b)
	server, err := apiserver.New(b.Context(), apiserver.Config{Store: sqlite})
	if err != nil {
		b.Fatal(err)
	}
	s := &apiBench{handler: server.As("admin"), peer: newPeer(openStore(b))}
	ca, err := pki.LoadOrCreate(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s.ours, s.bare = serveTLS(b, ca, s.handler), serveTLS(b, ca, s.peer)
	pair, err := ca.Issue("admin")
	if err != nil {
		b.Fatal(err)
	}
	config, err := pki.ClientTLS(ca.CertPEM, pair)
	if err != nil {
		b.Fatal(err)
	}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	b.Cleanup(s.client.CloseIdleConnections)
	s.fill(b)
	return s
}

func openStore(b *testing.B) *store.SQLite {
	b.Helper()
	s, err := store.OpenSQLite(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func serveTLS(b *testing.B, ca *pki.CA, handler http.Handler) (url string) {
	b.Helper()
	pair, err := ca.Issue("component:apiserver", "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	config, err := pki.ServerTLS(ca.CertPEM, pair)
	if err != nil {
		b.Fatal(err)
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { pki.Serve(ctx, port, config, handler) })
	b.Cleanup(func() { stop(); running.Wait() })
	return "https://" + port.Addr().String()
}

// fill creates the pods, and gives the peer what the API server makes of them.
func (s *apiBench) fill(b *testing.B) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < podsInAll; i = next.Add(1) - 1 {
				name := fmt.Sprint("pod-", i)
				r, _ := http.NewRequest(http.MethodPost, "http://direct"+podsPath, bytes.NewReader(podJSON(name)))
				w := &discard{header: http.Header{}}
				if s.handler.ServeHTTP(w, r); w.code != http.StatusCreated {
					b.Errorf("create %s: %d", name, w.code)
				}
				if _, err := s.peer.write(b.Context(), podsPath+"/"+name, podJSON(name)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, path := range []string{podsPath + "/pod-0", podsPath} {
		r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, s.ours+path, nil)
		response, err := s.client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || b.Failed() {
			b.Fatal(err)
		}
		s.peer.answers[path] = answer
	}
}

// podJSON is a pod as people write them, in about 1.5 KB.
func podJSON(name string, labels ...string) []byte {
	quantities := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	app := corev1.Container{Name: "app", Image: images.HelloV1.Name, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		Resources: corev1.ResourceRequirements{Requests: quantities}, Env: []corev1.EnvVar{{Name: "GREETING", Value: "hello"}}}
	side := *app.DeepCopy()
	side.Name, side.Ports = "side", nil
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"note": strings.Repeat("a word or two ", 20)}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{app, side}},
	}
	for i := 0; i+1 < len(labels); i += 2 {
		pod.Labels[labels[i]] = labels[i+1]
	}
	data, _ := json.Marshal(pod)
	return data
}

// peer keeps bytes under paths.
type peer struct {
	store   *store.SQLite
	answers map[string][]byte // to reads

	mu        sync.Mutex // guards all below
	revisions map[string]int64
	created   int
	changed   chan struct{} // closed, and made anew, with each change
	event     []byte        // the last
}

func newPeer(s *store.SQLite) *peer {
	return &peer{store: s, answers: map[string][]byte{}, revisions: map[string]int64{}, changed: make(chan struct{})}
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Query().Get("watch") != "":
		p.watch(w, r)
	case r.Method == http.MethodGet && r.URL.Path == podsPath:
		w.Write(p.answers[podsPath])
	case r.Method == http.MethodGet:
		w.Write(p.answers[podsPath+"/pod-0"])
	default:
		body, err := io.ReadAll(r.Body)
		path := r.URL.Path
		if r.Method == http.MethodPost {
			p.mu.Lock()
			p.created++
			path += fmt.Sprint("/new-", p.created)
			p.mu.Unlock()
		}
		if err == nil {
			_, err = p.write(r.Context(), path, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Write(p.answers[podsPath+"/pod-0"]) // as long as what the API server answers
	}
}

func (p *peer) write(ctx context.Context, path string, value []byte) (revision int64, err error) {
	p.mu.Lock()
	old, found := p.revisions[path]
	p.mu.Unlock()
	if found {
		revision, err = p.store.Update(ctx, path, value, old, "bench")
	} else {
		revision, err = p.store.Create(ctx, path, value, "bench")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revisions[path] = revision
	p.event = p.answers[podsPath+"/pod-0"]
	close(p.changed)
	p.changed = make(chan struct{})
	return revision, err
}

// watch writes a line for each change.
func (p *peer) watch(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w).Flush
	for flush() == nil {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
		p.mu.Lock()
		event := p.event
		p.mu.Unlock()
		fmt.Fprintf(w, "{\"type\":\"MODIFIED\",\"object\":%s}\n", event)
	}
}
