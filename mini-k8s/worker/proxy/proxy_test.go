package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// machine notes what the proxy does to it.
type machine struct {
	mu      sync.Mutex // guards all below
	scripts []string
	failure error           // of Apply
	others  map[string]bool // the ports that somebody else has
	claimed map[string]bool
	stale   func(sentTo, ledTo netip.AddrPort) bool // of the last ForgetUDP
}

// newMachine starts a proxy and returns once it has set its first rules.
func newMachine(t *testing.T, bench *mastertest.Bench) (m *machine, stop func()) {
	m = &machine{others: map[string]bool{}, claimed: map[string]bool{}}
	config := testConfig
	config.Apply = func(_ context.Context, script string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.scripts = append(m.scripts, script)
		return m.failure
	}
	config.Claim = func(protocol string, port int) (io.Closer, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		key := fmt.Sprint(protocol, port)
		if m.others[key] {
			return nil, errors.New("address already in use")
		}
		m.claimed[key] = true
		return closer(func() { delete(m.claimed, key) }), nil
	}
	config.ForgetUDP = func(stale func(sentTo, ledTo netip.AddrPort) bool) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stale = stale
		return nil
	}
	stop = bench.Start(New(bench.Deps(), config).Run)
	synctest.Wait()
	time.Sleep(gather)
	synctest.Wait()
	if got := m.take(); len(got) != 1 || !strings.HasPrefix(got[0], "table ip") {
		t.Fatalf("it begins with %q", got)
	}
	return m, stop
}

type closer func()

func (c closer) Close() error { c(); return nil }

// take returns the scripts since the last time.
func (m *machine) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.scripts = nil }()
	return m.scripts
}

func (m *machine) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func TestAStormIsOneBatch(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m, _ := newMachine(t, bench)
		begin := time.Now()
		for i := range 100 {
			name := fmt.Sprint("web-", i)
			mastertest.Create(t, bench.Client, service(name, fmt.Sprint("10.96.0.", 10+i)))
			mastertest.Create(t, bench.Client, slice(name, 8080, "10.244.1.2"))
		}
		synctest.Wait() // the time of the bubble stands still until all that can be done is done
		time.Sleep(gather)
		synctest.Wait()
		if got := m.take(); len(got) != 1 || strings.Count(got[0], "goto pick-1") != 100 {
			t.Errorf("after %v 200 changes are %d scripts: %.300s", time.Since(begin), len(got), got)
		}
		mastertest.Settle()
		if got := m.take(); len(got) != 0 {
			t.Errorf("and then %q", got)
		}
	})
}

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m, _ := newMachine(t, bench)
		mastertest.Create(t, bench.Client, service("web", "10.96.0.10"))
		mastertest.Create(t, bench.Client, slice("web", 8080, "10.244.1.2"))
		mastertest.Settle()
		m.take()
		mastertest.Change(t, bench.Client, "default", "web", func(s *corev1.Service) { s.Labels = map[string]string{"a": "b"} })
		mastertest.Change(t, bench.Client, "default", "web", func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = append(s.Endpoints, s.Endpoints[0]) // the same once more
		})
		mastertest.Create(t, bench.Client, service("empty", "10.96.0.11"))
		mastertest.Settle()
		if got := m.take(); len(got) != 0 {
			t.Errorf("it wrote %q", got)
		}
	})
}

func TestAllIsSetAnewAfterAFailureAndNowAndThen(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m, _ := newMachine(t, bench)
		mastertest.Create(t, bench.Client, service("web", "10.96.0.10"))
		m.set(func() { m.failure = errors.New("no such file or directory") }) // somebody has deleted the table
		mastertest.Create(t, bench.Client, slice("web", 8080, "10.244.1.2"))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := m.take(); len(got) < 2 || !strings.HasPrefix(got[1], "table ip") {
			t.Errorf("while it fails: %q", got)
		}
		m.set(func() { m.failure = nil })
		for _, wait := range []time.Duration{time.Second, repair} {
			time.Sleep(wait)
			synctest.Wait()
			if got := m.take(); len(got) != 1 || !strings.HasPrefix(got[0], "table ip") || !strings.Contains(got[0], "10.96.0.10") {
				t.Errorf("after %v: %q", wait, got)
			}
		}
	})
}

func TestNodePortsAreTakenFromTheMachine(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m, stop := newMachine(t, bench)
		m.set(func() { m.others["tcp30081"] = true })
		for name, port := range map[string]int32{"ours": 30080, "theirs": 30081, "empty": 30082} {
			mastertest.Create(t, bench.Client, service(name, fmt.Sprint("10.96.0.", port-30000), nodePort(port)))
		}
		mastertest.Create(t, bench.Client, slice("ours", 8080, "10.244.1.2"))
		mastertest.Create(t, bench.Client, slice("theirs", 8080, "10.244.1.3"))
		mastertest.Settle()
		got := strings.Join(m.take(), "")
		if !strings.Contains(got, "tcp . 30080 : goto") || strings.Contains(got, "tcp . 30081 : goto") || !strings.Contains(got, "10.96.0.81 . tcp . 80 : goto") {
			t.Errorf("it wrote %s", got)
		}
		claimed := func(want ...string) {
			t.Helper()
			if got := slices.Sorted(maps.Keys(m.claimed)); !slices.Equal(got, want) {
				t.Errorf("it has the ports %v, want %v", got, want)
			}
		}
		claimed("tcp30080")
		m.set(func() { m.others["tcp30081"] = false })
		mastertest.Delete[*corev1.Service](t, bench.Client, "default", "ours", metav1.DeletePropagationBackground)
		mastertest.Settle()
		if got := strings.Join(m.take(), ""); !strings.Contains(got, "tcp . 30081 : goto") {
			t.Errorf("when the other has gone it wrote %s", got)
		}
		claimed("tcp30081")
		stop()
		claimed()
	})
}

func TestFlowsOfUDPToPodsThatAreGoneAreForgotten(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m, _ := newMachine(t, bench)
		web := service("web", "10.96.0.10", nodePort(30080))
		web.Spec.Ports[0].Protocol = corev1.ProtocolUDP
		mastertest.Create(t, bench.Client, web)
		ends := slice("web", 8080, "10.244.1.2", "10.244.1.3")
		ends.Ports[0].Protocol = new(corev1.ProtocolUDP)
		mastertest.Create(t, bench.Client, ends)
		mastertest.Settle()
		m.set(func() { m.stale = nil })

		mastertest.Change(t, bench.Client, "default", "web", func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.1.4"}})
		})
		mastertest.Settle()
		if m.stale != nil {
			t.Error("a pod has come, and it looked for flows to pods that are gone")
		}
		mastertest.Change(t, bench.Client, "default", "web", func(s *discoveryv1.EndpointSlice) { s.Endpoints = s.Endpoints[1:] })
		mastertest.Settle()
		if m.stale == nil {
			t.Fatal("a pod has gone, and nothing was forgotten")
		}
		for _, row := range []struct {
			sentTo, ledTo string
			want          bool
		}{
			{"10.96.0.10:80", "10.244.1.2:8080", true},
			{"10.96.0.10:80", "10.244.1.3:8080", false},
			{"10.96.0.10:80", "10.96.0.10:80", true}, // from a moment when nobody served it
			{"192.0.2.1:30080", "10.244.1.2:8080", true},
			{"127.0.0.1:30080", "10.244.1.3:8080", false},
			{"192.0.2.1:30081", "10.244.1.2:8080", false}, // a port that a container publishes
			{"198.51.100.7:30080", "198.51.100.7:30080", false},
			{"10.244.1.2:30080", "10.244.1.2:30080", false},
		} {
			if got := m.stale(netip.MustParseAddrPort(row.sentTo), netip.MustParseAddrPort(row.ledTo)); got != row.want {
				t.Errorf("what is sent to %s and led to %s is stale: %v", row.sentTo, row.ledTo, got)
			}
		}
	})
}
