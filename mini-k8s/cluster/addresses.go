package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"workshop/mini-k8s/master"
	"workshop/mini-k8s/worker/network"
)

const firstPort = 6443

// chooseAddresses takes those of the last run of this name, those that were asked for, or the first free ones.
func (c *Cluster) chooseAddresses(ctx context.Context) (string, error) {
	if c.existed {
		return c.keepAddresses()
	}
	var err error
	c.settings = settings{Runtime: c.Runtime, Listen: c.Listen, ClusterCIDR: c.ClusterCIDR}
	if c.settings.Listen == "" {
		if c.listener, err = freePort(); err != nil {
			return "", err
		}
		c.settings.Listen = c.listener.Addr().String()
	}
	if c.docker != nil {
		if c.settings.ClusterCIDR, err = network.FreeCIDR(ctx, c.docker, c.Name, c.ClusterCIDR); err != nil {
			return "", err
		}
	} else if c.settings.ClusterCIDR == "" {
		c.settings.ClusterCIDR = master.DefaultClusterCIDR
	}
	return "API at " + c.settings.Listen + ", pods in " + c.settings.ClusterCIDR, c.settings.save(c.dir)
}

// keepAddresses goes on with those of the last run. Only the port can be another: the pods have their addresses.
func (c *Cluster) keepAddresses() (string, error) {
	const way = "go on with that, or remove it first with `mini-k8s down --name %s`"
	switch old := c.settings; {
	case c.Runtime != old.Runtime:
		return "", fmt.Errorf("cluster %q was started with --runtime %s: "+way, c.Name, old.Runtime, c.Name)
	case c.ClusterCIDR != "" && c.ClusterCIDR != old.ClusterCIDR:
		return "", fmt.Errorf("cluster %q was started with --cluster-cidr %s: "+way, c.Name, old.ClusterCIDR, c.Name)
	case c.Listen == "" || c.Listen == old.Listen:
		return "those of the last run", nil
	}
	c.settings.Listen = c.Listen
	return "API at " + c.Listen + ", the rest as in the last run", c.settings.save(c.dir)
}

// freePort opens the first port from 6443 on that nobody listens on, on the loopback. It stays open: so no other
// cluster that starts in the same moment can choose it.
func freePort() (net.Listener, error) {
	for port := firstPort; port < firstPort+100; port++ {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no port is free from %d to %d: choose one with --listen", firstPort, firstPort+99)
}

// nodeBits returns how long the prefix of each node's range is: a /24, or less if there are many (hollow) nodes. It
// is 0 if there are too many.
func nodeBits(cluster netip.Prefix, nodes int) int {
	for bits := master.DefaultNodeBits; bits <= 30; bits++ {
		if 1<<(bits-cluster.Bits()) > nodes {
			return bits
		}
	}
	return 0
}
