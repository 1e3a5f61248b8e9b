//go:build !linux

package network

import "net/netip"

// ForgetUDP does nothing where there are no packet rules.
func ForgetUDP(func(sentTo, ledTo netip.AddrPort) bool) error { return nil }
