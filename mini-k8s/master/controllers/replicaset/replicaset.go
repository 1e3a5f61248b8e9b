// Package replicaset keeps the promise of every ReplicaSet: so many pods of its template, no more and no fewer.
//
// Invariants:
//  1. It counts only pods that it owns: by a controller reference with the ReplicaSet's UID. Pods that match the
//     selector and belong to nobody are adopted; owned pods that no longer match are let go.
//  2. It never makes a pod twice because its cache is old: before it counts again, it waits until the cache shows
//     its own last write. Revisions are one sequence for the whole store, so "shows" is a comparison of numbers.
//  3. A look at a ReplicaSet that is as it should be writes nothing.
//
// In Kubernetes: pkg/controller/replicaset. There revisions were opaque to clients until KEP-5504, so it counts the
// watch events that it expects from its own writes (UIDTrackingControllerExpectations) to reach the second one.
package replicaset

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	workers = 4
	// burst bounds the creations and deletions of one look, parallel those that are under way at a time.
	burst    = 500
	parallel = 32
)

var controllerKind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Controller runs the loop.
type Controller struct {
	podClient client.Resource[*corev1.Pod]
	setClient client.Resource[*appsv1.ReplicaSet]
	events    *control.Events
	pods      *control.Informer[*corev1.Pod]
	sets      *control.Informer[*appsv1.ReplicaSet]
	podWrites control.Writes
	setWrites control.Writes
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("replicaset-controller")
	c := &Controller{
		podClient: client.Of[*corev1.Pod](deps.Client), setClient: client.Of[*appsv1.ReplicaSet](deps.Client), events: deps.Events,
		pods: control.Shared[*corev1.Pod](deps.Informers), sets: control.Shared[*appsv1.ReplicaSet](deps.Informers),
	}
	c.pods.Index("owner", control.ByOwner)
	return c
}

// Run keeps the promises until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.pods.WaitSynced(ctx); err != nil {
		return err
	}
	if err := c.sets.WaitSynced(ctx); err != nil {
		return err
	}
	queue := control.NewQueue("replicaset")
	c.sets.Subscribe(ctx, func(old, rs *appsv1.ReplicaSet) {
		if rs == nil {
			rs = old
		}
		queue.Add(control.Key(rs))
	})
	c.pods.Subscribe(ctx, func(old, pod *corev1.Pod) {
		for _, p := range []*corev1.Pod{old, pod} {
			if p != nil {
				c.enqueueOwner(queue, p)
			}
		}
	})
	return queue.Run(ctx, workers, c.reconcile)
}

// enqueueOwner puts the pod's ReplicaSet into the queue, or, for a pod that nobody owns, all that would adopt it.
func (c *Controller) enqueueOwner(queue *control.Queue, pod *corev1.Pod) {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		if owner.Kind == controllerKind.Kind {
			queue.Add(control.JoinKey(pod.Namespace, owner.Name))
		}
		return
	}
	for _, rs := range c.sets.List() {
		if rs.Namespace == pod.Namespace && selectorOf(rs).Matches(labels.Set(pod.Labels)) {
			queue.Add(control.Key(rs))
		}
	}
}

// reconcile brings one ReplicaSet nearer to what it asks for.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	if err := c.pods.WaitFor(ctx, c.podWrites.Last(key)); err != nil {
		return err
	}
	if err := c.sets.WaitFor(ctx, c.setWrites.Last(key)); err != nil {
		return err
	}
	rs, ok := c.sets.Get(key)
	if !ok {
		c.podWrites.Forget(key)
		c.setWrites.Forget(key)
		return nil // its pods are the garbage collector's
	}
	pods, err := c.claim(ctx, rs)
	if err != nil {
		return err
	}
	active := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil || api.PodFinished(p) })
	var failure error
	if missing := int(*rs.Spec.Replicas) - len(active); rs.DeletionTimestamp != nil {
		// On its way out: it makes nothing any more.
	} else if missing > 0 {
		failure = c.createPods(ctx, rs, min(missing, burst))
	} else if missing < 0 {
		surplus := victims(active, min(-missing, burst))
		failure = c.deletePods(ctx, rs, surplus)
		// They count no more: a rollout must not take them for pods that will stay.
		active = slices.DeleteFunc(active, func(p *corev1.Pod) bool { return slices.Contains(surplus, p) })
	}
	if err := c.updateStatus(ctx, rs, active); err != nil {
		return err
	}
	return failure
}

// claim returns the pods of a ReplicaSet, after adopting and letting go.
func (c *Controller) claim(ctx context.Context, rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	selector := selectorOf(rs)
	var mine []*corev1.Pod
	for _, pod := range c.pods.ByIndex("owner", string(rs.UID)) {
		if selector.Matches(labels.Set(pod.Labels)) {
			mine = append(mine, pod)
		} else if err := c.setOwner(ctx, rs, pod, nil); err != nil {
			return nil, fmt.Errorf("let go of pod %s: %w", control.Key(pod), err)
		}
	}
	if rs.DeletionTimestamp != nil {
		return mine, nil
	}
	for _, pod := range c.pods.ByIndex("owner", "") {
		if pod.Namespace != rs.Namespace || pod.DeletionTimestamp != nil || api.PodFinished(pod) || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		owner := metav1.NewControllerRef(rs, controllerKind)
		if err := c.setOwner(ctx, rs, pod, owner); err != nil {
			return nil, fmt.Errorf("adopt pod %s: %w", control.Key(pod), err)
		}
		mine = append(mine, pod)
	}
	return mine, nil
}

// setOwner replaces the ReplicaSet's reference in a pod. It writes the pod as it was seen: if that has changed
// since, the conflict brings us back here with a newer one.
func (c *Controller) setOwner(ctx context.Context, rs *appsv1.ReplicaSet, pod *corev1.Pod, owner *metav1.OwnerReference) error {
	changed := pod.DeepCopy()
	changed.OwnerReferences = slices.DeleteFunc(changed.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == rs.UID })
	if owner != nil {
		changed.OwnerReferences = append(changed.OwnerReferences, *owner)
	}
	written, err := c.podClient.Update(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		c.podWrites.Note(control.Key(rs), written.ResourceVersion)
	}
	return err
}

func (c *Controller) createPods(ctx context.Context, rs *appsv1.ReplicaSet, count int) error {
	slog.Info("creating pods", "replicaset", control.Key(rs), "count", count, "wanted", *rs.Spec.Replicas)
	return inParallel(count, func(int) error {
		pod, err := c.podClient.Create(ctx, podOf(rs))
		if err != nil {
			c.events.Warning(rs, "FailedCreate", "Error creating: %v", err)
			return fmt.Errorf("create a pod: %w", err)
		}
		c.podWrites.Note(control.Key(rs), pod.ResourceVersion)
		c.events.Normal(rs, "SuccessfulCreate", "Created pod: %s", pod.Name)
		return nil
	})
}

func (c *Controller) deletePods(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	slog.Info("deleting pods", "replicaset", control.Key(rs), "count", len(pods), "wanted", *rs.Spec.Replicas)
	return inParallel(len(pods), func(i int) error {
		pod := pods[i]
		// The precondition makes sure that it is the pod we counted, not one that took its name.
		revision, err := c.podClient.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			c.events.Warning(rs, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("delete pod %s: %w", control.Key(pod), err)
		}
		c.podWrites.Note(control.Key(rs), revision)
		c.events.Normal(rs, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
		return nil
	})
}

// updateStatus reports what there is. Pods that this look has made are not counted yet; the watch brings us back
// for them.
func (c *Controller) updateStatus(ctx context.Context, rs *appsv1.ReplicaSet, active []*corev1.Pod) error {
	status := appsv1.ReplicaSetStatus{Replicas: int32(len(active)), ObservedGeneration: rs.Generation, Conditions: rs.Status.Conditions}
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if api.PodReady(pod) {
			status.ReadyReplicas++
			status.AvailableReplicas++
		}
	}
	changed := rs.DeepCopy()
	changed.Status = status
	if sameStatus(rs.Status, status) {
		return nil
	}
	written, err := c.setClient.UpdateStatus(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update status: %w", err)
	}
	c.setWrites.Note(control.Key(rs), written.ResourceVersion)
	return nil
}

func sameStatus(a, b appsv1.ReplicaSetStatus) bool {
	return a.Replicas == b.Replicas && a.FullyLabeledReplicas == b.FullyLabeledReplicas && a.ReadyReplicas == b.ReadyReplicas &&
		a.AvailableReplicas == b.AvailableReplicas && a.ObservedGeneration == b.ObservedGeneration
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

// inParallel calls f for 0 to count-1, some at a time, and returns the first failure.
func inParallel(count int, f func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range count {
		group.Go(func() error { return f(i) })
	}
	return group.Wait()
}
