package worker

// The network of a machine, after it has been made: routes follow the nodes as they come, change and go, and what
// somebody has deleted is made again.

import (
	"context"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/network"

	corev1 "k8s.io/api/core/v1"
)

// repair is how often bridge, rules and routes are looked at, though nobody has told of a change.
const repair = 10 * time.Second

// keepNetwork runs until the context ends. The routes stay then: the pods do, too.
func (w *Worker) keepNetwork(ctx context.Context) error {
	nodes := control.NewInformer(client.Of[*corev1.Node](w.Client), client.Selection{})
	queue := control.NewQueue("network")
	const routes, rules = "routes", "bridge and rules"
	follow := func(ctx context.Context) error {
		// With a part of the nodes it would remove the routes to the others.
		if err := nodes.WaitSynced(ctx); err != nil {
			return err
		}
		nodes.Subscribe(ctx, func(_, _ *corev1.Node) { queue.Add(routes) })
		queue.Add(routes)
		queue.AddAfter(rules, repair) // they have just been made
		return queue.Run(ctx, 1, func(ctx context.Context, key string) error {
			queue.AddAfter(key, repair)
			if key == rules {
				return w.ensureNetwork(ctx)
			}
			addresses, err := network.Addresses()
			if err != nil {
				return err
			}
			return network.SetRoutes(ctx, w.Cluster, network.RoutesTo(nodes.List(), w.Address, addresses))
		})
	}
	return control.Run(ctx, control.Component{Name: "nodes", Run: nodes.Run}, control.Component{Name: "upkeep", Run: follow})
}

func (w *Worker) ensureNetwork(ctx context.Context) error {
	_, err := network.Ensure(ctx, w.Docker, network.Config{Cluster: w.Cluster, Node: w.Node, PodCIDR: w.podCIDR,
		ClusterCIDR: w.ClusterCIDR, ServiceCIDR: w.ServiceCIDR})
	return err
}
