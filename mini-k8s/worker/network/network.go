// Package network connects the pods of a cluster. Each node has a range of addresses and a bridge, which is a Docker
// network; packets go from bridge to bridge by the host's own routing, with their addresses as they are. The same
// holds for nodes that are machines and for several nodes on one Docker.
//
// Invariants:
//  1. Pods reach pods with no address translation; only packets that leave the cluster's range are masqueraded.
//  2. All that is made here carries the cluster's name (label, comment, table), so that Remove finds all of it and
//     nothing else.
//  3. Ensure can be called again at any time: it repairs what is missing and leaves what is right.
//
// In Kubernetes: a network plugin's work (the Container Network Interface). This one does what the bridge plugin and
// flannel's host-gw do; others build tunnels (VXLAN) or route with BGP or eBPF, and enforce network policies.
package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
)

// ErrSameNodeOnly says that the bridge is there but not the packet rules, which take Linux, root and a Docker on this
// machine: pods reach the pods of their own node only.
var ErrSameNodeOnly = errors.New("no rights to set packet rules: pods reach only the pods on their own node")

const (
	labelCluster  = "mini-k8s.cluster"
	labelNode     = "mini-k8s.node"
	labelServices = "mini-k8s.services" // the range of the cluster's services, which no route or device shows

	bridgePrefix = "mk8s-"
	optionBridge = "com.docker.network.bridge.name"

	createTimeout = time.Minute
)

// Config of one node's network.
type Config struct {
	Cluster, Node string
	PodCIDR       string // the node's part of the cluster's
	ClusterCIDR   string
	ServiceCIDR   string
}

// Ensure makes or repairs the node's bridge and the packet rules. It reports whether the bridge was made: no pod of before
// is on it. With ErrSameNodeOnly the bridge is good nevertheless.
func Ensure(ctx context.Context, docker *client.Client, config Config) (made bool, err error) {
	ruled := CanSetRules(docker)
	if made, err = ensureBridge(ctx, docker, config, ruled); err != nil {
		return made, err
	}
	if !ruled {
		return made, ErrSameNodeOnly
	}
	return made, ensureRules(ctx, config.Cluster, config.ClusterCIDR)
}

// Remove takes away the networks, rules and tables of all nodes of the cluster on this machine. Its containers must
// be gone. It goes on after a failure and returns all of them.
func Remove(ctx context.Context, docker *client.Client, cluster string) error {
	found, err := list(ctx, docker, filters.Arg("label", labelCluster+"="+cluster))
	failures := []error{err}
	for _, n := range found {
		if err := docker.NetworkRemove(ctx, n.ID); err != nil && !cerrdefs.IsNotFound(err) {
			failures = append(failures, fmt.Errorf("remove network %s: %w", n.Name, err))
		}
	}
	if CanSetRules(docker) {
		failures = append(failures, removeRules(ctx, cluster))
	}
	return errors.Join(failures...)
}

// Exists reports whether Docker has a network of the cluster.
func Exists(ctx context.Context, docker *client.Client, cluster string) (bool, error) {
	found, err := list(ctx, docker, filters.Arg("label", labelCluster+"="+cluster))
	return len(found) > 0, err
}

// Name returns the name of the node's Docker network.
func Name(cluster, node string) string { return fmt.Sprintf("mini-k8s-%s-%s", cluster, node) }

// Bridge returns the name of the node's bridge as the host's network device; Linux allows it 15 characters.
func Bridge(cluster, node string) string {
	return fmt.Sprintf(bridgePrefix+"%x", sha256.Sum256([]byte(cluster+"/"+node)))[:15]
}

// ensureBridge replaces a network that does not fit, because its range is another, for instance, or because somebody
// has deleted its device. Docker refuses to remove one that containers use; of a device that is gone they have no use.
func ensureBridge(ctx context.Context, docker *client.Client, config Config, ruled bool) (made bool, err error) {
	wanted, err := bridge(ctx, docker, config, ruled)
	if err != nil {
		return false, err
	}
	found, err := list(ctx, docker, filters.Arg("label", labelCluster+"="+config.Cluster),
		filters.Arg("label", labelNode+"="+config.Node))
	if err != nil {
		return false, err
	}
	for _, n := range found {
		fits := len(n.IPAM.Config) == 1 && n.IPAM.Config[0].Subnet == wanted.IPAM.Config[0].Subnet && maps.Equal(n.Options, wanted.Options)
		_, stat := os.Stat("/sys/class/net/" + Bridge(config.Cluster, config.Node))
		missing := ruled && errors.Is(stat, os.ErrNotExist)
		if fits && !missing {
			return false, nil
		}
		if missing {
			disconnectAll(ctx, docker, n.ID)
		}
		if err := docker.NetworkRemove(ctx, n.ID); err != nil {
			return false, fmt.Errorf("network %s is not what node %s needs for range %s; delete the pods of node %s first: %w",
				n.Name, config.Node, config.PodCIDR, config.Node, err)
		}
	}
	for _, cidr := range []string{config.ClusterCIDR, config.ServiceCIDR} {
		if _, err := FreeCIDR(ctx, docker, config.Cluster, cidr); err != nil {
			return false, fmt.Errorf("this machine cannot be a node of a cluster with the addresses %s: %w", cidr, err)
		}
	}
	// Docker goes on with what it has been asked: if we did not wait, a Remove that follows might come too early.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	if _, err := docker.NetworkCreate(ctx, Name(config.Cluster, config.Node), wanted); err != nil {
		return false, fmt.Errorf("create network %s with range %s: %w", Name(config.Cluster, config.Node), config.PodCIDR, err)
	}
	return true, nil
}

// disconnectAll takes all containers off a network. One that stays is named when the network cannot be removed.
func disconnectAll(ctx context.Context, docker *client.Client, id string) {
	found, err := docker.NetworkInspect(ctx, id, network.InspectOptions{})
	if err != nil {
		return
	}
	for container := range found.Containers {
		docker.NetworkDisconnect(ctx, id, container, true)
	}
}

// bridge describes the Docker network. Docker's own masquerading hides a pod's address from the pods on other nodes,
// so it is off where our rules can do better.
func bridge(ctx context.Context, docker *client.Client, config Config, ruled bool) (network.CreateOptions, error) {
	version, err := docker.ServerVersion(ctx)
	if err != nil {
		return network.CreateOptions{}, fmt.Errorf("ask Docker for its version: %w", err)
	}
	pods, err := netip.ParsePrefix(config.PodCIDR)
	if err != nil {
		return network.CreateOptions{}, fmt.Errorf("pod range of node %s: %w", config.Node, err)
	}
	pods = pods.Masked()
	options := network.CreateOptions{
		Driver: "bridge",
		IPAM: &network.IPAM{Driver: "default", Config: []network.IPAMConfig{
			{Subnet: pods.String(), Gateway: pods.Addr().Next().String()}}},
		Options: map[string]string{
			optionBridge: Bridge(config.Cluster, config.Node),
			"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(!ruled),
		},
		Labels: map[string]string{labelCluster: config.Cluster, labelNode: config.Node, labelServices: config.ServiceCIDR},
	}
	// From Engine 28 on (API 1.48) Docker drops what comes straight to a container's address, unless told not to.
	if ruled && versions.GreaterThanOrEqualTo(version.APIVersion, "1.48") {
		options.Options["com.docker.network.bridge.gateway_mode_ipv4"] = "nat-unprotected"
	}
	return options, nil
}

func list(ctx context.Context, docker *client.Client, labels ...filters.KeyValuePair) ([]network.Summary, error) {
	found, err := docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(labels...)})
	if err != nil {
		return nil, fmt.Errorf("list Docker's networks: %w", err)
	}
	return found, nil
}
