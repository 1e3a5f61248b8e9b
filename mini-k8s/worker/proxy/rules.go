package proxy

// The rules, as a pure function of services and endpoints to the text that nft reads.
//
// A connection to a service is decided by two look-ups: the first, in services or node-services, finds a chain by address,
// protocol and port; the chain knows only how many endpoints there are, rolls a die, and with what that shows finds one
// in endpoints or node-endpoints. The kernel remembers the decision for the rest of the connection.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"
)

// rules say where each entry leads.
type rules map[entry]pods

// entry is what clients send to: an address and port of a service, or, without an address, a port of the machine.
type entry struct {
	protocol string
	address  netip.Addr
	port     uint16
}

// pods are the addresses behind an entry, each once and in order.
type pods struct {
	all    []netip.AddrPort
	sticky bool // the same client always comes to the same one
}

// rulesOf returns what makes the services lead to the endpoints. A service that has none leads nowhere: it is refused.
func rulesOf(services []*corev1.Service, all []*discoveryv1.EndpointSlice) rules {
	ofService := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range all {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		ofService[key] = append(ofService[key], slice)
	}
	r := rules{}
	for _, service := range services {
		address, err := netip.ParseAddr(service.Spec.ClusterIP)
		if err != nil {
			continue // headless, or a name for something elsewhere
		}
		sticky := service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
		for _, port := range service.Spec.Ports {
			behind := pods{targets(ofService[service.Namespace+"/"+service.Name], port), sticky}
			if len(behind.all) == 0 {
				continue
			}
			protocol := strings.ToLower(string(port.Protocol))
			r[entry{protocol, address, uint16(port.Port)}] = behind
			if port.NodePort != 0 {
				r[entry{protocol: protocol, port: uint16(port.NodePort)}] = behind
			}
		}
	}
	return r
}

// targets returns the pods behind a port of a service.
func targets(all []*discoveryv1.EndpointSlice, port corev1.ServicePort) (found []netip.AddrPort) {
	for _, slice := range all {
		for _, p := range slice.Ports {
			if p.Port == nil || ptr.Deref(p.Name, "") != port.Name || ptr.Deref(p.Protocol, corev1.ProtocolTCP) != port.Protocol {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if address, err := netip.ParseAddr(endpoint.Addresses[0]); err == nil && address.Is4() && ptr.Deref(endpoint.Conditions.Ready, true) {
					found = append(found, netip.AddrPortFrom(address, uint16(*p.Port)))
				}
			}
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found)
}

// update returns the script that makes the wanted rules of the old ones, or "" if they are the same. Elements come and go
// one by one; when the chains are others, and at first, the whole table is replaced.
func (c Config) update(old, wanted rules) string {
	chains := wanted.chains()
	if old == nil || !slices.Equal(chains, old.chains()) {
		return fmt.Sprintf(table, c.Table, c.ClusterCIDR, c.ServiceCIDR, strings.Join(chains, "")) + c.script("add", wanted.elements(), nil)
	}
	gone, come := old.without(wanted).elements(), wanted.without(old).elements()
	add := c.script("add", come, gone)
	// Another service may lead to the same pod, and whoever has its address next may be sent to itself just as well.
	delete(gone, "hairpins")
	return c.script("delete", gone, come) + add
}

// without returns the rules that are not the same in the others.
func (r rules) without(others rules) rules {
	rest := maps.Clone(r)
	maps.DeleteFunc(rest, func(e entry, behind pods) bool {
		other, there := others[e]
		return there && other.sticky == behind.sticky && slices.Equal(other.all, behind.all)
	})
	return rest
}

// chains are those that the rules need.
func (r rules) chains() []string {
	all := sets.New[string]()
	for e, behind := range r {
		name, pick := e.chain(behind)
		all.Insert(fmt.Sprintf("\tchain %s { %s; }\n", name, pick))
	}
	return sets.List(all)
}

// chain names the chain that sends a connection to one of so many pods, and returns the rule in it: with a die, or
// always to the same one for the same client.
func (e entry) chain(behind pods) (name, pick string) {
	die, sticky := "numgen random", ""
	if behind.sticky {
		die, sticky = "jhash ip saddr", "-sticky"
	}
	kind, fields, _ := e.words()
	count := len(behind.all)
	return fmt.Sprintf("%spick-%d%s", kind, count, sticky), fmt.Sprintf("dnat to %s . %s mod %d map @%sendpoints", fields, die, count, kind)
}

// words returns how the names of the entry's maps and chains begin, and its key in the maps: of what it consists, and what
// it is.
func (e entry) words() (kind, fields, key string) {
	if !e.address.IsValid() {
		return "node-", "meta l4proto . th dport", fmt.Sprintf("%s . %d", e.protocol, e.port)
	}
	return "", "ip daddr . meta l4proto . th dport", fmt.Sprintf("%s . %s . %d", e.address, e.protocol, e.port)
}

// elements are what the rules are in the maps: the elements by the name of the map.
func (r rules) elements() map[string]sets.Set[string] {
	all := map[string]sets.Set[string]{}
	add := func(name, format string, args ...any) {
		if all[name] == nil {
			all[name] = sets.New[string]()
		}
		all[name].Insert(fmt.Sprintf(format, args...))
	}
	for e, behind := range r {
		kind, _, key := e.words()
		chain, _ := e.chain(behind)
		add(kind+"services", "%s : goto %s", key, chain)
		for i, pod := range behind.all {
			add(kind+"endpoints", "%s . %d : %s . %d", key, i, pod.Addr(), pod.Port())
			add("hairpins", "%[1]s . %[1]s", pod.Addr())
		}
	}
	return all
}

// script adds or deletes the elements, but for those that the others have, too.
func (c Config) script(verb string, elements, others map[string]sets.Set[string]) string {
	var script strings.Builder
	for _, name := range slices.Sorted(maps.Keys(elements)) {
		if list := sets.List(elements[name].Difference(others[name])); len(list) > 0 {
			fmt.Fprintf(&script, "%s element ip %s %s {\n\t%s\n}\n", verb, c.Table, name, strings.Join(list, ",\n\t"))
		}
	}
	return script.String()
}

// table is what does not depend on services: the maps, and where packets meet them. Docker's own chain is at dstnat, 100
// before filter, and would be second. What is still for a service's address behind them is served by nobody. The number
// of an endpoint has no type of its own, and takes that of a die. Creating the table, deleting it and creating it again in
// one transaction replaces it, whether or not it was there, with no moment without it.
const table = `table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	map services { type ipv4_addr . inet_proto . inet_service : verdict; }
	map endpoints { typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport; }
	map node-services { type inet_proto . inet_service : verdict; }
	map node-endpoints { typeof meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport; }
	set hairpins { type ipv4_addr . ipv4_addr; }
%[4]s	chain serve {
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local meta l4proto . th dport vmap @node-services
	}
	chain prerouting {
		type nat hook prerouting priority dstnat - 5; policy accept;
		jump serve
	}
	chain output {
		type nat hook output priority -105; policy accept;
		jump serve
	}
	chain postrouting {
		type nat hook postrouting priority srcnat - 5; policy accept;
		ct status dnat ip saddr != %[2]s ip daddr %[2]s masquerade comment "answers must come back this way"
		ip saddr . ip daddr @hairpins masquerade comment "a pod that is sent to itself"
	}
	chain refuse {
		ip daddr %[3]s meta l4proto tcp reject with tcp reset
		ip daddr %[3]s reject
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		jump refuse
	}
	chain output-refuse {
		type filter hook output priority filter - 5; policy accept;
		jump refuse
	}
}
`
