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
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	"workshop/mini-k8s/control"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxAliases is how many names may lead to one another.
const maxAliases = 8

// Config of a server.
type Config struct {
	Domain   string   // of the cluster: "cluster.local"
	Listen   string   // address and port, UDP and TCP: "10.244.1.1:53"
	Upstream []string // addresses and ports of who is asked for other names, the first first; see Upstreams
}

// Server answers. It is safe for concurrent use.
type Server struct {
	config   Config
	zone     string // the domain as DNS writes it: "cluster.local."
	services *control.Objects[*corev1.Service]
	slices   *control.Objects[*discoveryv1.EndpointSlice]
	upstream *upstream
	udp      net.PacketConn
	tcp      net.Listener
	synced   atomic.Bool // all names are known
}

// New opens the port; nothing is answered until Run, which closes it.
func New(deps control.Deps, config Config) (*Server, error) {
	s := &Server{
		config: config, zone: dns.Fqdn(strings.ToLower(config.Domain)), upstream: newUpstream(config.Upstream),
		services: control.Of[*corev1.Service](deps), slices: control.Of[*discoveryv1.EndpointSlice](deps),
	}
	s.services.Index("namespace", func(service *corev1.Service) []string { return []string{service.Namespace} })
	s.services.Index("address", func(service *corev1.Service) []string { return []string{service.Spec.ClusterIP} })
	s.slices.Index("service", func(slice *discoveryv1.EndpointSlice) []string {
		return []string{control.JoinKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])}
	})
	s.slices.Index("address", addresses)
	var err error
	if s.udp, err = net.ListenPacket("udp", config.Listen); err != nil {
		return nil, fmt.Errorf("open the DNS server's port: %w", err)
	}
	// With port 0, for tests, both protocols have the port that the first has got.
	if s.tcp, err = net.Listen("tcp", s.udp.LocalAddr().String()); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("open the DNS server's port: %w", err)
	}
	return s, nil
}

func addresses(slice *discoveryv1.EndpointSlice) (all []string) {
	for _, endpoint := range slice.Endpoints {
		all = append(all, endpoint.Addresses...)
	}
	return all
}

// Address returns where the server listens.
func (s *Server) Address() string { return s.udp.LocalAddr().String() }

// Run answers until the context ends. Until all names of the cluster are known it answers SERVFAIL for them, on which clients
// ask again.
func (s *Server) Run(ctx context.Context) error {
	servers := []*dns.Server{
		{PacketConn: s.udp, Handler: s, UDPSize: dns.DefaultMsgSize},
		{Listener: s.tcp, Handler: s},
	}
	components := []control.Component{{Name: "names", Run: s.learn}}
	for _, server := range servers {
		components = append(components, control.Component{Name: "DNS", Run: func(ctx context.Context) error {
			return serve(ctx, server)
		}})
	}
	return control.Run(ctx, components...)
}

// learn waits until all names are known.
func (s *Server) learn(ctx context.Context) error {
	if err := errors.Join(s.services.WaitSynced(ctx), s.slices.WaitSynced(ctx)); err != nil {
		return err
	}
	s.synced.Store(true)
	<-ctx.Done()
	return ctx.Err()
}

func serve(ctx context.Context, server *dns.Server) error {
	server.NotifyStartedFunc = func() { // one that has not started cannot be shut down
		context.AfterFunc(ctx, func() { server.Shutdown() })
	}
	if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve DNS at %s: %w", server.Addr, err)
	}
	return ctx.Err()
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
	case r.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(r.Question) != 1:
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
	q := m.Question[0]
	for range maxAliases {
		known, ours := s.lookUp(q)
		switch {
		case !ours:
			further := s.upstream.answer(q, m)
			m.Rcode, m.Answer, m.Ns = further.Rcode, append(m.Answer, further.Answer...), further.Ns
			m.Extra = append(m.Extra, further.Extra...)
			return
		case !s.synced.Load():
			m.Rcode = dns.RcodeServerFailure
			return
		}
		m.Authoritative = true
		if known == nil {
			m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{s.soa()}
			return
		}
		if q.Qtype == dns.TypeANY { // nobody needs all that there is (RFC 8482)
			known = &records{answer: []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}}
		}
		if len(known.answer) == 0 {
			m.Ns = []dns.RR{s.soa()}
			return
		}
		m.Answer, m.Extra = append(m.Answer, known.answer...), append(m.Extra, known.extra...)
		alias, is := known.answer[0].(*dns.CNAME)
		if !is || q.Qtype == dns.TypeCNAME {
			return
		}
		q.Name = alias.Target
	}
	m.Rcode = dns.RcodeServerFailure // they lead in a circle
}
