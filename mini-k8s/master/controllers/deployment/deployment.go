// Package deployment rolls a Deployment from one version of its pods to the next: it has a ReplicaSet for each
// version and moves replicas from the old ones to the new one, a few at a time, as far as maxSurge and
// maxUnavailable let it.
//
// Invariants:
//  1. By its own doing there are never more pods than replicas + maxSurge, and never fewer available ones than
//     replicas - maxUnavailable.
//  2. The ReplicaSet of a template has the template's hash in its name: however often it is looked for, there is one.
//  3. A look at a Deployment that is as it should be writes nothing.
//
// In Kubernetes: pkg/controller/deployment, with proportional scaling in the middle of a rollout, minReadySeconds and
// a progress deadline, which come here later.
package deployment

import (
	"context"
	"fmt"
	"log/slog"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const workers = 4

var controllerKind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller runs the loop.
type Controller struct {
	setClient        client.Resource[*appsv1.ReplicaSet]
	deploymentClient client.Resource[*appsv1.Deployment]
	events           *control.Events
	sets             *control.Informer[*appsv1.ReplicaSet]
	pods             *control.Informer[*corev1.Pod]
	deployments      *control.Informer[*appsv1.Deployment]
	setWrites        control.Writes
	deploymentWrites control.Writes
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("deployment-controller")
	c := &Controller{
		setClient: client.Of[*appsv1.ReplicaSet](deps.Client), deploymentClient: client.Of[*appsv1.Deployment](deps.Client), events: deps.Events,
		sets: control.Shared[*appsv1.ReplicaSet](deps.Informers), deployments: control.Shared[*appsv1.Deployment](deps.Informers),
		pods: control.Shared[*corev1.Pod](deps.Informers),
	}
	c.sets.Index("owner", control.ByOwner)
	c.pods.Index("owner", control.ByOwner)
	return c
}

// Run rolls until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.sets.WaitSynced(ctx); err != nil {
		return err
	}
	if err := c.deployments.WaitSynced(ctx); err != nil {
		return err
	}
	if err := c.pods.WaitSynced(ctx); err != nil {
		return err
	}
	queue := control.NewQueue("deployment")
	c.deployments.Subscribe(ctx, func(old, d *appsv1.Deployment) {
		if d == nil {
			d = old
		}
		queue.Add(control.Key(d))
	})
	enqueueOwner := func(rs *appsv1.ReplicaSet) {
		if owner := metav1.GetControllerOf(rs); owner != nil && owner.Kind == controllerKind.Kind {
			queue.Add(control.JoinKey(rs.Namespace, owner.Name))
		}
	}
	c.sets.Subscribe(ctx, func(old, rs *appsv1.ReplicaSet) {
		if rs == nil {
			rs = old
		}
		enqueueOwner(rs)
	})
	c.pods.Subscribe(ctx, func(old, pod *corev1.Pod) {
		if pod != nil {
			return // the ReplicaSet's status tells
		}
		if owner := metav1.GetControllerOf(old); owner != nil { // a Recreate may be waiting until it is gone
			if rs, ok := c.sets.Get(control.JoinKey(old.Namespace, owner.Name)); ok {
				enqueueOwner(rs)
			}
		}
	})
	return queue.Run(ctx, workers, c.reconcile)
}

// reconcile brings one Deployment a step nearer to what it asks for. The ReplicaSets' progress brings us back for
// the next step.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	if err := c.sets.WaitFor(ctx, c.setWrites.Last(key)); err != nil {
		return err
	}
	if err := c.deployments.WaitFor(ctx, c.deploymentWrites.Last(key)); err != nil {
		return err
	}
	d, ok := c.deployments.Get(key)
	if !ok {
		c.setWrites.Forget(key)
		c.deploymentWrites.Forget(key)
		return nil // its ReplicaSets are the garbage collector's
	}
	if d.DeletionTimestamp != nil {
		return nil
	}
	sets := c.sets.ByIndex("owner", string(d.UID))
	current, old := split(d, sets)
	if current == nil && !d.Spec.Paused {
		return c.createSet(ctx, d, old)
	}
	if current != nil {
		var err error
		if d, current, err = c.keepRevision(ctx, d, current, old); err != nil {
			return err
		}
	}
	for _, step := range plan(d, current, old, c.left(old)) {
		if err := c.scale(ctx, d, step.set, step.replicas); err != nil {
			return err
		}
	}
	if err := c.dropHistory(ctx, d, old); err != nil {
		return err
	}
	return c.updateStatus(ctx, d, current, sets)
}

// left returns how many pods of these versions are not wholly gone, be they stopping, or may yet come.
func (c *Controller) left(sets []*appsv1.ReplicaSet) int {
	left := 0
	for _, rs := range sets {
		if rs.Status.ObservedGeneration < rs.Generation {
			left++ // whoever makes its pods may not know yet that it shall have none
		}
		for _, pod := range c.pods.ByIndex("owner", string(rs.UID)) {
			if !api.PodFinished(pod) {
				left++
			}
		}
	}
	return left
}

// createSet makes the ReplicaSet of the Deployment's template, with as many replicas as there is room for.
func (c *Controller) createSet(ctx context.Context, d *appsv1.Deployment, old []*appsv1.ReplicaSet) error {
	rs := newSet(d, nextRevision(old))
	for _, step := range plan(d, rs, old, c.left(old)) {
		if step.set == rs {
			rs.Spec.Replicas = &step.replicas
		}
	}
	created, err := c.setClient.Create(ctx, rs)
	switch {
	case apierrors.IsAlreadyExists(err):
		existing, getErr := c.setClient.Get(ctx, rs.Namespace, rs.Name)
		if getErr != nil {
			return fmt.Errorf("create replica set %s: %w", rs.Name, getErr)
		}
		if metav1.IsControlledBy(existing, d) && sameTemplate(&existing.Spec.Template, &d.Spec.Template) {
			c.setWrites.Note(control.Key(d), existing.ResourceVersion)
			return err // the cache had not shown it yet: again
		}
		return c.countCollision(ctx, d)
	case err != nil:
		c.events.Warning(d, "ReplicaSetCreateError", "Failed to create new replica set %q: %v", rs.Name, err)
		return fmt.Errorf("create replica set %s: %w", rs.Name, err)
	}
	c.setWrites.Note(control.Key(d), created.ResourceVersion)
	slog.Info("new version", "deployment", control.Key(d), "replicaset", rs.Name, "replicas", *rs.Spec.Replicas)
	c.events.Normal(d, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", rs.Name, *rs.Spec.Replicas)
	return nil
}

// countCollision notes that the template's hash is that of another ReplicaSet; the count goes into the next hash.
func (c *Controller) countCollision(ctx context.Context, d *appsv1.Deployment) error {
	changed := d.DeepCopy()
	count := int32(1)
	if d.Status.CollisionCount != nil {
		count += *d.Status.CollisionCount
	}
	changed.Status.CollisionCount = &count
	written, err := c.deploymentClient.UpdateStatus(ctx, changed)
	if err != nil {
		return fmt.Errorf("note a collision of hashes: %w", err)
	}
	c.deploymentWrites.Note(control.Key(d), written.ResourceVersion)
	return nil
}

func (c *Controller) scale(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, replicas int32) error {
	before := *rs.Spec.Replicas
	changed := rs.DeepCopy()
	changed.Spec.Replicas = &replicas
	written, err := c.setClient.Update(ctx, changed)
	if err != nil {
		return fmt.Errorf("scale replica set %s to %d: %w", rs.Name, replicas, err)
	}
	c.setWrites.Note(control.Key(d), written.ResourceVersion)
	direction := "up"
	if replicas < before {
		direction = "down"
	}
	slog.Info("scaling", "deployment", control.Key(d), "replicaset", rs.Name, "from", before, "to", replicas)
	c.events.Normal(d, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, before, replicas)
	return nil
}
