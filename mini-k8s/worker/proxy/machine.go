package proxy

// What of the machine belongs to the rules, beside them: the node ports, and what the kernel remembers of UDP.

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// claim takes the node ports of the wanted rules, and gives back those that are not wanted any more. One that a program or
// another cluster on this machine has stays theirs: it leaves the wanted rules.
func (p *Proxy) claim(wanted rules) {
	for key, held := range p.claimed {
		if wanted[nodePorts][key] == "" {
			delete(p.claimed, key)
			if held != nil {
				held.Close()
			}
		}
	}
	for key := range wanted[nodePorts] {
		if p.claimed[key] != nil {
			continue
		}
		var protocol string
		var port int
		fmt.Sscanf(key, "%s . %d", &protocol, &port)
		held, err := p.config.Claim(protocol, port)
		if err != nil {
			delete(wanted[nodePorts], key)
			if _, told := p.claimed[key]; !told {
				slog.Warn("a node port leads nowhere on this machine", "reason", err)
			}
		}
		p.claimed[key] = held
	}
}

// forget makes the kernel forget the UDP flows that lead where the rules do not lead any more. It remembers a flow for as
// long as packets come: a client that always sends from the same port would never hear of another pod. (A client of TCP
// does: its connection breaks, and the next one is new.)
func (p *Proxy) forget(old, wanted rules) {
	before, now := udp(old), udp(wanted)
	gone := old == nil // nobody knows who is
	for flow := range before {
		gone = gone || !now[flow]
	}
	if !gone {
		return
	}
	err := p.config.ForgetUDP(func(sentTo, ledTo netip.AddrPort) bool {
		address, port, pod := sentTo.Addr().String()+" . ", fmt.Sprintf("udp . %d", sentTo.Port()), fmt.Sprintf(" : %s . %d", ledTo.Addr(), ledTo.Port())
		if p.config.ServiceCIDR.Contains(sentTo.Addr()) {
			return !now[address+port+pod]
		}
		ours := before[port] || now[port]
		return ours && p.config.ClusterCIDR.Contains(ledTo.Addr()) && !p.config.ClusterCIDR.Contains(sentTo.Addr()) && !now[port+pod]
	})
	if err != nil {
		slog.Warn("clients of UDP may still be led to pods that are gone", "reason", err)
	}
}

// udp returns where the rules lead UDP: "address . udp . port : address . port", the same without the first address for a
// node port, and each node port by itself.
func udp(r rules) map[string]bool {
	leads := map[string]bool{}
	for _, name := range []string{endpoints, nodeEndpoints} {
		for key, target := range r[name] {
			if key = key[:strings.LastIndex(key, " . ")]; strings.Contains(key, "udp . ") {
				leads[key+" : "+target] = true
			}
		}
	}
	for key := range r[nodePorts] {
		leads[key] = true
	}
	return leads
}
