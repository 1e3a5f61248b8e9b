// Package node looks after the nodes: it gives each one a range of pod addresses, says so when a node has fallen silent,
// and takes the pods off a node that they cannot stay on.
//
// Invariants:
//  1. No two nodes have the same range, and a node keeps its own for life.
//  2. A node that has not renewed its lease for the grace period is NotReady and gets no new pods; one that speaks
//     again is itself the one to say that it is ready.
//  3. Its pods are told to leave when they have tolerated its silence for long enough. But when most nodes are silent at
//     once it is rather the master that is cut off: then none is.
//
// In Kubernetes: pkg/controller/nodeipam for the ranges, pkg/controller/nodelifecycle, where zones are cut off one by one
// and large clusters evict slowly, pkg/controller/tainteviction, and for nodes that are gone pkg/controller/podgc.
package node

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"workshop/mini-k8s/control"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultGrace is how long a node may be silent: four of the kubelet's heartbeats. It is short, to be watched.
const DefaultGrace = 20 * time.Second

// unhealthyThreshold is the part of the nodes that is too many to be silent of their own.
const unhealthyThreshold = 0.55

// Config says how the nodes are looked after.
type Config struct {
	ClusterCIDR netip.Prefix  // the addresses of all pods, "10.244.0.0/16"
	NodeBits    int           // the length of a node's prefix, 24
	Grace       time.Duration // DefaultGrace if 0
}

// Controller runs the loop.
type Controller struct {
	*control.Loop
	config Config
	nodes  *control.Objects[*corev1.Node]
	leases *control.Objects[*coordinationv1.Lease]
	pods   *control.Objects[*corev1.Pod]
	events *control.Events
	missed map[string]time.Time // since when a node with pods has been unknown; the one worker's
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps, config Config) *Controller {
	deps = deps.As("node-controller")
	if config.Grace == 0 {
		config.Grace = DefaultGrace
	}
	c := &Controller{config: config, nodes: control.Of[*corev1.Node](deps), leases: control.Of[*coordinationv1.Lease](deps),
		pods: control.Of[*corev1.Pod](deps), events: deps.Events, missed: map[string]time.Time{}}
	c.pods.Index("node", nodeOf)
	// One worker: the next range is chosen when the one before is written.
	c.Loop = control.NewLoop(deps, 1, c.reconcile)
	control.Watch(c.Loop, c.nodes, control.Itself)
	control.Watch(c.Loop, c.pods, nodeOf)
	control.Read(c.Loop, c.leases) // heartbeats are many, and who is silent shows when the grace is over
	return c
}

func nodeOf(pod *corev1.Pod) []string {
	if pod.Spec.NodeName == "" {
		return nil
	}
	return []string{pod.Spec.NodeName}
}

// reconcile looks at one node and its pods, now and when one of them may have been there for too long.
func (c *Controller) reconcile(ctx context.Context, name string) error {
	node, ok := c.nodes.Get(name)
	if !ok {
		return c.giveUp(ctx, name)
	}
	delete(c.missed, name)
	if node.Spec.PodCIDR == "" {
		return c.giveRange(ctx, node) // the write brings us back
	}
	node, again, err := c.judge(ctx, node, time.Now())
	if err != nil {
		return err
	}
	c.AddAfter(name, again)
	return c.evict(ctx, node)
}

// judge writes down whether a node speaks, and returns it as it is then, and after how long it must be asked again.
func (c *Controller) judge(ctx context.Context, node *corev1.Node, now time.Time) (_ *corev1.Node, again time.Duration, err error) {
	silent := now.Sub(c.lastHeard(node))
	again = c.config.Grace - silent
	var effects []corev1.TaintEffect
	if silent >= c.config.Grace {
		again = c.config.Grace / 4
		effects = append(effects, corev1.TaintEffectNoSchedule)
		if !c.cutOff(now) {
			effects = append(effects, corev1.TaintEffectNoExecute)
		}
		marked, err := c.nodes.ChangeStatus(ctx, node, markUnknown)
		if err != nil {
			return node, 0, err
		}
		if marked != node {
			slog.Warn("node is silent", "node", node.Name, "for", silent.Round(time.Second))
			c.events.Warning(node, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
		}
		node = marked
	}
	node, err = c.nodes.Change(ctx, node, func(n *corev1.Node) { setTaints(n, effects, metav1.Now().Rfc3339Copy()) })
	return node, again, err
}

// cutOff reports whether it is rather this master that is silent: all nodes are, or more than two and most of them.
func (c *Controller) cutOff(now time.Time) bool {
	nodes := c.nodes.List()
	silent := 0
	for _, node := range nodes {
		if now.Sub(c.lastHeard(node)) >= c.config.Grace {
			silent++
		}
	}
	return silent == len(nodes) || silent > 2 && float64(silent) >= unhealthyThreshold*float64(len(nodes))
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
func markUnknown(node *corev1.Node) {
	for i, condition := range node.Status.Conditions {
		if condition.Status != corev1.ConditionUnknown {
			condition.Status, condition.LastTransitionTime = corev1.ConditionUnknown, metav1.Now().Rfc3339Copy()
			condition.Reason, condition.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
			node.Status.Conditions[i] = condition
		}
	}
}

// setTaints gives a node the taint "unreachable" with these effects, which keep new pods away and drive those away that
// are there, and no others. The time of tolerations begins when a taint that drives away was found.
func setTaints(n *corev1.Node, effects []corev1.TaintEffect, now metav1.Time) {
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeUnreachable && !slices.Contains(effects, t.Effect)
	})
	for _, effect := range effects {
		taint := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect}
		if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			n.Spec.Taints = append(n.Spec.Taints, taint)
		}
	}
	for i, taint := range n.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoExecute && taint.TimeAdded == nil {
			n.Spec.Taints[i].TimeAdded = &now
		}
	}
}
