package proxy

// The rules, as a pure function of services and endpoints to the text that nft reads.
//
// A connection to a service is decided by two look-ups: the first, in services or node-ports, finds a chain by address,
// protocol and port; the chain knows only how many endpoints there are, rolls a die, and with what that shows finds one
// in endpoints or node-endpoints. The kernel remembers the decision for the rest of the connection.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// The names of the maps, and of a set.
const (
	services      = "services"       // address . protocol . port : goto chain
	endpoints     = "endpoints"      // address . protocol . port . number : address . port
	nodePorts     = "node-ports"     // protocol . port : goto chain
	nodeEndpoints = "node-endpoints" // protocol . port . number : address . port
	hairpins      = "hairpins"       // address . address of a pod that may be sent to itself
)

// types say of what the elements are. The number has no type of its own, and takes that of a die.
var types = []struct{ name, of string }{
	{services, "map services { type ipv4_addr . inet_proto . inet_service : verdict; "},
	{endpoints, "map endpoints { typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport; "},
	{nodePorts, "map node-ports { type inet_proto . inet_service : verdict; "},
	{nodeEndpoints, "map node-endpoints { typeof meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport; "},
	{hairpins, "set hairpins { type ipv4_addr . ipv4_addr; "},
}

// rules are the elements of the maps: map -> key -> value. A set has no values.
type rules map[string]map[string]string

// rulesOf returns what makes the services lead to the endpoints. A service that has none leads nowhere: it is refused.
func rulesOf(all []*corev1.Service, slicesOfAll []*discoveryv1.EndpointSlice) rules {
	bySlice := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range slicesOfAll {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		bySlice[key] = append(bySlice[key], slice)
	}
	r := rules{}
	for _, t := range types {
		r[t.name] = map[string]string{}
	}
	for _, service := range all {
		if _, err := netip.ParseAddr(service.Spec.ClusterIP); err != nil {
			continue // headless, or a name for something elsewhere
		}
		for _, port := range service.Spec.Ports {
			r.add(service, port, targets(bySlice[service.Namespace+"/"+service.Name], port))
		}
	}
	return r
}

// add makes a port of a service lead to the targets: at the service's address, and at its node port if it has one.
func (r rules) add(service *corev1.Service, port corev1.ServicePort, targets []netip.AddrPort) {
	if len(targets) == 0 {
		return
	}
	suffix := fmt.Sprint("-", len(targets))
	if service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		suffix += "-sticky"
	}
	protocol := strings.ToLower(string(port.Protocol))
	r.lead(services, endpoints, fmt.Sprintf("%s . %s . %d", service.Spec.ClusterIP, protocol, port.Port), "pick"+suffix, targets)
	if port.NodePort != 0 {
		r.lead(nodePorts, nodeEndpoints, fmt.Sprintf("%s . %d", protocol, port.NodePort), "node"+suffix, targets)
	}
	for _, target := range targets {
		r[hairpins][fmt.Sprintf("%s . %s", target.Addr(), target.Addr())] = ""
	}
}

func (r rules) lead(chains, ends, key, chain string, targets []netip.AddrPort) {
	r[chains][key] = "goto " + chain
	for i, target := range targets {
		r[ends][fmt.Sprintf("%s . %d", key, i)] = fmt.Sprintf("%s . %d", target.Addr(), target.Port())
	}
}

// targets returns where a port of a service leads, each once and in order.
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
	slices.SortFunc(found, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return slices.Compact(found)
}

// update returns the script that makes the wanted rules of the old ones, or "" if they are the same. Elements come and go
// one by one; when a chain is needed that is not there, and at first, the whole table is replaced.
func (c Config) update(old, wanted rules) string {
	if old == nil || !maps.Equal(chains(old), chains(wanted)) {
		return c.replace(wanted)
	}
	var script strings.Builder
	for _, step := range []struct {
		verb     string
		from, to rules
	}{{"delete", old, wanted}, {"add", wanted, old}} {
		for _, t := range types {
			var elements []string
			for _, key := range slices.Sorted(maps.Keys(step.from[t.name])) {
				value := step.from[t.name][key]
				if other, there := step.to[t.name][key]; there && other == value {
					continue
				}
				if step.verb == "add" {
					key = element(key, value)
				}
				elements = append(elements, key)
			}
			if len(elements) > 0 {
				fmt.Fprintf(&script, "%s element ip %s %s { %s }\n", step.verb, c.Table, t.name, strings.Join(elements, ", "))
			}
		}
	}
	return script.String()
}

func element(key, value string) string {
	if value == "" {
		return key
	}
	return key + " : " + value
}

// chains returns the names of the chains that the rules need.
func chains(r rules) map[string]bool {
	names := map[string]bool{}
	for _, verdicts := range []map[string]string{r[services], r[nodePorts]} {
		for _, verdict := range verdicts {
			names[strings.TrimPrefix(verdict, "goto ")] = true
		}
	}
	return names
}

// replace returns the script of the whole table. Creating it, deleting it and creating it again in one transaction
// replaces it, whether or not it was there, with no moment without it.
func (c Config) replace(r rules) string {
	var s strings.Builder
	name := c.Table
	fmt.Fprintf(&s, "table ip %[1]s\ndelete table ip %[1]s\ntable ip %[1]s {\n", name)
	for _, t := range types {
		s.WriteString("\t" + t.of)
		var elements []string
		for _, key := range slices.Sorted(maps.Keys(r[t.name])) {
			elements = append(elements, element(key, r[t.name][key]))
		}
		if len(elements) > 0 {
			s.WriteString("elements = {\n\t\t" + strings.Join(elements, ",\n\t\t") + "\n\t}; ")
		}
		s.WriteString("}\n")
	}
	for _, chain := range slices.Sorted(maps.Keys(chains(r))) {
		fmt.Fprintf(&s, "\tchain %s { %s; }\n", chain, pick(chain))
	}
	fmt.Fprintf(&s, fixed, c.ClusterCIDR, c.ServiceCIDR)
	return s.String()
}

// pick returns the rule that sends a connection to one of so many endpoints, as the name of its chain says: with a die, or
// always to the same one for the same client.
func pick(chain string) string {
	words := strings.Split(chain, "-")
	key, from := "ip daddr . meta l4proto . th dport", endpoints
	if words[0] == "node" {
		key, from = "meta l4proto . th dport", nodeEndpoints
	}
	die := "numgen random mod "
	if len(words) == 3 {
		die = "jhash ip saddr mod "
	}
	return fmt.Sprintf("dnat to %s . %s map @%s", key, die+words[1], from)
}

// fixed is what does not depend on services: where packets meet the maps. Docker's own chain is at dstnat, 100 before
// filter, and would be second. What is still for a service's address behind them is served by nobody.
const fixed = `	chain serve {
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local meta l4proto . th dport vmap @node-ports
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
		ct status dnat ip saddr != %[1]s ip daddr %[1]s masquerade comment "answers must come back this way"
		ip saddr . ip daddr @hairpins masquerade comment "a pod that is sent to itself"
	}
	chain refuse {
		ip daddr %[2]s meta l4proto tcp reject with tcp reset
		ip daddr %[2]s reject
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
