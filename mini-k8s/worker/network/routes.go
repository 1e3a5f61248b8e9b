package network

// The routes to the pods on other machines. Each of them forwards what comes for its own pods: so all that is needed is
// to know which machine has which range, and that it can be reached with no router between.

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// protocol is the mark of our routes among all that others have made; see /etc/iproute2/rt_protos for theirs.
const protocol = 77

// metric tells the routes of one cluster from those of another: a route has no room for a name.
func metric(cluster string) int {
	sum := sha256.Sum256([]byte(cluster))
	return int(binary.BigEndian.Uint32(sum[:]) | 1) // 0 would be none
}

// Route leads to the pods of a node on another machine.
type Route struct {
	Node    string
	PodCIDR netip.Prefix
	Via     netip.Addr // of the machine
}

// RoutesTo returns how the pods of the nodes are reached from the machine that has the addresses. Nodes on this machine
// need no route: their bridges are here. A node that gives its loopback as its address is on this machine only if the
// one at self does so, too.
func RoutesTo(nodes []*corev1.Node, self string, addresses []netip.Addr) (routes []Route) {
	for _, node := range nodes {
		podCIDR, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if err != nil {
			continue // it has none yet
		}
		for _, address := range node.Status.Addresses {
			via, err := netip.ParseAddr(address.Address)
			here := address.Address == self || slices.Contains(addresses, via) && !via.IsLoopback()
			if address.Type == corev1.NodeInternalIP && err == nil && !here {
				routes = append(routes, Route{node.Name, podCIDR.Masked(), via})
			}
		}
	}
	return routes
}

// Addresses returns those of this machine.
func Addresses() (all []netip.Addr, err error) {
	found, err := net.InterfaceAddrs()
	for _, address := range found {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			all = append(all, prefix.Addr())
		}
	}
	return all, err
}

// SetRoutes makes the cluster's routes those that are wanted. It leaves alone what is right already, and what others have
// made; it goes on after a failure and returns all of them.
func SetRoutes(cluster string, wanted []Route) error {
	found, err := listRoutes()
	if err != nil {
		return err
	}
	ours := map[string]netlink.Route{} // by range
	for _, r := range found {
		if isOf(r, cluster) {
			ours[r.Dst.String()] = r
		}
	}
	var failures []error
	for _, w := range wanted {
		to, via := w.PodCIDR.String(), net.IP(w.Via.AsSlice())
		if there, is := ours[to]; !is || !there.Gw.Equal(via) {
			_, dst, _ := net.ParseCIDR(to)
			if err := netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: via, Protocol: protocol, Priority: metric(cluster)}); err != nil {
				failures = append(failures, fmt.Errorf("the pods of node %s cannot be reached from here: its address %s is not on a "+
					"network of this machine. Give all workers a --master on one network, or have your routers send %s to it: %w",
					w.Node, via, to, err))
				continue
			}
		}
		delete(ours, to)
	}
	for to, r := range ours {
		if err := netlink.RouteDel(&r); err != nil {
			failures = append(failures, fmt.Errorf("delete the route to %s: %w", to, err))
		}
	}
	return errors.Join(failures...)
}

func isOf(r netlink.Route, cluster string) bool {
	return r.Protocol == protocol && r.Priority == metric(cluster)
}

// listRoutes finds none on other systems than Linux: there Docker is in a virtual machine, whose routes are not ours to see.
func listRoutes() ([]netlink.Route, error) {
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrNotImplemented) {
		return nil, fmt.Errorf("list the routes of this machine: %w", err)
	}
	return routes, nil
}
