package network

// Which ranges of addresses are free: those that neither Docker's networks nor the host's routes overlap, nor the services
// of another cluster.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"workshop/mini-k8s/control"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/vishvananda/netlink"
)

// use is a range of addresses that somebody has.
type use struct {
	prefix netip.Prefix
	by     string
}

// FreeCIDR returns the range that was asked for, or an error that tells who has part of it already. With nothing
// asked it returns the first free one of 10.244.0.0/16, 10.245.0.0/16 and so on. What this cluster has here already does
// not count.
func FreeCIDR(ctx context.Context, docker *client.Client, cluster, asked string) (string, error) {
	return free(ctx, docker, cluster, asked, 244, 256)
}

// FreeServiceCIDR does the same for the addresses of services, from 10.96.0.0/16 on. Two clusters on one machine must not
// have the same: whose rules come first would get the other's connections.
func FreeServiceCIDR(ctx context.Context, docker *client.Client, cluster, asked string) (string, error) {
	return free(ctx, docker, cluster, asked, 96, 244)
}

// RangeFor returns the range of a node to which no master gives one: that of the network that it has, or part of a free one.
func RangeFor(ctx context.Context, docker *client.Client, cluster, node string) (string, error) {
	found, err := list(ctx, docker, filters.Arg("label", labelCluster+"="+cluster), filters.Arg("label", labelNode+"="+node))
	if err != nil {
		return "", err
	}
	for _, n := range found {
		if len(n.IPAM.Config) == 1 {
			return n.IPAM.Config[0].Subnet, nil
		}
	}
	all, err := FreeCIDR(ctx, docker, cluster, "")
	return strings.TrimSuffix(all, "/16") + "/24", err
}

// TakeTurn waits while somebody else on this machine is between choosing a range and having a network with it, both of whom would
// choose the same, and then keeps others waiting until end. Where the file for that cannot be opened, it goes without.
func TakeTurn(ctx context.Context) (end func()) {
	file, err := os.OpenFile(filepath.Join(os.TempDir(), "mini-k8s-addresses.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return func() {}
	}
	for syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil && ctx.Err() == nil {
		control.Sleep(ctx, 20*time.Millisecond)
	}
	return func() { file.Close() }
}

func free(ctx context.Context, docker *client.Client, cluster, asked string, from, to int) (string, error) {
	var candidates []string
	for second := from; second < to; second++ {
		candidates = append(candidates, fmt.Sprintf("10.%d.0.0/16", second))
	}
	if asked != "" {
		candidates = []string{asked}
	}
	networks, err1 := list(ctx, docker)
	routes, err2 := listRoutes()
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	used := usedRanges(cluster, networks, routes, deviceName)
	var taken error
	for _, candidate := range candidates {
		prefix, err := netip.ParsePrefix(candidate)
		if err != nil {
			return "", fmt.Errorf("address range: %w", err)
		}
		by := slices.IndexFunc(used, func(u use) bool { return u.prefix.Overlaps(prefix) })
		if by < 0 {
			return prefix.Masked().String(), nil
		}
		taken = fmt.Errorf("choose another address range: %s overlaps %s of %s", prefix, used[by].prefix, used[by].by)
	}
	return "", taken
}

// usedRanges are those of Docker's networks and of the host's routes; each interface that is up has its route. The default
// route, which overlaps everything, does not count, nor the cluster's own to its other machines. Those through our bridges
// stand among Docker's networks, with the name of their cluster; a moment earlier here than there.
func usedRanges(cluster string, networks []network.Summary, routes []netlink.Route, device func(index int) string) (used []use) {
	add := func(text, by string) {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Bits() > 0 {
			used = append(used, use{prefix, by})
		}
	}
	for _, n := range networks {
		if n.Labels[labelCluster] == cluster {
			continue
		}
		add(n.Labels[labelServices], "Docker network "+n.Name)
		for _, config := range n.IPAM.Config {
			add(config.Subnet, "Docker network "+n.Name)
		}
	}
	for _, r := range routes {
		if name := device(r.LinkIndex); !strings.HasPrefix(name, bridgePrefix) && !isOf(r, cluster) {
			add(r.Dst.String(), "a route through "+name)
		}
	}
	return used
}

func deviceName(index int) string {
	if device, err := net.InterfaceByIndex(index); err == nil {
		return device.Name
	}
	return "several devices"
}
