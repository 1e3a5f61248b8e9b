package dns

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"workshop/mini-k8s/control"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// ttl is for how long an answer may be kept, in seconds: a service's endpoints change within seconds.
const ttl = 5

// records are what is known of a name for a type of question: perhaps nothing, of a name that exists.
type records struct{ answer, extra []dns.RR }

// lookUp answers a question about a name of the cluster: with nil if there is no such name. ours is false for all names
// that are not the cluster's.
func (s *Server) lookUp(q dns.Question) (known *records, ours bool) {
	name := strings.ToLower(q.Name) // the answer has the letters, large and small, of the question
	if address := addressIn(name); address != "" {
		return s.reverse(q, address)
	}
	if !dns.IsSubDomain(s.zone, name) {
		return nil, false
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(name, s.zone))
	switch n := len(labels); {
	case n == 0:
		return s.apex(q), true
	case labels[n-1] != "svc":
		return s.aside(q, strings.Join(labels, ".")), true
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
	case len(inside) == 1 && inside[0][0] == '_':
		q.Qtype = dns.TypeNone // nothing but what is below
		return s.ports(q, service, "", inside[0][1:]), true
	case len(inside) == 1:
		return s.pod(q, service, inside[0]), true
	case len(inside) == 2 && inside[0][0] == '_' && inside[0] != "_" && inside[1][0] == '_':
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

// aside answers for the names that are of no service: the version of the specification, and this server.
func (s *Server) aside(q dns.Question, name string) *records {
	switch name {
	case "dns-version":
		return only(q, dns.TypeTXT, &dns.TXT{Txt: []string{"1.1.0"}})
	case "ns.dns":
		return only(q, dns.TypeA, &dns.A{A: s.udp.LocalAddr().(*net.UDPAddr).IP})
	case "dns":
		return &records{}
	}
	return nil
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
// ExternalName the other name.
func (s *Server) service(q dns.Question, service *corev1.Service) *records {
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return &records{answer: []dns.RR{&dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: dns.Fqdn(service.Spec.ExternalName)}}}
	case q.Qtype == dns.TypeSRV && len(service.Spec.Ports) > 0:
		return s.ports(q, service, "", "")
	case q.Qtype != dns.TypeA:
		return &records{}
	case service.Spec.ClusterIP != corev1.ClusterIPNone:
		return only(q, dns.TypeA, &dns.A{A: net.ParseIP(service.Spec.ClusterIP)})
	}
	known := &records{}
	for _, e := range s.endpoints(service) {
		known.answer = append(known.answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: e.ip})
	}
	rand.Shuffle(len(known.answer), func(i, j int) { known.answer[i], known.answer[j] = known.answer[j], known.answer[i] })
	return known
}

// pod answers for an endpoint of a headless service, by its hostname or, if it has none, by its address.
func (s *Server) pod(q dns.Question, service *corev1.Service, hostname string) *records {
	var known *records
	for _, e := range s.endpoints(service) {
		if e.hostname != hostname {
			continue
		}
		if known == nil {
			known = &records{}
		}
		if q.Qtype == dns.TypeA {
			known.answer = append(known.answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: e.ip})
		}
	}
	return known
}

// ports answers where a port of a service, by its name and protocol, or all of them, are to be found: at the service's
// address, or at each endpoint of a headless one. The addresses come along.
func (s *Server) ports(q dns.Question, service *corev1.Service, name, protocol string) *records {
	var known *records
	add := func(target string, ip net.IP, port int32) {
		if q.Qtype == dns.TypeSRV {
			known.answer = append(known.answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Target: target, Port: uint16(port), Weight: 100})
			known.extra = append(known.extra, &dns.A{Hdr: header(target, dns.TypeA), A: ip})
		}
	}
	full := fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, s.zone)
	for _, port := range service.Spec.Ports {
		if name != "" && name != port.Name || protocol != "" && !strings.EqualFold(string(port.Protocol), protocol) {
			continue
		}
		if known == nil {
			known = &records{}
		}
		if service.Spec.ClusterIP != corev1.ClusterIPNone {
			add(full, net.ParseIP(service.Spec.ClusterIP), port.Port)
			continue
		}
		for _, e := range s.endpoints(service) {
			for _, p := range e.ports {
				if p.Port != nil && ptr.Deref(p.Name, "") == port.Name {
					add(e.hostname+"."+full, e.ip, *p.Port)
				}
			}
		}
	}
	return known
}

// endpoint is one of a headless service that is ready.
type endpoint struct {
	hostname string // within the service
	ip       net.IP
	ports    []discoveryv1.EndpointPort
}

func (s *Server) endpoints(service *corev1.Service) (all []endpoint) {
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		return nil
	}
	for _, slice := range s.slices.ByIndex("service", control.Key(service)) {
		for _, e := range slice.Endpoints {
			if ip := net.ParseIP(e.Addresses[0]).To4(); ip != nil && ptr.Deref(e.Conditions.Ready, true) {
				all = append(all, endpoint{hostnameOf(e), ip, slice.Ports})
			}
		}
	}
	return all
}

// hostnameOf returns the label of an endpoint within its service: 10.244.1.2 without a hostname is "10-244-1-2".
func hostnameOf(endpoint discoveryv1.Endpoint) string {
	return cmp.Or(ptr.Deref(endpoint.Hostname, ""), strings.ReplaceAll(endpoint.Addresses[0], ".", "-"))
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
func (s *Server) reverse(q dns.Question, address string) (known *records, ours bool) {
	for _, service := range s.services.ByIndex("address", address) {
		return only(q, dns.TypePTR, &dns.PTR{Ptr: fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, s.zone)}), true
	}
	known = &records{}
	for _, slice := range s.slices.ByIndex("address", address) {
		if _, headless := slice.Labels[corev1.IsHeadlessService]; !headless {
			continue
		}
		ours = true
		for _, e := range slice.Endpoints {
			if e.Addresses[0] == address && q.Qtype == dns.TypePTR {
				known.answer = append(known.answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: fmt.Sprintf("%s.%s.%s.svc.%s",
					hostnameOf(e), slice.Labels[discoveryv1.LabelServiceName], slice.Namespace, s.zone)})
			}
		}
	}
	return known, ours
}

// only returns the record for a question of its type, and nothing for another.
func only(q dns.Question, qtype uint16, record dns.RR) *records {
	*record.Header() = header(q.Name, qtype)
	if q.Qtype != qtype {
		return &records{}
	}
	return &records{answer: []dns.RR{record}}
}

func header(name string, qtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}
