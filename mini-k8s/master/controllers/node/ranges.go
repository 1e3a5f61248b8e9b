package node

// Which addresses the pods of a node have.

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// giveRange gives a node the first range of pod addresses that no node has.
func (c *Controller) giveRange(ctx context.Context, node *corev1.Node) error {
	taken := map[string]bool{}
	for _, other := range c.nodes.List() {
		taken[other.Spec.PodCIDR] = true
	}
	podCIDR, err := freeRange(c.config.ClusterCIDR, c.config.NodeBits, taken, numberOf(node.Name))
	if err != nil {
		c.events.Warning(node, "CIDRNotAvailable", "%v", err)
		return err
	}
	_, err = c.nodes.Change(ctx, node, func(n *corev1.Node) {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = podCIDR.String(), []string{podCIDR.String()}
	})
	if err != nil {
		return err
	}
	slog.Info("node joined", "node", node.Name, "podCIDR", podCIDR)
	return nil
}

// numberOf returns the number at the end of a name, 0 if there is none.
func numberOf(name string) int {
	n, _ := strconv.Atoi(name[len(strings.TrimRight(name, "0123456789")):])
	return n
}

// freeRange returns a part of the cluster's addresses, of the given prefix length, that is not taken: the one with
// the node's own number if it can be had, for node-2 in 10.244.2.0/24 is easy to remember, or else the first. The
// very first of all, with the number 0, is left out.
func freeRange(cluster netip.Prefix, bits int, taken map[string]bool, number int) (netip.Prefix, error) {
	count := 1 << (bits - cluster.Bits())
	first := binary.BigEndian.Uint32(cluster.Masked().Addr().AsSlice())
	for i := range count {
		if i == 0 {
			i = number
		}
		address := binary.BigEndian.AppendUint32(nil, first+uint32(i)<<(32-bits))
		free := netip.PrefixFrom(netip.AddrFrom4([4]byte(address)), bits)
		if i > 0 && i < count && !taken[free.String()] {
			return free, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all ranges of %s with a /%d for each node are taken: "+
		"start the master with a larger --cluster-cidr", cluster, bits)
}
