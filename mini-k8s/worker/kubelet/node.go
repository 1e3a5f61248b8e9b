package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	goruntime "runtime"
	"slices"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// heartbeat is how often a node renews its lease; the node controller's grace is four times that.
	heartbeat = 5 * time.Second
	// leaseSeconds is what the lease says of itself, for people who read it.
	leaseSeconds = 20
	maxPods      = 110
)

// Node is the node's own entry in the API server: it keeps it there, keeps it true, and renews the lease that says
// the node is alive.
type Node struct {
	Config
	Labels map[string]string
	Ready  func() (bool, string) // whether pods can run, and if not, why
	nodes  client.Resource[*corev1.Node]
	leases client.Resource[*coordinationv1.Lease]
	self   *control.Informer[*corev1.Node]
	queue  *control.Queue    // holds nothing but the node's name
	facts  corev1.NodeStatus // all of its status but the conditions
}

// NewNode returns a node that is not registered until Run.
func NewNode(config Config, ready func() (bool, string)) *Node {
	config.Client = config.Client.Named("kubelet")
	nodes := client.Of[*corev1.Node](config.Client)
	return &Node{Config: config, Ready: ready, nodes: nodes, leases: client.Of[*coordinationv1.Lease](config.Client),
		queue: control.NewQueue("node status"), self: control.NewInformer(nodes, client.Selection{Fields: "metadata.name=" + config.Node})}
}

// Run registers the node and keeps its entry until the context ends.
func (n *Node) Run(ctx context.Context) error {
	machine, err := n.Runtime.Machine(ctx)
	if err != nil {
		return err
	}
	room := roomOf(machine)
	n.facts = corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.Address}, {Type: corev1.NodeHostName, Address: n.Node}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: n.Port}},
		NodeInfo: corev1.NodeSystemInfo{OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH, OSImage: machine.OS,
			KernelVersion: machine.Kernel, ContainerRuntimeVersion: machine.Runtime, KubeletVersion: api.KubernetesVersion},
	}
	return control.Run(ctx,
		control.Component{Name: "watch", Run: n.self.Run},
		control.Component{Name: "lease", Run: n.keepLease},
		control.Component{Name: "status", Run: func(ctx context.Context) error {
			if err := n.self.WaitSynced(ctx); err != nil {
				return err
			}
			n.Refresh()
			// Whatever is said of this node, by whomever, is looked at: only we know whether it is true.
			n.self.Subscribe(ctx, func(_, _ *corev1.Node) { n.Refresh() })
			return n.queue.Run(ctx, 1, n.reconcile)
		}},
	)
}

// roomOf returns what there is for pods on a machine. Several workers on one each report all of it.
func roomOf(machine runtime.Machine) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(machine.CPUs), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(machine.MemoryBytes, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
}

// PodCIDR waits until the master has given the node its range of pod addresses. It looks into the cache again and
// again, for the moment that this takes.
func (n *Node) PodCIDR(ctx context.Context) (string, error) {
	for ctx.Err() == nil {
		if node, ok := n.self.Get(n.Node); ok && node.Spec.PodCIDR != "" {
			return node.Spec.PodCIDR, nil
		}
		control.Sleep(ctx, 10*time.Millisecond)
	}
	return "", ctx.Err()
}

// Refresh has the node's status looked at soon, for a caller who knows that it has changed.
func (n *Node) Refresh() { n.queue.Add(n.Node) }

// reconcile makes the node's entry say what is true.
func (n *Node) reconcile(ctx context.Context, name string) error {
	node, ok := n.self.Get(name)
	if !ok {
		labels := map[string]string{corev1.LabelHostname: n.Node, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH}
		maps.Copy(labels, n.Labels)
		created, err := n.nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
		if apierrors.IsAlreadyExists(err) {
			created, err = n.nodes.Get(ctx, "", name)
		}
		if err != nil {
			return fmt.Errorf("register: %w", err)
		}
		slog.Info("node registered", "node", name)
		node = created
	}
	changed := node.DeepCopy()
	changed.Status = n.facts
	changed.Status.Conditions = n.conditions(node.Status.Conditions)
	if equality.Semantic.DeepEqual(node.Status, changed.Status) {
		return nil
	}
	changed.ResourceVersion = "" // the status is ours, whoever else changes the node
	if _, err := n.nodes.UpdateStatus(ctx, changed); err != nil {
		return fmt.Errorf("report status: %w", err)
	}
	return nil
}

// conditions returns those that are shown, with the node's Ready as it is now. Time alone is no reason to write it:
// the lease is the heartbeat.
func (n *Node) conditions(shown []corev1.NodeCondition) []corev1.NodeCondition {
	now := metav1.Now().Rfc3339Copy()
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		Message: "kubelet is posting ready status", LastHeartbeatTime: now, LastTransitionTime: now}
	if ok, why := n.Ready(); !ok {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", why
	}
	all := slices.Clone(shown)
	i := slices.IndexFunc(all, func(c corev1.NodeCondition) bool { return c.Type == ready.Type })
	if i < 0 {
		return append(all, ready)
	}
	switch old := all[i]; {
	case old.Status == ready.Status && old.Reason == ready.Reason && old.Message == ready.Message:
		return shown
	case old.Status == ready.Status:
		ready.LastTransitionTime = old.LastTransitionTime
	}
	all[i] = ready
	return all
}

// keepLease renews the node's lease, or makes it (KEP-589).
func (n *Node) keepLease(ctx context.Context) error {
	seconds := int32(leaseSeconds)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.Node},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.Node, LeaseDurationSeconds: &seconds},
	}
	for ctx.Err() == nil {
		now := metav1.NowMicro()
		lease.Spec.RenewTime = &now
		_, err := n.leases.Update(ctx, lease) // whatever revision it is at: nobody else writes it
		if apierrors.IsNotFound(err) {
			_, err = n.leases.Create(ctx, lease)
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("cannot renew the lease", "node", n.Node, "reason", err)
		}
		control.Sleep(ctx, heartbeat)
	}
	return ctx.Err()
}
