package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/master/mastertest"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// newServer returns a DNS server of a cluster with a few services, which has heard of all of them.
func newServer(t testing.TB, upstream ...string) (*Server, *mastertest.Bench) {
	t.Helper()
	return newServerAt(t, "127.0.0.1:0", upstream...)
}

func newServerAt(t testing.TB, listen string, upstream ...string) (*Server, *mastertest.Bench) {
	t.Helper()
	bench := mastertest.New(t)
	create := func(name string, change func(*corev1.Service)) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
		change(s)
		mastertest.Create(t, bench.Client, s)
	}
	create("web", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.10" })
	create("db", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	create("empty", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	create("away", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports = corev1.ServiceTypeExternalName, "example.com", nil
	})
	for name, target := range map[string]string{"alias": "alias2.default.svc.cluster.local", "alias2": "web.default.svc.cluster.local",
		"nowhere": "none.default.svc.cluster.local", "circle": "circle2.default.svc.cluster.local", "circle2": "circle.default.svc.cluster.local"} {
		create(name, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports = corev1.ServiceTypeExternalName, target, nil
		})
	}
	mastertest.Create(t, bench.Client, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db",
			Labels: map[string]string{discoveryv1.LabelServiceName: "db", corev1.IsHeadlessService: ""}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.2"}, Hostname: ptr.To("first")}, {Addresses: []string{"10.244.2.2"}},
			{Addresses: []string{"10.244.2.3"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}}},
	})
	deps := bench.Deps()
	s := again(t, func() (*Server, error) {
		return New(deps, Config{Domain: "cluster.local", Listen: listen, Upstream: upstream})
	})
	bench.Start(s.Run)
	mastertest.Eventually(t, "the server knows all names", func() bool { return s.names.Load() != nil })
	return s, bench
}

// again opens a port for both protocols: the number that is free for the one may be taken for the other.
func again[T any](t testing.TB, open func() (T, error)) T {
	t.Helper()
	for tries := 0; ; tries++ {
		opened, err := open()
		if err == nil {
			return opened
		}
		if !errors.Is(err, syscall.EADDRINUSE) || tries == 20 {
			t.Fatal(err)
		}
	}
}

// ask returns the answer as "rcode: record; record", with the sections authority and additional behind bars.
func ask(t *testing.T, s *Server, network, name string, qtype uint16) string {
	t.Helper()
	c := &dns.Client{Net: network}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), s.Address())
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	text := func(records []dns.RR) string {
		var all []string
		for _, r := range records {
			all = append(all, strings.Join(strings.Fields(strings.TrimPrefix(r.String(), r.Header().String())), " "))
		}
		slices.Sort(all)
		return strings.Join(all, "; ")
	}
	return strings.TrimRight(fmt.Sprintf("%s: %s | %s | %s", dns.RcodeToString[m.Rcode], text(m.Answer), text(m.Ns), text(m.Extra)), " |")
}

const soa = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"

func TestNamesOfTheCluster(t *testing.T) {
	s, _ := newServer(t)
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.default.svc.cluster.local", dns.TypeA, "NOERROR: 10.96.0.10"},
		{"WEB.Default.svc.CLUSTER.local", dns.TypeA, "NOERROR: 10.96.0.10"},
		{"web.default.svc.cluster.local", dns.TypeAAAA, "NOERROR:  | " + soa},
		{"web.default.svc.cluster.local", dns.TypeSRV, "NOERROR:  | " + soa},
		{"_http._tcp.web.default.svc.cluster.local", dns.TypeSRV, "NOERROR: 0 100 80 web.default.svc.cluster.local. |  | 10.96.0.10"},
		{"_http._udp.web.default.svc.cluster.local", dns.TypeSRV, "NXDOMAIN:  | " + soa},
		{"_none._tcp.web.default.svc.cluster.local", dns.TypeSRV, "NXDOMAIN:  | " + soa},
		{"_._tcp.web.default.svc.cluster.local", dns.TypeSRV, "NXDOMAIN:  | " + soa},
		{"_tcp.web.default.svc.cluster.local", dns.TypeSRV, "NOERROR:  | " + soa}, // there is something below it
		{"_udp.web.default.svc.cluster.local", dns.TypeSRV, "NXDOMAIN:  | " + soa},
		{"_http._tcp.web.default.svc.cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"_http._tcp.empty.default.svc.cluster.local", dns.TypeSRV, "NOERROR:  | " + soa},
		{"web.default.svc.cluster.local", dns.TypeANY, "NOERROR:  | " + soa},
		{"none.default.svc.cluster.local", dns.TypeANY, "NXDOMAIN:  | " + soa},
		{`we\.b.default.svc.cluster.local`, dns.TypeA, "NXDOMAIN:  | " + soa},
		{`default/web.default.svc.cluster.local`, dns.TypeA, "NXDOMAIN:  | " + soa},
		{"alias.default.svc.cluster.local", dns.TypeA, "NOERROR: 10.96.0.10; alias2.default.svc.cluster.local.; web.default.svc.cluster.local."},
		{"alias.default.svc.cluster.local", dns.TypeAAAA, "NOERROR: alias2.default.svc.cluster.local.; web.default.svc.cluster.local. | " + soa},
		{"nowhere.default.svc.cluster.local", dns.TypeA, "NXDOMAIN: none.default.svc.cluster.local. | " + soa},
		{"away.default.svc.cluster.local", dns.TypeA, "SERVFAIL: example.com."}, // there is nobody to ask
		{"db.default.svc.cluster.local", dns.TypeA, "NOERROR: 10.244.1.2; 10.244.2.2"},
		{"db.default.svc.cluster.local", dns.TypeAAAA, "NOERROR:  | " + soa},
		{"first.db.default.svc.cluster.local", dns.TypeA, "NOERROR: 10.244.1.2"},
		{"10-244-2-2.db.default.svc.cluster.local", dns.TypeA, "NOERROR: 10.244.2.2"},
		{"first.web.default.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"_http._tcp.db.default.svc.cluster.local", dns.TypeSRV,
			"NOERROR: 0 100 8080 10-244-2-2.db.default.svc.cluster.local.; 0 100 8080 first.db.default.svc.cluster.local. |  | 10.244.1.2; 10.244.2.2"},
		{"empty.default.svc.cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"none.default.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"none.default.svc.cluster.local", dns.TypeAAAA, "NXDOMAIN:  | " + soa},
		{"web.none.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"default.svc.cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"none.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"svc.cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"example.com.default.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"a.b.c.web.default.svc.cluster.local", dns.TypeA, "NXDOMAIN:  | " + soa},
		{"cluster.local", dns.TypeSOA, "NOERROR: " + soa},
		{"cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"cluster.local", dns.TypeNS, "NOERROR: ns.dns.cluster.local."},
		{"ns.dns.cluster.local", dns.TypeA, "NOERROR: 127.0.0.1"},
		{"dns.cluster.local", dns.TypeA, "NOERROR:  | " + soa},
		{"dns-version.cluster.local", dns.TypeTXT, `NOERROR: "1.1.0"`},
		{"10.0.96.10.in-addr.arpa", dns.TypePTR, "NOERROR: web.default.svc.cluster.local."},
		{"10.0.96.10.in-addr.arpa", dns.TypeA, "NOERROR:  | " + soa},
		{"2.1.244.10.in-addr.arpa", dns.TypePTR, "NOERROR: first.db.default.svc.cluster.local."},
		{"2.1.244.10.in-addr.arpa", dns.TypeA, "NOERROR:  | " + soa},
		{"9.9.244.10.in-addr.arpa", dns.TypePTR, "SERVFAIL:"},
		{"2.2.244.10.in-addr.arpa", dns.TypePTR, "NOERROR: 10-244-2-2.db.default.svc.cluster.local."},
		{"away.default.svc.cluster.local", dns.TypeCNAME, "NOERROR: example.com."},
		{"example.com", dns.TypeA, "SERVFAIL:"}, // there is nobody to ask
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, s, network, row.name, row.qtype); got != strings.TrimRight(row.want, " |") {
				t.Errorf("%s %s %s\n got %s\nwant %s", network, row.name, dns.TypeToString[row.qtype], got, row.want)
			}
		}
	}
}

func TestAnswersHaveTheFormThatTheQuestionAsksFor(t *testing.T) {
	s, _ := newServer(t)
	exchange := func(name string, change func(*dns.Msg)) *dns.Msg {
		t.Helper()
		question := new(dns.Msg).SetQuestion(name, dns.TypeA)
		change(question)
		m, _, err := new(dns.Client).Exchange(question, s.Address())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	// A client that mixes the letters at random takes no answer without them.
	m := exchange("wEb.deFault.svc.cluster.lOcal.", func(*dns.Msg) {})
	if len(m.Answer) != 1 || m.Answer[0].Header().Name != "wEb.deFault.svc.cluster.lOcal." || m.Answer[0].Header().Ttl != ttl || !m.Authoritative || !m.RecursionAvailable || m.IsEdns0() != nil {
		t.Errorf("with small and large letters: %v", m)
	}
	if m := exchange("web.default.svc.cluster.local.", func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }); m.Rcode != dns.RcodeRefused {
		t.Errorf("another class: %v", m)
	}
	if m := exchange("circle.default.svc.cluster.local.", func(*dns.Msg) {}); m.Rcode != dns.RcodeServerFailure || len(m.Answer) != maxAliases {
		t.Errorf("aliases in a circle: %v", m)
	}
	if m := exchange("web.default.svc.cluster.local.", func(q *dns.Msg) { q.SetEdns0(1232, true) }); m.IsEdns0() == nil || !m.IsEdns0().Do() || len(m.Answer) != 1 {
		t.Errorf("with EDNS0: %v", m)
	}
	if m := exchange("web.default.svc.cluster.local.", func(q *dns.Msg) { q.SetEdns0(1232, false).IsEdns0().SetVersion(1) }); m.Rcode != dns.RcodeBadVers || len(m.Answer) != 0 {
		t.Errorf("with a later EDNS: %v", m)
	}
}

// FuzzServeDNS sends the server packets as they come from the network.
func FuzzServeDNS(f *testing.F) {
	s, _ := newServer(f)
	for _, name := range []string{".", "web.default.svc.cluster.local.", "_http._tcp.db.default.svc.cluster.local.", "circle.default.svc.cluster.local.",
		"2.1.244.10.in-addr.arpa.", "away.default.svc.cluster.local.", `a\.b\000.svc.cluster.local.`, "_.x.y.svc.cluster.local.", "dns-version.cluster.local."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypePTR} {
			packet, err := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(512, true).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packet)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		r := new(dns.Msg)
		if r.Unpack(packet) != nil {
			return
		}
		w := &recorder{}
		s.ServeDNS(w, r)
		if w.err != nil || w.answer == nil {
			t.Fatalf("no answer to %v: %v", r, w.err)
		}
		if w.answer.Id != r.Id || !w.answer.Response || len(w.packet) > sizeFor(r, "udp") {
			t.Errorf("%d bytes: %v\nto %v", len(w.packet), w.answer, r)
		}
	})
}

// recorder is a client that remembers the answer.
type recorder struct {
	dns.ResponseWriter
	answer *dns.Msg
	packet []byte
	err    error
}

func (w *recorder) RemoteAddr() net.Addr { return &net.UDPAddr{} }

func (w *recorder) WriteMsg(m *dns.Msg) error {
	w.answer = m
	w.packet, w.err = m.Pack()
	return w.err
}

func TestNamesFollowTheCluster(t *testing.T) {
	s, bench := newServer(t)
	mastertest.Delete[*corev1.Service](t, bench.Client, "default", "web", metav1.DeletePropagationBackground)
	mastertest.Eventually(t, "the name is gone", func() bool {
		return strings.HasPrefix(ask(t, s, "udp", "web.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")
	})
}

func TestAnAnswerThatIsTooLongIsCutAndComesWholeOverTCP(t *testing.T) {
	s, bench := newServer(t)
	grow(t, bench)
	question := new(dns.Msg).SetQuestion("db.default.svc.cluster.local.", dns.TypeA)
	exchange := func(c *dns.Client, question *dns.Msg) *dns.Msg {
		t.Helper()
		m, _, err := c.Exchange(question, s.Address())
		if err != nil {
			t.Fatal(err)
		}
		m.Compress = true // as it came
		return m
	}
	mastertest.Eventually(t, "all addresses are there", func() bool {
		return len(exchange(&dns.Client{Net: "tcp"}, question).Answer) == 202
	})
	short := exchange(&dns.Client{Net: "udp"}, question)
	if !short.Truncated || short.Len() > dns.MinMsgSize || len(short.Answer) == 0 {
		t.Errorf("over UDP: cut %v, %d bytes, %d records", short.Truncated, short.Len(), len(short.Answer))
	}
	more := question.Copy().SetEdns0(1232, false)
	longer := exchange(&dns.Client{Net: "udp", UDPSize: 1232}, more)
	if !longer.Truncated || longer.Len() > 1232 || len(longer.Answer) <= len(short.Answer) || longer.IsEdns0() == nil {
		t.Errorf("with EDNS0: cut %v, %d bytes, %d records", longer.Truncated, longer.Len(), len(longer.Answer))
	}
}

// grow gives the service db 200 endpoints more.
func grow(t *testing.T, bench *mastertest.Bench) {
	t.Helper()
	mastertest.Change(t, bench.Client, "default", "db", func(slice *discoveryv1.EndpointSlice) {
		for i := range 200 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.7.%d", i)}})
		}
	})
}

// elsewhere is a DNS server for the world: it counts what it is asked.
type elsewhere struct {
	address string
	asked   atomic.Int32
}

func newElsewhere(t *testing.T, handler func(e *elsewhere, w dns.ResponseWriter, r *dns.Msg)) *elsewhere {
	t.Helper()
	var udp net.PacketConn
	tcp := again(t, func() (tcp net.Listener, err error) {
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err == nil {
			tcp, err = net.Listen("tcp", udp.LocalAddr().String())
		}
		return tcp, err
	})
	e := &elsewhere{address: udp.LocalAddr().String()}
	serve := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		e.asked.Add(1)
		handler(e, w, r)
	})
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: serve}, {Listener: tcp, Handler: serve}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return e
}

func reply(r *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, record)
	}
	return m
}

func TestOtherNamesAreAskedFurtherUpAndKept(t *testing.T) {
	good := newElsewhere(t, func(_ *elsewhere, w dns.ResponseWriter, r *dns.Msg) {
		switch name := strings.ToLower(r.Question[0].Name); name {
		case "example.com.":
			w.WriteMsg(reply(r, "example.com. 60 IN A 192.0.2.1"))
		case "long.example.com.":
			m := reply(r)
			for i := range 100 {
				m.Answer = append(m.Answer, reply(r, fmt.Sprintf("long.example.com. 60 IN A 192.0.2.%d", i)).Answer...)
			}
			if w.RemoteAddr().Network() == "udp" {
				m.Truncate(dns.MinMsgSize)
			}
			w.WriteMsg(m)
		default:
			m := new(dns.Msg).SetRcode(r, dns.RcodeNameError)
			m.Ns = reply(r, "com. 60 IN SOA a. b. 1 2 3 4 60").Answer
			w.WriteMsg(m)
		}
	})
	refuses := newElsewhere(t, func(_ *elsewhere, w dns.ResponseWriter, r *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeRefused))
	})
	s, _ := newServer(t, refuses.address, good.address)
	for _, name := range []string{"example.com", "EXAMPLE.com", "example.com"} {
		if got := ask(t, s, "udp", name, dns.TypeA); got != "NOERROR: 192.0.2.1" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for range 2 {
		if got := ask(t, s, "udp", "none.com", dns.TypeA); !strings.HasPrefix(got, "NXDOMAIN:") {
			t.Errorf("a name that does not exist: %s", got)
		}
	}
	if refuses.asked.Load() != 2 || good.asked.Load() != 2 {
		t.Errorf("two names, asked %d and %d times", refuses.asked.Load(), good.asked.Load())
	}
	if got := ask(t, s, "udp", "away.default.svc.cluster.local", dns.TypeA); got != "NOERROR: 192.0.2.1; example.com." {
		t.Errorf("an ExternalName: %s", got)
	}
	if got := ask(t, s, "tcp", "long.example.com", dns.TypeA); strings.Count(got, ";") != 99 {
		t.Errorf("an answer that is too long for UDP: %s", got)
	}
}

func TestAServerThatIsSilentIsNotWaitedForForever(t *testing.T) {
	silent := newElsewhere(t, func(*elsewhere, dns.ResponseWriter, *dns.Msg) {})
	good := newElsewhere(t, func(_ *elsewhere, w dns.ResponseWriter, r *dns.Msg) {
		w.WriteMsg(reply(r, "example.com. 60 IN A 192.0.2.1"))
	})
	s, _ := newServer(t, silent.address, good.address)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	m, _, err := (&dns.Client{Timeout: 5 * patience}).ExchangeContext(ctx, new(dns.Msg).SetQuestion("example.com.", dns.TypeA), s.Address())
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("%v %v", m, err)
	}
}

func TestAnswersAreKeptNoLongerThanTheyAreGood(t *testing.T) {
	record := func(text string) []dns.RR { return reply(new(dns.Msg).SetQuestion(".", dns.TypeA), text).Answer }
	for name, row := range map[string]struct {
		answer *dns.Msg
		want   time.Duration
	}{
		"the shortest counts":        {&dns.Msg{Answer: append(record("a. 20 IN A 192.0.2.1"), record("a. 7 IN A 192.0.2.2")...)}, 7 * time.Second},
		"no longer than the longest": {&dns.Msg{Answer: record("a. 3600 IN A 192.0.2.1")}, longest},
		"nothing, as the SOA says":   {&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: record("a. 60 IN SOA a. b. 1 2 3 4 9")}, 9 * time.Second},
		"a failure":                  {&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}, failed},
	} {
		if got := goodFor(row.answer); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

func TestWhatIsNoQuestionIsRefusedAndHurtsNobody(t *testing.T) {
	s, _ := newServer(t)
	c, err := net.Dial("udp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, junk := range [][]byte{{}, {1}, make([]byte, 12), []byte(strings.Repeat("\xff", 600))} {
		c.Write(junk)
	}
	m := new(dns.Msg)
	m.Id = 7
	if got, _, err := new(dns.Client).Exchange(m, s.Address()); err != nil || got.Rcode == dns.RcodeSuccess {
		t.Errorf("no question: %v %v", got, err)
	}
	m.SetUpdate("cluster.local.")
	if got, _, err := new(dns.Client).Exchange(m, s.Address()); err != nil || got.Rcode != dns.RcodeNotImplemented {
		t.Errorf("an update: %v %v", got, err)
	}
	if got := ask(t, s, "udp", "web.default.svc.cluster.local", dns.TypeA); got != "NOERROR: 10.96.0.10" {
		t.Errorf("afterwards: %s", got)
	}
}
