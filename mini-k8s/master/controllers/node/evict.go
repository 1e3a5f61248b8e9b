package node

// Who cannot stay on a node: its pods when it has a taint NoExecute that they do not tolerate, or not for that long, and all
// when it is gone. Whoever made such a pod then makes another one elsewhere.
//
// A pod of a silent node is only told to stop. It is gone when its kubelet says so: until then it may still run.

import (
	"context"
	"log/slog"
	"math"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// quarantine is for how long a node may be unknown before its pods are given up: a kubelet that still runs makes the
	// node anew within that time.
	quarantine = 40 * time.Second
	forEver    = time.Duration(math.MaxInt64)
)

// evict tells those pods of a node to leave whose time is over, and comes again when that of the next is.
func (c *Controller) evict(ctx context.Context, node *corev1.Node) error {
	for _, pod := range c.pods.ByIndex("node", node.Name) {
		if pod.DeletionTimestamp != nil {
			continue
		}
		pod, err := c.pods.ChangeStatus(ctx, pod, func(p *corev1.Pod) { doubt(p, node.Spec.Taints) })
		if err != nil {
			return err
		}
		switch left := mayStay(pod, node.Spec.Taints, time.Now()); {
		case left == forEver:
		case left > 0:
			c.AddAfter(node.Name, left)
		default:
			slog.Info("evicting pod", "pod", control.Key(pod), "node", node.Name)
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

// mayStay returns how long a pod may still stay on a node with these taints. Of several tolerations for a taint, and of
// several taints, the shortest time counts.
func mayStay(pod *corev1.Pod, taints []corev1.Taint, now time.Time) time.Duration {
	left := forEver
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
				left = min(left, taint.TimeAdded.Add(time.Duration(*t.TolerationSeconds)*time.Second).Sub(now))
			}
		}
		if !tolerated {
			left = min(left, 0)
		}
	}
	return left
}

// giveUp deletes the pods of a node that is gone, at once: nobody is left who could stop them.
func (c *Controller) giveUp(ctx context.Context, name string) error {
	pods := c.pods.ByIndex("node", name)
	if len(pods) == 0 {
		delete(c.missed, name)
		return nil
	}
	if c.missed[name].IsZero() {
		c.missed[name] = time.Now()
	}
	if left := quarantine - time.Since(c.missed[name]); left > 0 {
		c.AddAfter(name, left)
		return nil
	}
	for _, pod := range pods {
		slog.Info("giving up a pod whose node is gone", "pod", control.Key(pod), "node", name)
		if err := c.pods.DeleteWith(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			return err
		}
	}
	return nil
}
