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
	n := names{domain: {authority(domain), &dns.NS{Hdr: header(domain, dns.TypeNS), Ns: "ns.dns." + domain}}}
	n.addAddress("ns.dns."+domain, server)
	n.add(&dns.TXT{Hdr: header("dns-version."+domain, dns.TypeTXT), Txt: []string{"1.1.0"}}) // of the specification
	n.exists("svc." + domain)
	for _, service := range services {
		name := fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, domain)
		n.exists(name)
		switch ip := service.Spec.ClusterIP; {
		case service.Spec.Type == corev1.ServiceTypeExternalName:
			n.add(&dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: dns.Fqdn(service.Spec.ExternalName)})
		case ip == corev1.ClusterIPNone:
			n.addHeadless(name, service, ofService[control.Key(service)])
		default:
			n.addAddress(name, net.ParseIP(ip))
			n.addReverse(ip, name)
			for _, port := range service.Spec.Ports {
				n.addPort(name, port, name, port.Port)
			}
		}
	}
	return n
}

// addHeadless adds the endpoints that are ready, each by its hostname or, if it has none, by its address: "10-244-1-2".
func (n names) addHeadless(name string, service *corev1.Service, all []*discoveryv1.EndpointSlice) {
	for _, port := range service.Spec.Ports {
		n.exists(portName(name, port))
	}
	for _, slice := range all {
		for _, endpoint := range slice.Endpoints {
			address := endpoint.Addresses[0]
			ip := net.ParseIP(address).To4()
			if ip == nil || !ptr.Deref(endpoint.Conditions.Ready, true) {
				continue
			}
			pod := cmp.Or(ptr.Deref(endpoint.Hostname, ""), strings.ReplaceAll(address, ".", "-")) + "." + name
			n.addAddress(name, ip)
			n.addAddress(pod, ip)
			n.addReverse(address, pod)
			for _, port := range service.Spec.Ports {
				for _, p := range slice.Ports {
					if p.Port != nil && ptr.Deref(p.Name, "") == port.Name {
						n.addPort(name, port, pod, *p.Port)
					}
				}
			}
		}
	}
}

// addPort says where a port of a service, by its name and protocol, is to be found.
func (n names) addPort(service string, port corev1.ServicePort, target string, number int32) {
	if port.Name != "" {
		n.add(&dns.SRV{Hdr: header(portName(service, port), dns.TypeSRV), Target: target, Port: uint16(number), Weight: 100})
	}
}

func portName(service string, port corev1.ServicePort) string {
	if port.Name == "" {
		return service
	}
	return strings.ToLower(fmt.Sprintf("_%s._%s.%s", port.Name, port.Protocol, service))
}

func (n names) addAddress(name string, ip net.IP) { n.add(&dns.A{Hdr: header(name, dns.TypeA), A: ip}) }

// addReverse says which name an address has. The names above that one are not ours.
func (n names) addReverse(address, name string) {
	if reversed, err := dns.ReverseAddr(address); err == nil {
		n[reversed] = append(n[reversed], &dns.PTR{Hdr: header(reversed, dns.TypePTR), Ptr: name})
	}
}

func (n names) add(record dns.RR) {
	name := record.Header().Name
	n.exists(name)
	n[name] = append(n[name], record)
}

// exists makes a name exist, and with it those above, up to the domain, which does already.
func (n names) exists(name string) {
	for _, known := n[name]; !known; _, known = n[name] {
		n[name] = nil
		_, name, _ = strings.Cut(name, ".")
	}
}

// authority lets others keep that there is no such name, or no such record.
func authority(domain string) dns.RR {
	return &dns.SOA{Hdr: header(domain, dns.TypeSOA), Ns: "ns.dns." + domain, Mbox: "hostmaster." + domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

func header(name string, qtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: ttl}
}
