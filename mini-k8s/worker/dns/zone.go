package dns

// The names of the cluster, as a pure function of services and EndpointSlices to what is known of each name.

import (
	"cmp"
	"fmt"
	"net"
	"strings"

	"workshop/mini-k8s/control"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// ttl is for how long an answer may be kept, in seconds: a service's endpoints change within seconds.
const ttl = 5

// names are all that there are, with their records: none, of a name that only has others below it.
type names map[string][]dns.RR

// namesOf returns the names in a domain, as DNS writes it, whose server has the address.
func namesOf(domain string, server net.IP, services []*corev1.Service, all []*discoveryv1.EndpointSlice) names {
	ofService := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range all {
		key := control.JoinKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
		ofService[key] = append(ofService[key], slice)
	}
	n := names{}
	n.add(domain, dns.TypeSOA, &dns.SOA{Ns: "ns.dns." + domain, Mbox: "hostmaster." + domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl})
	n.add(domain, dns.TypeNS, &dns.NS{Ns: "ns.dns." + domain})
	n.exists("dns." + domain)
	n.add("ns.dns."+domain, dns.TypeA, &dns.A{A: server})
	n.add("dns-version."+domain, dns.TypeTXT, &dns.TXT{Txt: []string{"1.1.0"}}) // of the specification
	n.exists("svc." + domain)
	for _, service := range services {
		name := fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, domain)
		n.addService(name, service, ofService[control.Key(service)])
	}
	return n
}

func (n names) addService(name string, service *corev1.Service, all []*discoveryv1.EndpointSlice) {
	n.exists(name)
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		n.add(name, dns.TypeCNAME, &dns.CNAME{Target: dns.Fqdn(service.Spec.ExternalName)})
		return
	}
	ends := endsOf(name, service, all)
	for _, end := range ends {
		n.add(name, dns.TypeA, &dns.A{A: end.ip})
		if end.name != name {
			n.add(end.name, dns.TypeA, &dns.A{A: end.ip})
		}
		if reversed, err := dns.ReverseAddr(end.ip.String()); err == nil {
			n.add(reversed, dns.TypePTR, &dns.PTR{Ptr: end.name})
		}
	}
	for _, port := range service.Spec.Ports {
		if port.Name == "" {
			continue
		}
		named := strings.ToLower(fmt.Sprintf("_%s._%s.%s", port.Name, port.Protocol, name))
		n.exists(named) // also while it is nowhere
		for _, end := range ends {
			if number, has := end.ports[port.Name]; has {
				n.add(named, dns.TypeSRV, &dns.SRV{Target: end.name, Port: uint16(number), Weight: 100})
			}
		}
	}
}

// end is where a service leads: to its own address or, if it is headless, to its endpoints.
type end struct {
	name  string
	ip    net.IP
	ports map[string]int32 // the numbers by name
}

// endsOf returns one end for a service that has an address. An endpoint of a headless one has the name of its hostname or, if
// it has none, of its address: "10-244-1-2".
func endsOf(name string, service *corev1.Service, all []*discoveryv1.EndpointSlice) (ends []end) {
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		ports := map[string]int32{}
		for _, port := range service.Spec.Ports {
			ports[port.Name] = port.Port
		}
		return []end{{name, net.ParseIP(service.Spec.ClusterIP), ports}}
	}
	for _, slice := range all {
		ports := map[string]int32{}
		for _, port := range slice.Ports {
			ports[ptr.Deref(port.Name, "")] = ptr.Deref(port.Port, 0)
		}
		for _, endpoint := range slice.Endpoints {
			address := endpoint.Addresses[0]
			if ip := net.ParseIP(address).To4(); ip != nil && ptr.Deref(endpoint.Conditions.Ready, true) {
				hostname := cmp.Or(ptr.Deref(endpoint.Hostname, ""), strings.ReplaceAll(address, ".", "-"))
				ends = append(ends, end{hostname + "." + name, ip, ports})
			}
		}
	}
	return ends
}

func (n names) add(name string, qtype uint16, record dns.RR) {
	*record.Header() = dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
	n[name] = append(n[name], record)
}

// exists makes a name exist, and with it those above, up to the domain, which does already.
func (n names) exists(name string) {
	for _, known := n[name]; !known; _, known = n[name] {
		n[name] = nil
		_, name, _ = strings.Cut(name, ".")
	}
}
