package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetUDP makes the kernel forget the UDP flows of which stale says so: by the address to which a client sends, and the
// one at which it has been led. The next packet is led anew.
func ForgetUDP(stale func(sentTo, ledTo netip.AddrPort) bool) error {
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, staleUDP(stale)); err != nil {
		return fmt.Errorf("forget the UDP flows to pods that are gone: %w", err)
	}
	return nil
}

type staleUDP func(sentTo, ledTo netip.AddrPort) bool

func (stale staleUDP) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	led, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return flow.Forward.Protocol == unix.IPPROTO_UDP &&
		stale(netip.AddrPortFrom(to.Unmap(), flow.Forward.DstPort), netip.AddrPortFrom(led.Unmap(), flow.Reverse.SrcPort))
}
