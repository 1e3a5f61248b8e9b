// Package dns answers the names of services, on every node, out of memory: a pod asks the server of its own node, and
// gets an answer also while the master is away. Names that are not the cluster's are asked further up.
//
// Invariants:
//  1. What the server says of the cluster's names is what it last heard of services and EndpointSlices; it never waits
//     for anybody to say it.
//  2. A name that exists has NOERROR for every type, with an empty answer if need be: a client that asks for IPv6 first
//     must not hear that the name does not exist. What does not exist is NXDOMAIN, with the SOA that lets it be cached.
//  3. A name of the cluster is never asked further up, and no other name is ever answered from here.
//
// In Kubernetes: CoreDNS, with its plug-ins kubernetes, forward and cache, as a Deployment behind a Service. The names
// are those of the specification "Kubernetes DNS-Based Service Discovery", version 1.1.0.
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"workshop/mini-k8s/control"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/ptr"
)

const (
	// maxAliases is how many names may lead to one another.
	maxAliases = 8
	// gather is how long a change waits for others that come with it.
	gather = 10 * time.Millisecond
)

// Config of a server.
type Config struct {
	Domain   string   // of the cluster: "cluster.local"
	Listen   string   // address and port, UDP and TCP: "10.244.1.1:53"
	Upstream []string // addresses and ports of who is asked for other names, the first first; see Upstreams
}

// Server answers. It is safe for concurrent use.
type Server struct {
	domain   string // as DNS writes it: "cluster.local."
	services *control.Objects[*corev1.Service]
	slices   *control.Objects[*discoveryv1.EndpointSlice]
	loop     *control.Loop
	names    atomic.Pointer[names] // nil until all are known
	upstream *upstream
	udp      net.PacketConn
	tcp      net.Listener
}

// New opens the port; nothing is answered until Run, which closes it.
func New(deps control.Deps, config Config) (*Server, error) {
	s := &Server{domain: dns.CanonicalName(config.Domain), upstream: &upstream{config.Upstream, cache.NewLRUExpireCache(most)},
		services: control.Of[*corev1.Service](deps), slices: control.Of[*discoveryv1.EndpointSlice](deps)}
	s.loop = control.NewLoop(deps.As("DNS"), 1, s.learn)
	control.Subscribe(s.loop, s.services, func(_, _ *corev1.Service) { s.loop.AddAfter(s.domain, gather) })
	control.Subscribe(s.loop, s.slices, func(_, _ *discoveryv1.EndpointSlice) { s.loop.AddAfter(s.domain, gather) })
	s.loop.Add(s.domain)
	var err error
	if s.udp, err = net.ListenPacket("udp", config.Listen); err != nil {
		return nil, fmt.Errorf("open the DNS server's port: %w", err)
	}
	// With port 0, for tests, both protocols have the port that the first has got.
	if s.tcp, err = net.Listen("tcp", s.Address()); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("open the DNS server's port: %w", err)
	}
	return s, nil
}

// Address returns where the server listens.
func (s *Server) Address() string { return s.udp.LocalAddr().String() }

// Run answers until the context ends. Until all names of the cluster are known it answers SERVFAIL for them, on which clients
// ask again.
func (s *Server) Run(ctx context.Context) error {
	return control.Run(ctx,
		control.Component{Name: "names", Run: s.loop.Run},
		control.Component{Name: "DNS over UDP", Run: serve(&dns.Server{PacketConn: s.udp, Handler: s, UDPSize: dns.DefaultMsgSize})},
		control.Component{Name: "DNS over TCP", Run: serve(&dns.Server{Listener: s.tcp, Handler: s})},
	)
}

// learn makes the names anew.
func (s *Server) learn(context.Context, string) error {
	now := namesOf(s.domain, s.udp.LocalAddr().(*net.UDPAddr).IP, s.services.List(), s.slices.List())
	s.names.Store(&now)
	return nil
}

func serve(server *dns.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		server.NotifyStartedFunc = func() { // one that has not started cannot be shut down
			context.AfterFunc(ctx, func() { server.Shutdown() })
		}
		if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		return ctx.Err()
	}
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	answer := s.answer(r)
	answer.Truncate(sizeFor(r, w.RemoteAddr().Network()))
	if err := w.WriteMsg(answer); err != nil {
		slog.Debug("no answer to a DNS client", "client", w.RemoteAddr(), "reason", err)
	}
}

// sizeFor returns how large an answer may be, in bytes: over UDP as the client says it can take (EDNS0, RFC 6891).
func sizeFor(r *dns.Msg, network string) int {
	if network == "tcp" {
		return dns.MaxMsgSize
	}
	if options := r.IsEdns0(); options != nil {
		return max(dns.MinMsgSize, int(options.UDPSize()))
	}
	return dns.MinMsgSize
}

// answer returns the answer to what may be a question.
func (s *Server) answer(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable, m.Compress = true, true
	options := r.IsEdns0()
	if options != nil {
		m.SetEdns0(dns.DefaultMsgSize, options.Do())
	}
	switch {
	case r.Opcode != dns.OpcodeQuery || len(r.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	case options != nil && options.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case r.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
	default:
		s.fill(m)
	}
	return m
}

// fill answers the question in m. An alias is followed to its end, for few clients ask on; the end decides whether there
// is such a name (RFC 6604).
func (s *Server) fill(m *dns.Msg) {
	q, known := m.Question[0], ptr.Deref(s.names.Load(), nil)
	for range maxAliases {
		name := strings.ToLower(q.Name)
		records, exists := known[name]
		switch {
		case !exists && !dns.IsSubDomain(s.domain, name):
			further := s.upstream.answer(q)
			m.Rcode, m.Answer, m.Ns = further.Rcode, append(m.Answer, further.Answer...), further.Ns
			m.Extra = append(m.Extra, further.Extra...)
			return
		case known == nil:
			m.Rcode = dns.RcodeServerFailure
			return
		case !exists:
			m.Rcode = dns.RcodeNameError
		}
		m.Authoritative = true
		found := only(records, q)
		if len(found) == 0 {
			m.Ns = only(known[s.domain], dns.Question{Name: s.domain, Qtype: dns.TypeSOA})
			return
		}
		m.Answer = append(m.Answer, found...)
		for _, record := range found {
			if port, is := record.(*dns.SRV); is { // the address comes along
				m.Extra = append(m.Extra, known[port.Target]...)
			}
		}
		alias, is := found[0].(*dns.CNAME)
		if !is || q.Qtype == dns.TypeCNAME {
			return
		}
		q.Name = alias.Target
	}
	m.Rcode = dns.RcodeServerFailure // they lead in a circle
}

// only returns copies of the records that answer a question, in any order. They have the letters, large and small, of the
// question.
func only(records []dns.RR, q dns.Question) (found []dns.RR) {
	for _, record := range records {
		if is := record.Header().Rrtype; is == q.Qtype || is == dns.TypeCNAME {
			record = dns.Copy(record)
			record.Header().Name = q.Name
			found = append(found, record)
		}
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found
}
