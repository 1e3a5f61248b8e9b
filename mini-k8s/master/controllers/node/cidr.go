package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// giveRange gives a node the first range of pod addresses that no node has.
func (c *Controller) giveRange(ctx context.Context, node *corev1.Node) error {
	taken := map[string]bool{}
	for _, other := range c.nodes.List() {
		taken[other.Spec.PodCIDR] = true
	}
	podCIDR, err := freeRange(c.config.ClusterCIDR, c.config.NodeBits, taken)
	if err != nil {
		c.events.Warning(node, "CIDRNotAvailable", "%v", err)
		return err
	}
	changed := node.DeepCopy()
	changed.Spec.PodCIDR, changed.Spec.PodCIDRs = podCIDR.String(), []string{podCIDR.String()}
	written, err := c.client.Update(ctx, changed)
	if err != nil {
		return fmt.Errorf("give the pod range %s: %w", podCIDR, err)
	}
	c.writes.Note("", written.ResourceVersion)
	slog.Info("node joined", "node", node.Name, "podCIDR", podCIDR)
	return nil
}

// freeRange returns the first part of the cluster's addresses, of the given prefix length, that is not taken. The
// very first is left out: node 1 has 10.244.1.0/24, which is easier to remember.
func freeRange(cluster netip.Prefix, bits int, taken map[string]bool) (netip.Prefix, error) {
	first := binary.BigEndian.Uint32(cluster.Masked().Addr().AsSlice())
	for i := uint32(1); i < 1<<(bits-cluster.Bits()); i++ {
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], first+i<<(32-bits))
		if p := netip.PrefixFrom(netip.AddrFrom4(address), bits); !taken[p.String()] {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all ranges of %s with a /%d for each node are taken: start the master with a larger --cluster-cidr", cluster, bits)
}
