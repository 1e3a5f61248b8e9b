package replicaset

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// burst bounds the creations and deletions of one look, parallel those that are under way at a time.
const (
	burst    = 500
	parallel = 32
)

// reconcile brings one ReplicaSet nearer to what it asks for.
//  1. Read what is desired. A ReplicaSet that is gone needs nothing: its pods are the garbage collector's.
//  2. Claim its pods, and count those that are active: neither being deleted nor finished.
//  3. Create what is missing, or delete what is too much, the first of the victims, at most burst; one that is being
//     deleted itself does neither.
//  4. Write the status with updateStatus, also if the third failed: of the pods that were counted and not deleted. Those
//     that were just made come with the watch, which brings us back. Then return the failure of the third.
//
//lab:06 4
func (c *Controller) reconcile(ctx context.Context, key string) error {
	rs, ok := c.sets.Get(key)
	if !ok {
		return nil
	}
	pods, err := c.claim(ctx, rs)
	if err != nil {
		return err
	}
	active := slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil || api.PodFinished(p) })
	var failure error
	if missing := int(*rs.Spec.Replicas) - len(active); rs.DeletionTimestamp != nil {
		// On its way out: it makes nothing any more.
	} else if missing > 0 {
		failure = c.createPods(ctx, rs, min(missing, burst))
	} else if missing < 0 {
		ranked := victims(active)
		count := min(-missing, burst)
		if failure = c.deletePods(ctx, rs, ranked[:count]); failure == nil {
			active = ranked[count:] // a rollout must not take the others for pods that will stay
		}
	}
	if err := c.updateStatus(ctx, rs, active, failure); err != nil {
		return err
	}
	return failure
}

// claim returns the pods of a ReplicaSet.
//  1. Those that it controls and its selector matches are its own.
//  2. Those that it controls and the selector does not match are let go.
//  3. Those of its namespace that have no controller and match are adopted, if they are active and the ReplicaSet is
//     not being deleted.
//
// It writes a pod as it was seen: if that has changed since, the conflict brings us back here with a newer one.
//
//lab:06 2
func (c *Controller) claim(ctx context.Context, rs *appsv1.ReplicaSet) (mine []*corev1.Pod, err error) {
	selector := selectorOf(rs)
	for _, pod := range c.pods.Controlled(rs.UID) {
		if !selector.Matches(labels.Set(pod.Labels)) {
			_, err := c.pods.Change(ctx, pod, func(p *corev1.Pod) {
				p.OwnerReferences = slices.DeleteFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == rs.UID })
			})
			if err != nil {
				return nil, err
			}
			continue
		}
		mine = append(mine, pod)
	}
	if rs.DeletionTimestamp != nil {
		return mine, nil
	}
	for _, pod := range c.pods.Controlled("") {
		if pod.Namespace != rs.Namespace || !selector.Matches(labels.Set(pod.Labels)) || pod.DeletionTimestamp != nil || api.PodFinished(pod) {
			continue
		}
		adopted, err := c.pods.Change(ctx, pod, func(p *corev1.Pod) {
			p.OwnerReferences = append(p.OwnerReferences, *metav1.NewControllerRef(rs, controllerKind))
		})
		if err != nil {
			return nil, err
		}
		mine = append(mine, adopted)
	}
	return mine, nil
}

// createPods makes so many pods of the template, parallel at a time.
//  1. Create each with c.pods; podOf makes it of the template, and the API server gives it its name.
//  2. Tell of each in an event of the ReplicaSet: SuccessfulCreate, or the warning FailedCreate.
//  3. One that fails does not stop the others. Return a failure, if there was one.
//
//lab:06 3
func (c *Controller) createPods(ctx context.Context, rs *appsv1.ReplicaSet, count int) error {
	slog.Info("creating pods", "replicaset", control.Key(rs), "count", count, "wanted", *rs.Spec.Replicas)
	var group errgroup.Group
	group.SetLimit(parallel)
	for range count {
		group.Go(func() error {
			pod, err := c.pods.Create(ctx, podOf(rs))
			if err != nil {
				c.events.Warning(rs, "FailedCreate", "Error creating: %v", err)
				return err
			}
			c.events.Normal(rs, "SuccessfulCreate", "Created pod: %s", pod.Name)
			return nil
		})
	}
	return group.Wait()
}

// deletePods deletes pods, parallel at a time.
//  1. Delete each with c.pods, which means this very pod, not another one that took its name.
//  2. Tell of each in an event of the ReplicaSet: SuccessfulDelete, or the warning FailedDelete.
//  3. One that fails does not stop the others. Return a failure, if there was one.
//
//lab:06 3
func (c *Controller) deletePods(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	slog.Info("deleting pods", "replicaset", control.Key(rs), "count", len(pods), "wanted", *rs.Spec.Replicas)
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, pod := range pods {
		group.Go(func() error {
			if err := c.pods.Delete(ctx, pod); err != nil {
				c.events.Warning(rs, "FailedDelete", "Error deleting: %v", err)
				return err
			}
			c.events.Normal(rs, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
			return nil
		})
	}
	return group.Wait()
}

// updateStatus writes down how many of the pods there are, are ready, and have been so for long enough to count on, and how
// many others are still stopping; and the failure, until there is none. When the next pod will have been ready for long
// enough is a reason to look again.
func (c *Controller) updateStatus(ctx context.Context, rs *appsv1.ReplicaSet, active []*corev1.Pod, failure error) error {
	now, stopping := metav1.Now(), int32(0)
	status := appsv1.ReplicaSetStatus{Replicas: int32(len(active)), ObservedGeneration: rs.Generation, TerminatingReplicas: &stopping}
	stay := map[types.UID]bool{}
	for _, pod := range active {
		stay[pod.UID] = true
		since, ready := api.PodReadySince(pod)
		if !ready {
			continue
		}
		status.ReadyReplicas++
		if left := since.Add(time.Duration(rs.Spec.MinReadySeconds) * time.Second).Sub(now.Time); left > 0 {
			c.AddAfter(control.Key(rs), left)
		} else {
			status.AvailableReplicas++
		}
	}
	for _, pod := range c.pods.Controlled(rs.UID) {
		if !stay[pod.UID] && !api.PodFinished(pod) {
			stopping++
		}
	}
	switch {
	case failure == nil: // and no condition any more
	case len(rs.Status.Conditions) > 0:
		status.Conditions = rs.Status.Conditions // the next messages are as good as the first, and each would be a write
	default:
		reason := "FailedCreate"
		if len(active) > int(*rs.Spec.Replicas) {
			reason = "FailedDelete"
		}
		status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			Reason: reason, Message: failure.Error(), LastTransitionTime: now.Rfc3339Copy()}}
	}
	_, err := c.sets.ChangeStatus(ctx, rs, func(rs *appsv1.ReplicaSet) { rs.Status = status })
	return err
}

// podOf returns a new pod of the ReplicaSet's template; the API server gives it its name.
func podOf(rs *appsv1.ReplicaSet) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, GenerateName: rs.Name + "-",
			Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, controllerKind)},
		},
		Spec: template.Spec,
	}
}

func selectorOf(rs *appsv1.ReplicaSet) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return labels.Nothing() // the API server has validated it
	}
	return selector
}
