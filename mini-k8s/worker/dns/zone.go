package dns

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"workshop/mini-k8s/control"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ttl is for how long an answer may be kept, in seconds: a service's endpoints change within seconds.
const ttl = 5

// records are what is known of a name for a type of question: perhaps nothing, of a name that exists.
type records struct{ answer, extra []dns.RR }

// lookUp answers a question about a name of the cluster: with nil if there is no such name. ours is false for all names
// that are not the cluster's.
func (s *Server) lookUp(q dns.Question) (known *records, ours bool) {
	if address := addressIn(q.Name); address != "" {
		return s.reverse(q, address)
	}
	if !dns.IsSubDomain(s.zone, q.Name) {
		return nil, false
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(q.Name, s.zone))
	switch n := len(labels); {
	case n == 0:
		return s.apex(q), true
	case n == 1 && labels[0] == "dns-version":
		return only(q, dns.TypeTXT, &dns.TXT{Txt: []string{"1.1.0"}}), true
	case labels[n-1] != "svc":
		return nil, true
	case n == 1:
		return &records{}, true
	case n == 2:
		return s.namespace(labels[0]), true
	}
	service, found := s.services.Get(control.JoinKey(labels[len(labels)-2], labels[len(labels)-3]))
	if !found {
		return nil, true
	}
	switch inside := labels[:len(labels)-3]; {
	case len(inside) == 0:
		return s.service(q, service), true
	case len(inside) == 1:
		return s.pod(q, service, inside[0]), true
	case len(inside) == 2 && strings.HasPrefix(inside[0], "_") && strings.HasPrefix(inside[1], "_"):
		return s.ports(q, service, inside[0][1:], inside[1][1:]), true
	}
	return nil, true
}

func (s *Server) apex(q dns.Question) *records {
	switch q.Qtype {
	case dns.TypeSOA:
		return &records{answer: []dns.RR{s.soa()}}
	case dns.TypeNS:
		return only(q, dns.TypeNS, &dns.NS{Ns: "ns.dns." + s.zone})
	}
	return &records{}
}

func (s *Server) soa() dns.RR {
	return &dns.SOA{Hdr: header(s.zone, dns.TypeSOA), Ns: "ns.dns." + s.zone, Mbox: "hostmaster." + s.zone,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

// namespace says whether a namespace has services: then its own name exists, with nothing under it but them.
func (s *Server) namespace(name string) *records {
	if len(s.services.ByIndex("namespace", name)) == 0 {
		return nil
	}
	return &records{}
}

// service answers for a service itself: its address; of a headless one those of its endpoints, in any order; and of an
// ExternalName the other name, with what that leads to if the client wants it.
func (s *Server) service(q dns.Question, service *corev1.Service) *records {
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		alias := &dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: dns.Fqdn(service.Spec.ExternalName)}
		return &records{answer: append([]dns.RR{alias}, s.follow(alias.Target, q.Qtype)...)}
	case q.Qtype == dns.TypeSRV:
		return s.ports(q, service, "", "")
	case service.Spec.ClusterIP != corev1.ClusterIPNone:
		return only(q, dns.TypeA, &dns.A{A: net.ParseIP(service.Spec.ClusterIP)})
	}
	known := &records{}
	s.endpoints(service, func(_ *discoveryv1.EndpointSlice, _ discoveryv1.Endpoint, address string) {
		if q.Qtype == dns.TypeA {
			known.answer = append(known.answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: net.ParseIP(address)})
		}
	})
	rand.Shuffle(len(known.answer), func(i, j int) { known.answer[i], known.answer[j] = known.answer[j], known.answer[i] })
	return known
}

// follow returns what a name leads to: one of the cluster, or one further up.
func (s *Server) follow(name string, qtype uint16) []dns.RR {
	question := new(dns.Msg).SetQuestion(name, qtype)
	if qtype == dns.TypeCNAME || dns.IsSubDomain(s.zone, name) {
		return nil // a client that is led to another name of the cluster asks for it
	}
	return s.upstream.answer(question).Answer
}

// pod answers for an endpoint of a headless service, by its hostname or, if it has none, by its address.
func (s *Server) pod(q dns.Question, service *corev1.Service, hostname string) *records {
	var known *records
	s.endpoints(service, func(_ *discoveryv1.EndpointSlice, endpoint discoveryv1.Endpoint, address string) {
		if service.Spec.ClusterIP != corev1.ClusterIPNone || hostnameOf(endpoint, address) != hostname {
			return
		}
		if known == nil {
			known = &records{}
		}
		if q.Qtype == dns.TypeA {
			known.answer = append(known.answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: net.ParseIP(address)})
		}
	})
	return known
}

// ports answers where a port of a service, by its name and protocol, or all of them, are to be found: at the service's
// address, or at each endpoint of a headless one. The addresses come along.
func (s *Server) ports(q dns.Question, service *corev1.Service, name, protocol string) *records {
	var known *records
	add := func(target, address string, port int32) {
		if known == nil {
			known = &records{}
		}
		if q.Qtype == dns.TypeSRV {
			known.answer = append(known.answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Target: target, Port: uint16(port), Weight: 100})
			known.extra = append(known.extra, &dns.A{Hdr: header(target, dns.TypeA), A: net.ParseIP(address)})
		}
	}
	asked := func(portName string, portProtocol corev1.Protocol) bool {
		return name == "" && protocol == "" || portName == name && name != "" && strings.EqualFold(string(portProtocol), protocol)
	}
	full := fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, s.zone)
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		for _, port := range service.Spec.Ports {
			if asked(port.Name, port.Protocol) {
				add(full, service.Spec.ClusterIP, port.Port)
			}
		}
		return known
	}
	s.endpoints(service, func(slice *discoveryv1.EndpointSlice, endpoint discoveryv1.Endpoint, address string) {
		for _, port := range slice.Ports {
			if port.Port != nil && port.Name != nil && port.Protocol != nil && asked(*port.Name, *port.Protocol) {
				add(hostnameOf(endpoint, address)+"."+full, address, *port.Port)
			}
		}
	})
	return known
}

// endpoints calls a function for each ready endpoint of a service.
func (s *Server) endpoints(service *corev1.Service, do func(*discoveryv1.EndpointSlice, discoveryv1.Endpoint, string)) {
	for _, slice := range s.slices.ByIndex("service", control.Key(service)) {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				do(slice, endpoint, endpoint.Addresses[0])
			}
		}
	}
}

// hostnameOf returns the label of an endpoint within its service: 10.244.1.2 without a hostname is "10-244-1-2".
func hostnameOf(endpoint discoveryv1.Endpoint, address string) string {
	if endpoint.Hostname != nil && *endpoint.Hostname != "" {
		return *endpoint.Hostname
	}
	return strings.ReplaceAll(address, ".", "-")
}

// addressIn returns the IPv4 address that a name of in-addr.arpa stands for, or "".
func addressIn(name string) string {
	reversed, is := strings.CutSuffix(name, ".in-addr.arpa.")
	if !is {
		return ""
	}
	labels := strings.Split(reversed, ".")
	slices.Reverse(labels)
	if ip := net.ParseIP(strings.Join(labels, ".")); ip != nil {
		return ip.String()
	}
	return ""
}

// reverse answers which name an address has: of a service, or of an endpoint of a headless one.
func (s *Server) reverse(q dns.Question, address string) (*records, bool) {
	for _, service := range s.services.ByIndex("address", address) {
		return only(q, dns.TypePTR, &dns.PTR{Ptr: fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, s.zone)}), true
	}
	known := &records{}
	for _, slice := range s.slices.ByIndex("address", address) {
		if _, headless := slice.Labels[corev1.IsHeadlessService]; !headless || q.Qtype != dns.TypePTR {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Addresses[0] == address {
				known.answer = append(known.answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: fmt.Sprintf("%s.%s.%s.svc.%s",
					hostnameOf(endpoint, address), slice.Labels[discoveryv1.LabelServiceName], slice.Namespace, s.zone)})
			}
		}
	}
	return known, len(known.answer) > 0
}

// only returns the record for a question of its type, and nothing for another.
func only(q dns.Question, qtype uint16, record dns.RR) *records {
	*record.Header() = header(q.Name, qtype)
	if q.Qtype != qtype && q.Qtype != dns.TypeANY {
		return &records{}
	}
	return &records{answer: []dns.RR{record}}
}

func header(name string, qtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}
