package node

import (
	"context"
	"log/slog"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quarantine is for how long a node may be unknown before its pods are given up: a kubelet that still runs makes the
// node anew within that time.
const quarantine = 40 * time.Second

// Evictor takes pods off nodes that they cannot stay on: those with a taint NoExecute that a pod does not tolerate, or
// not for that long, and those that are gone. Whoever made the pod then makes another one elsewhere.
//
// A pod of a silent node is only told to stop. It is gone when its kubelet says so: until then it may still run.
//
// In Kubernetes: pkg/controller/tainteviction, and for nodes that are gone pkg/controller/podgc.
type Evictor struct {
	*control.Loop
	nodes  *control.Objects[*corev1.Node]
	pods   *control.Objects[*corev1.Pod]
	events *control.Events
	missed map[string]time.Time // since when a node with pods has been unknown; the one worker's
}

// NewEvictor returns an evictor that does nothing until Run.
func NewEvictor(deps control.Deps) *Evictor {
	deps = deps.As("taint-eviction-controller")
	c := &Evictor{nodes: control.Of[*corev1.Node](deps), pods: control.Of[*corev1.Pod](deps), events: deps.Events, missed: map[string]time.Time{}}
	c.pods.Index("node", nodeOf)
	c.Loop = control.NewLoop(deps, 1, c.reconcile)
	control.Watch(c.Loop, c.nodes, control.Itself)
	control.Watch(c.Loop, c.pods, nodeOf)
	return c
}

func nodeOf(pod *corev1.Pod) []string {
	if pod.Spec.NodeName == "" {
		return nil
	}
	return []string{pod.Spec.NodeName}
}

// reconcile looks at the pods of one node, now and when the time of the next is over.
func (c *Evictor) reconcile(ctx context.Context, name string) error {
	node, ok := c.nodes.Get(name)
	if !ok {
		return c.giveUp(ctx, name)
	}
	delete(c.missed, name)
	node, err := c.nodes.Change(ctx, node, func(n *corev1.Node) { dateTaints(n, metav1.Now().Rfc3339Copy()) })
	if err != nil {
		return err
	}
	for _, pod := range c.pods.ByIndex("node", name) {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if pod, err = c.pods.ChangeStatus(ctx, pod, func(p *corev1.Pod) { doubt(p, node.Spec.Taints) }); err != nil {
			return err
		}
		switch left, leaves := mayStay(pod, node.Spec.Taints, time.Now()); {
		case leaves && left > 0:
			c.AddAfter(name, left)
		case leaves:
			slog.Info("evicting pod", "pod", control.Key(pod), "node", name)
			c.events.Normal(pod, "TaintManagerEviction", "Marking for deletion Pod %s", control.Key(pod))
			if err := c.pods.Delete(ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// doubt takes a pod of a silent node out of its services: it is not Ready, as far as anybody knows. What its kubelet says
// later, when it speaks again, counts more.
func doubt(pod *corev1.Pod, taints []corev1.Taint) {
	since, ready := api.PodReadySince(pod)
	for _, taint := range taints {
		if taint.Key == corev1.TaintNodeUnreachable && taint.TimeAdded != nil && ready && !since.After(taint.TimeAdded.Time) {
			api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeNotReady"})
		}
	}
}

// dateTaints notes when the taints that drive pods away were found, where nobody has: the time of tolerations begins there.
func dateTaints(node *corev1.Node, now metav1.Time) {
	for i, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoExecute && taint.TimeAdded == nil {
			node.Spec.Taints[i].TimeAdded = &now
		}
	}
}

// mayStay returns how long a pod may still stay on a node with these taints; leaves is false if for ever. Of several
// tolerations for a taint, and of several taints, the shortest time counts.
func mayStay(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (left time.Duration, leaves bool) {
	shorten := func(until time.Time) {
		if wait := until.Sub(now); !leaves || wait < left {
			left, leaves = wait, true
		}
	}
	for _, taint := range taints {
		if taint.Effect != corev1.TaintEffectNoExecute || taint.TimeAdded == nil {
			continue
		}
		tolerated := false
		for _, t := range pod.Spec.Tolerations {
			if !t.ToleratesTaint(logr.Discard(), &taint, false) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds != nil {
				shorten(taint.TimeAdded.Add(time.Duration(*t.TolerationSeconds) * time.Second))
			}
		}
		if !tolerated {
			shorten(now)
		}
	}
	return left, leaves
}

// giveUp deletes the pods of a node that is gone, at once: nobody is left who could stop them.
func (c *Evictor) giveUp(ctx context.Context, name string) error {
	pods := c.pods.ByIndex("node", name)
	if len(pods) == 0 {
		delete(c.missed, name)
		return nil
	}
	since, known := c.missed[name]
	if !known {
		since = time.Now()
		c.missed[name] = since
	}
	if left := quarantine - time.Since(since); left > 0 {
		c.AddAfter(name, left)
		return nil
	}
	for _, pod := range pods {
		slog.Info("giving up a pod whose node is gone", "pod", control.Key(pod), "node", name)
		if err := c.pods.DeleteNow(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}
