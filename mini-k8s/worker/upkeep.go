package worker

// The network of a machine, after it has been made: routes follow the nodes as they come, change and go, and what
// somebody has deleted is made again.

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/network"

	corev1 "k8s.io/api/core/v1"
)

// repair is how often bridge, rules and routes are looked at, though nobody has told of a change.
const repair = 10 * time.Second

// upkeep returns the loop. The routes stay when it ends: the pods do, too.
func (w *Worker) upkeep(deps control.Deps) *control.Loop {
	const routes, rules = "routes", "bridge and rules"
	nodes := control.Of[*corev1.Node](deps)
	var loop *control.Loop
	loop = control.NewLoop(deps.As("network"), 1, func(ctx context.Context, key string) error {
		loop.AddAfter(key, repair)
		if key == rules {
			return w.ensureNetwork(ctx)
		}
		addresses, err := network.Addresses()
		if err != nil {
			return err
		}
		return network.SetRoutes(w.Cluster, network.RoutesTo(nodes.List(), w.Address, addresses))
	})
	control.Watch(loop, nodes, func(*corev1.Node) []string { return []string{routes} })
	loop.AddAfter(rules, repair) // they have just been made
	return loop
}

// keepNetwork is what upkeep is, for a worker that is alone: no routes lead to others.
func (w *Worker) keepNetwork(ctx context.Context) error {
	for control.Sleep(ctx, repair); ctx.Err() == nil; control.Sleep(ctx, repair) {
		if err := w.ensureNetwork(ctx); err != nil && !errors.Is(err, network.ErrSameNodeOnly) && ctx.Err() == nil {
			slog.Warn("cannot repair the network", "node", w.Node, "reason", err)
		}
	}
	return ctx.Err()
}

// ensureNetwork also has the kubelet look at all pods when the network had to be made: those of before are on none.
func (w *Worker) ensureNetwork(ctx context.Context) error {
	made, err := network.Ensure(ctx, w.Docker, network.Config{Cluster: w.Cluster, Node: w.Node, PodCIDR: w.podCIDR,
		ClusterCIDR: w.ClusterCIDR, ServiceCIDR: w.ServiceCIDR})
	if made {
		slog.Info("network made", "node", w.Node, "range", w.podCIDR)
		w.kubelet.Resync(ctx)
	}
	return err
}
