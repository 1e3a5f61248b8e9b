package network

// The routes to the pods on other machines. Each of them forwards what comes for its own pods: so all that is needed is
// to know which machine has which range, and that it can be reached with no router between.

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// protocol is the mark of our routes among all that others have made; see /etc/iproute2/rt_protos for theirs.
const protocol = "77"

// metric tells the routes of one cluster from those of another: a route has no room for a name.
func metric(cluster string) uint32 {
	sum := sha256.Sum256([]byte(cluster))
	return binary.BigEndian.Uint32(sum[:]) | 1 // 0 would be none
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
func SetRoutes(ctx context.Context, cluster string, wanted []Route) error {
	found, err := listRoutes(ctx)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(r route) bool { return !r.isOf(cluster) })
	mark := []string{"proto", protocol, "metric", strconv.Itoa(int(metric(cluster)))}
	var failures []error
	for _, w := range wanted {
		right := route{Dst: w.PodCIDR.String(), Gateway: w.Via.String()}
		isRight := func(r route) bool { return r.Dst == right.Dst && r.Gateway == right.Gateway }
		if !slices.ContainsFunc(found, isRight) {
			_, err := run(ctx, "", "ip", append([]string{"route", "replace", right.Dst, "via", right.Gateway}, mark...)...)
			if err != nil {
				failures = append(failures, fmt.Errorf("the pods of node %s cannot be reached from here: its address %s is not on a "+
					"network of this machine. Give all workers a --master on one network, or have your routers send %s to it: %w",
					w.Node, w.Via, w.PodCIDR, err))
				continue
			}
		}
		found = slices.DeleteFunc(found, func(r route) bool { return r.Dst == right.Dst })
	}
	for _, r := range found {
		_, err := run(ctx, "", "ip", append([]string{"route", "delete", r.Dst}, mark...)...)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// route is one of the host's, as ip shows it.
type route struct {
	Dst, Dev, Gateway, Protocol string
	Metric                      uint32
}

func (r route) isOf(cluster string) bool {
	return r.Protocol == protocol && r.Metric == metric(cluster)
}

// listRoutes finds none where there is no ip: there Docker is in a virtual machine, whose routes are not ours to see.
func listRoutes(ctx context.Context) (routes []route, err error) {
	text, err := run(ctx, "", "ip", "-json", "-4", "route")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &routes)
	}
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}
