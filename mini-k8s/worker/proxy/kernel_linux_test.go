package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/worker/network"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// host is a network namespace: a kernel's network of its own, with pods that are addresses of its loopback.
type host struct {
	t    testing.TB
	name string
}

// newHost returns a host with the addresses 192.0.2.1 and those of the pods, or skips the test where there cannot be one.
func newHost(t testing.TB, pods ...string) *host {
	t.Helper()
	_, missing := exec.LookPath("nft")
	if os.Geteuid() != 0 || missing != nil {
		reason := fmt.Sprint("this takes root on Linux, and nft: ", missing)
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	h := &host{t, fmt.Sprintf("mk8s-test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	run(t, "ip", "netns", "add", h.name)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", h.name) })
	run(t, "ip", "-n", h.name, "link", "set", "lo", "up")
	for _, address := range append([]string{"192.0.2.1"}, pods...) {
		run(t, "ip", "-n", h.name, "address", "add", address+"/32", "dev", "lo")
	}
	run(t, "ip", "-n", h.name, "route", "add", "default", "dev", "lo", "src", "192.0.2.1")
	return h
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (h *host) apply(ctx context.Context, script string) error {
	command := exec.CommandContext(ctx, "ip", "netns", "exec", h.name, "nft", "-f", "-")
	command.Stdin = strings.NewReader(script)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// inside calls a function on a thread that is in the namespace: the sockets that it opens are, for ever.
func (h *host) inside(do func()) {
	h.t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with this goroutine
		namespace, err := os.Open("/var/run/netns/" + h.name)
		if err == nil {
			defer namespace.Close()
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			h.t.Error(err)
			return
		}
		do()
	})
	done.Wait()
}

// serve answers every connection, and every datagram, with the address that it listens at.
func (h *host) serve(address string) {
	h.t.Helper()
	var stream net.Listener
	var datagrams net.PacketConn
	h.inside(func() {
		var err1, err2 error
		stream, err1 = net.Listen("tcp4", address)
		datagrams, err2 = net.ListenPacket("udp4", address)
		if err := errors.Join(err1, err2); err != nil {
			h.t.Fatal(err)
		}
	})
	h.t.Cleanup(func() { stream.Close(); datagrams.Close() })
	go func() {
		for c, err := stream.Accept(); err == nil; c, err = stream.Accept() {
			io.WriteString(c, address)
			c.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 64)
		for _, from, err := datagrams.ReadFrom(buffer); err == nil; _, from, err = datagrams.ReadFrom(buffer) {
			datagrams.WriteTo([]byte(address), from)
		}
	}()
}

// call returns who answered at the address, or why nobody did.
func (h *host) call(network, address string) (answer string) {
	h.t.Helper()
	h.inside(func() { answer = call(network, address) })
	return answer
}

func call(network, address string) string {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return reasonOf(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if network == "udp" {
		if _, err := io.WriteString(c, "hello"); err != nil {
			return reasonOf(err)
		}
	}
	buffer := make([]byte, 64)
	n, err := c.Read(buffer)
	if err != nil {
		return reasonOf(err)
	}
	return string(buffer[:n])
}

func reasonOf(err error) string {
	// For a datagram of the host itself, Linux says that it is not permitted.
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPERM) {
		return "refused"
	}
	return err.Error()
}

func TestTheKernelServesServices(t *testing.T) {
	h := newHost(t, "10.244.1.2", "10.244.1.3", "10.244.1.4")
	for _, pod := range []string{"10.244.1.2", "10.244.1.3", "10.244.1.4"} {
		h.serve(pod + ":8080")
	}
	udp := func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP})
	}
	datagrams := slice("web:udp", 8080, "10.244.1.2")
	datagrams.Ports[0].Protocol = new(corev1.ProtocolUDP)
	services := []*corev1.Service{service("web", "10.96.0.10", nodePort(30080), udp), service("sticky", "10.96.0.11", sticky),
		service("empty", "10.96.0.12", nodePort(30081))}
	first := rulesOf(services, []*discoveryv1.EndpointSlice{slice("web", 8080, "10.244.1.2", "10.244.1.3", "10.244.1.4"), datagrams,
		slice("sticky", 8080, "10.244.1.2", "10.244.1.3", "10.244.1.4")})
	if err := h.apply(t.Context(), testConfig.update(nil, first)); err != nil {
		t.Fatal(err)
	}

	// Of 9,000 calls each pod gets 3,000; that chance alone makes it more than 10 % more or less, for any of the pods, has
	// a probability of 6e-11 (the tails of the binomial distribution, summed).
	const calls = 9000
	for _, address := range []string{"10.96.0.10:80", "192.0.2.1:30080"} {
		count := map[string]int{}
		h.inside(func() {
			for range calls {
				count[call("tcp", address)]++
			}
		})
		for _, pod := range []string{"10.244.1.2:8080", "10.244.1.3:8080", "10.244.1.4:8080"} {
			if n := count[pod]; n < calls/3*9/10 || n > calls/3*11/10 {
				t.Errorf("%d calls of %s went %v", calls, address, count)
			}
		}
	}
	always := h.call("tcp", "10.96.0.11:80")
	for range 20 {
		if got := h.call("tcp", "10.96.0.11:80"); got != always || !strings.HasPrefix(got, "10.244.") {
			t.Errorf("the same client came to %s, and to %s before", got, always)
		}
	}
	for _, row := range []struct{ network, address, want string }{
		{"udp", "10.96.0.10:80", "10.244.1.2:8080"},
		{"tcp", "192.0.2.1:30080", "10.244."},
		{"tcp", "127.0.0.1:30080", "10.244."},
		{"tcp", "10.96.0.12:80", "refused"},
		{"udp", "10.96.0.12:80", "refused"},
		{"tcp", "192.0.2.1:30081", "refused"},
		{"tcp", "10.96.0.10:81", "refused"},
		{"tcp", "10.96.77.77:80", "refused"},
	} {
		if got := h.call(row.network, row.address); !strings.HasPrefix(got, row.want) {
			t.Errorf("%s %s: %s, want %s", row.network, row.address, got, row.want)
		}
	}

	// One element in the place of another, in a table that goes on to work; and the last one goes.
	second := rulesOf(services, []*discoveryv1.EndpointSlice{slice("web", 8080, "10.244.1.2", "10.244.1.2", "10.244.1.3", "10.244.1.4"), datagrams,
		slice("sticky", 8080, "10.244.1.4", "10.244.1.5", "10.244.1.6"), slice("empty", 8080, "10.244.1.3", "10.244.1.3", "10.244.1.3")})
	third := rulesOf(services[:1], []*discoveryv1.EndpointSlice{datagrams})
	if err := h.apply(t.Context(), testConfig.update(first, second)); err != nil {
		t.Fatal(err)
	}
	if got := h.call("tcp", "10.96.0.12:80"); got != "10.244.1.3:8080" {
		t.Errorf("a service that has got an endpoint: %s", got)
	}
	if err := h.apply(t.Context(), testConfig.update(second, third)); err != nil {
		t.Fatal(err)
	}
	if got := h.call("tcp", "10.96.0.10:80"); got != "refused" {
		t.Errorf("a service that has lost its endpoints: %s", got)
	}
}

// A client that always sends from the same port is led to another pod when its own is gone, and only then.
func TestTheKernelForgetsUDPFlowsToPodsThatAreGone(t *testing.T) {
	h := newHost(t, "10.244.1.2", "10.244.1.3")
	for _, pod := range []string{"10.244.1.2", "10.244.1.3"} {
		h.serve(pod + ":8080")
	}
	web := service("web", "10.96.0.10", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })
	leadTo := func(p *Proxy, addresses ...string) {
		t.Helper()
		ends := slice("web", 8080, addresses...)
		ends.Ports[0].Protocol = new(corev1.ProtocolUDP)
		wanted := rulesOf([]*corev1.Service{web}, []*discoveryv1.EndpointSlice{ends})
		if err := h.apply(t.Context(), testConfig.update(p.applied, wanted)); err != nil {
			t.Fatal(err)
		}
		h.inside(func() { p.forget(p.applied, wanted) })
		p.applied = wanted
	}
	p := &Proxy{config: testConfig}
	p.config.ForgetUDP = network.ForgetUDP
	leadTo(p, "10.244.1.2")
	var client net.Conn
	h.inside(func() {
		var err error
		if client, err = net.Dial("udp", "10.96.0.10:80"); err != nil {
			t.Error(err)
		}
	})
	defer client.Close()
	ask := func() string {
		client.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(client, "hello")
		buffer := make([]byte, 64)
		n, err := client.Read(buffer)
		if err != nil {
			return reasonOf(err)
		}
		return string(buffer[:n])
	}
	for _, step := range []struct {
		pods []string
		want string
	}{
		{[]string{"10.244.1.2"}, "10.244.1.2:8080"},
		{[]string{"10.244.1.2", "10.244.1.3"}, "10.244.1.2:8080"},
		{[]string{"10.244.1.3"}, "10.244.1.3:8080"},
		{[]string{"10.244.1.2", "10.244.1.3"}, "10.244.1.3:8080"},
	} {
		leadTo(p, step.pods...)
		if got := ask(); got != step.want {
			t.Errorf("with the pods %v it is %s that answers, want %s", step.pods, got, step.want)
		}
	}
}

// many returns services with three endpoints each.
func many(count int) (services []*corev1.Service, slices []*discoveryv1.EndpointSlice) {
	for i := range count {
		name := fmt.Sprint("service-", i)
		services = append(services, service(name, fmt.Sprintf("10.96.%d.%d", 1+i/250, 1+i%250)))
		slices = append(slices, slice(name, 8080, fmt.Sprintf("10.244.1.%d", i%250), fmt.Sprintf("10.244.2.%d", i%250), fmt.Sprintf("10.244.3.%d", i%250)))
	}
	return services, slices
}

// BenchmarkServices5000 renders and applies all, and then one change among them.
func BenchmarkServices5000(b *testing.B) {
	h := newHost(b)
	services, slices := many(5000)
	all := rulesOf(services, slices)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if err := h.apply(b.Context(), testConfig.update(nil, rulesOf(services, slices))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			slices[77].Endpoints[0].Addresses[0] = fmt.Sprintf("10.244.4.%d", i%250)
			changed := rulesOf(services, slices)
			if err := h.apply(b.Context(), testConfig.update(all, changed)); err != nil {
				b.Fatal(err)
			}
			all = changed
		}
	})
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			if script := testConfig.update(all, rulesOf(services, slices)); script != "" {
				b.Fatal(script)
			}
		}
	})
}

// BenchmarkConnection opens connections through a service, among few services and among many.
func BenchmarkConnection(b *testing.B) {
	for _, count := range []int{1, 5000} {
		b.Run(fmt.Sprintf("services=%d", count), func(b *testing.B) {
			h := newHost(b, "10.244.1.77", "10.244.2.77", "10.244.3.77")
			for _, pod := range []string{"10.244.1.77", "10.244.2.77", "10.244.3.77"} {
				h.serve(pod + ":8080")
			}
			services, slices := many(5000)
			services, slices = services[77:min(77+count, 5000)], slices[77:min(77+count, 5000)]
			if err := h.apply(b.Context(), testConfig.update(nil, rulesOf(services, slices))); err != nil {
				b.Fatal(err)
			}
			h.inside(func() {
				var buffer bytes.Buffer
				for b.Loop() {
					c, err := net.Dial("tcp", services[0].Spec.ClusterIP+":80")
					if err != nil {
						b.Error(err)
						return
					}
					buffer.Reset()
					buffer.ReadFrom(c)
					c.Close()
				}
			})
		})
	}
}
