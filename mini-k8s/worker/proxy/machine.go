package proxy

// What of the machine belongs to the rules, beside them: the node ports, and what the kernel remembers of UDP.

import (
	"log/slog"
	"net/netip"
	"slices"
)

// claim takes the node ports of the wanted rules, and gives back those that are not wanted any more. One that a program or
// another cluster on this machine has stays theirs: it leaves the wanted rules.
func (p *Proxy) claim(wanted rules) {
	for e, held := range p.claimed {
		if _, is := wanted[e]; !is {
			delete(p.claimed, e)
			if held != nil {
				held.Close()
			}
		}
	}
	for e := range wanted {
		if e.address.IsValid() || p.claimed[e] != nil {
			continue
		}
		held, err := p.config.Claim(e.protocol, int(e.port))
		if err != nil {
			delete(wanted, e)
			if _, told := p.claimed[e]; !told {
				slog.Warn("a node port leads nowhere on this machine", "reason", err)
			}
		}
		p.claimed[e] = held
	}
}

// forget makes the kernel forget the UDP flows that lead where the rules do not lead any more. It remembers a flow for as
// long as packets come: a client that always sends from the same port would never hear of another pod. (A client of TCP
// does: its connection breaks, and the next one is new.)
func (p *Proxy) forget(old, wanted rules) {
	gone := old == nil // nobody knows who is
	for e, pods := range old {
		gone = gone || e.protocol == "udp" && slices.ContainsFunc(pods.all, func(pod netip.AddrPort) bool {
			return !slices.Contains(wanted[e].all, pod)
		})
	}
	if !gone {
		return
	}
	err := p.config.ForgetUDP(func(sentTo, ledTo netip.AddrPort) bool {
		e := entry{"udp", sentTo.Addr(), sentTo.Port()}
		if !p.config.ServiceCIDR.Contains(sentTo.Addr()) {
			e.address = netip.Addr{}
			_, was := old[e]
			_, is := wanted[e]
			if !was && !is || !p.config.ClusterCIDR.Contains(ledTo.Addr()) || p.config.ClusterCIDR.Contains(sentTo.Addr()) {
				return false // it is none of ours
			}
		}
		return !slices.Contains(wanted[e].all, ledTo)
	})
	if err != nil {
		slog.Warn("clients of UDP may still be led to pods that are gone", "reason", err)
	}
}
