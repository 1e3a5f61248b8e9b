// Package node looks after the nodes: it gives each one a range of pod addresses, and says so when a node has
// fallen silent.
//
// Invariants:
//  1. No two nodes have the same range, and a node keeps its own for life.
//  2. A node that has not renewed its lease for the grace period is NotReady and gets no new pods; one that speaks
//     again is itself the one to say that it is ready.
//
// In Kubernetes: pkg/controller/nodeipam for the ranges, and pkg/controller/nodelifecycle with its taint manager, which
// also evicts the pods of a node that stays away (here: lab 07).
package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultGrace is how long a node may be silent: four of the kubelet's heartbeats. It is short, to be watched.
const DefaultGrace = 20 * time.Second

// Config says how the nodes are looked after.
type Config struct {
	ClusterCIDR netip.Prefix  // the addresses of all pods, "10.244.0.0/16"
	NodeBits    int           // the length of a node's prefix, 24
	Grace       time.Duration // DefaultGrace if 0
}

// Controller runs the loop.
type Controller struct {
	config Config
	client client.Resource[*corev1.Node]
	events *control.Events
	nodes  *control.Informer[*corev1.Node]
	leases *control.Informer[*coordinationv1.Lease]
	writes control.Writes
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps, config Config) *Controller {
	deps = deps.As("node-controller")
	if config.Grace == 0 {
		config.Grace = DefaultGrace
	}
	return &Controller{config: config, client: client.Of[*corev1.Node](deps.Client), events: deps.Events,
		nodes: control.Shared[*corev1.Node](deps.Informers), leases: control.Shared[*coordinationv1.Lease](deps.Informers)}
}

// Run looks after the nodes until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.nodes.WaitSynced(ctx); err != nil {
		return err
	}
	if err := c.leases.WaitSynced(ctx); err != nil {
		return err
	}
	queue := control.NewQueue("node")
	c.nodes.Subscribe(ctx, func(old, node *corev1.Node) {
		if node != nil {
			queue.Add(node.Name)
		}
	})
	// One worker: the next range is chosen when the one before is written.
	return queue.Run(ctx, 1, func(ctx context.Context, key string) error {
		again, err := c.reconcile(ctx, key, time.Now())
		if err == nil && again > 0 {
			queue.AddAfter(key, again)
		}
		return err
	})
}

// reconcile looks at one node and returns after how long it needs a look again.
func (c *Controller) reconcile(ctx context.Context, name string, now time.Time) (time.Duration, error) {
	if err := c.nodes.WaitFor(ctx, c.writes.Last("")); err != nil {
		return 0, err
	}
	node, ok := c.nodes.Get(name)
	if !ok {
		return 0, nil
	}
	if node.Spec.PodCIDR == "" {
		return 0, c.giveRange(ctx, node) // the write brings us back
	}
	silent := now.Sub(c.lastHeard(node))
	if silent < c.config.Grace {
		return c.config.Grace - silent, c.setReachable(ctx, node, true)
	}
	if err := c.markUnknown(ctx, node, silent); err != nil {
		return 0, err
	}
	return c.config.Grace / 4, nil
}

// lastHeard returns when the node last renewed its lease, or was made: a node that comes back after it was deleted
// may find its lease of old.
func (c *Controller) lastHeard(node *corev1.Node) time.Time {
	lease, ok := c.leases.Get(control.JoinKey(corev1.NamespaceNodeLease, node.Name))
	if !ok || lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(node.CreationTimestamp.Time) {
		return node.CreationTimestamp.Time
	}
	return lease.Spec.RenewTime.Time
}

// markUnknown says that nobody knows how the node is.
func (c *Controller) markUnknown(ctx context.Context, node *corev1.Node, silent time.Duration) error {
	changed := node.DeepCopy()
	now, marked := metav1.Now().Rfc3339Copy(), false
	for i := range changed.Status.Conditions {
		condition := &changed.Status.Conditions[i]
		if condition.Status != corev1.ConditionUnknown {
			condition.Status, condition.Reason, condition.LastTransitionTime = corev1.ConditionUnknown, "NodeStatusUnknown", now
			condition.Message = "Kubelet stopped posting node status."
			marked = true
		}
	}
	if marked {
		slog.Warn("node is silent", "node", node.Name, "for", silent.Round(time.Second))
		written, err := c.client.UpdateStatus(ctx, changed)
		if err != nil {
			return fmt.Errorf("mark as unknown: %w", err)
		}
		c.writes.Note("", written.ResourceVersion)
		c.events.Warning(node, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
		node = written
	}
	return c.setReachable(ctx, node, false)
}

// setReachable takes the taint off that keeps new pods away from a silent node, or puts it on.
func (c *Controller) setReachable(ctx context.Context, node *corev1.Node, reachable bool) error {
	isUnreachable := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnreachable }
	if reachable != slices.ContainsFunc(node.Spec.Taints, isUnreachable) {
		return nil
	}
	changed := node.DeepCopy()
	changed.Spec.Taints = slices.DeleteFunc(changed.Spec.Taints, isUnreachable)
	if !reachable {
		changed.Spec.Taints = append(changed.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule})
	}
	written, err := c.client.Update(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("change taints: %w", err)
	}
	c.writes.Note("", written.ResourceVersion)
	return nil
}
