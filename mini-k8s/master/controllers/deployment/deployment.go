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
// In Kubernetes: pkg/controller/deployment, which counts the pods itself to see that none of an old version is left; here
// the ReplicaSets tell how many are still stopping (KEP-3973).
package deployment

import (
	"context"
	"fmt"
	"log/slog"

	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const workers = 4

var controllerKind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller runs the loop.
type Controller struct {
	*control.Loop
	deployments *control.Objects[*appsv1.Deployment]
	sets        *control.Objects[*appsv1.ReplicaSet]
	events      *control.Events
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("deployment-controller")
	c := &Controller{deployments: control.Of[*appsv1.Deployment](deps), sets: control.Of[*appsv1.ReplicaSet](deps), events: deps.Events}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Watch(c.Loop, c.deployments, control.Itself)
	control.Watch(c.Loop, c.sets, deploymentOf)
	return c
}

func deploymentOf(rs *appsv1.ReplicaSet) []string {
	if owner := metav1.GetControllerOf(rs); owner != nil && owner.Kind == controllerKind.Kind {
		return []string{control.JoinKey(rs.Namespace, owner.Name)}
	}
	return nil
}

// reconcile brings one Deployment a step nearer to what it asks for. Of its pods it knows what the ReplicaSets' status tells;
// their progress brings us back for the next step.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	d, ok := c.deployments.Get(key)
	if !ok || d.DeletionTimestamp != nil {
		return nil // its ReplicaSets are the garbage collector's
	}
	sets := oldestFirst(c.sets.Controlled(d.UID))
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
	for _, step := range plan(d, current, old) {
		if err := c.scale(ctx, d, step.set, step.replicas); err != nil {
			return err
		}
	}
	if err := c.dropHistory(ctx, d, old); err != nil {
		return err
	}
	_, err := c.deployments.ChangeStatus(ctx, d, func(d *appsv1.Deployment) { c.setStatus(d, current, sets) })
	return err
}

// createSet makes the ReplicaSet of the Deployment's template, with as many replicas as there is room for. If its name is
// taken, the template's hash is that of another one: then a collision is counted, which goes into the next hash.
func (c *Controller) createSet(ctx context.Context, d *appsv1.Deployment, old []*appsv1.ReplicaSet) error {
	rs := newSet(d, nextRevision(old))
	for _, step := range plan(d, rs, old) {
		if step.set == rs {
			rs.Spec.Replicas = &step.replicas
		}
	}
	_, err := c.sets.Create(ctx, rs)
	if apierrors.IsAlreadyExists(err) {
		_, err = c.deployments.ChangeStatus(ctx, d, func(d *appsv1.Deployment) {
			d.Status.CollisionCount = ptr.To(ptr.Deref(d.Status.CollisionCount, 0) + 1)
		})
		return err
	}
	if err != nil {
		c.events.Warning(d, "ReplicaSetCreateError", "Failed to create new replica set %q: %v", rs.Name, err)
		return err
	}
	c.tell(d, rs, 0, *rs.Spec.Replicas)
	return nil
}

// scale gives a ReplicaSet a size, and notes in it of which size the Deployment was then.
func (c *Controller) scale(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, replicas int32) error {
	_, err := c.sets.Change(ctx, rs, func(rs *appsv1.ReplicaSet) {
		rs.Spec.Replicas = &replicas
		metav1.SetMetaDataAnnotation(&rs.ObjectMeta, desiredAnnotation, fmt.Sprint(*d.Spec.Replicas))
	})
	if before := *rs.Spec.Replicas; err == nil && before != replicas {
		c.tell(d, rs, before, replicas)
	}
	return err
}

func (c *Controller) tell(d *appsv1.Deployment, rs *appsv1.ReplicaSet, from, to int32) {
	direction := "up"
	if to < from {
		direction = "down"
	}
	slog.Info("scaling", "deployment", control.Key(d), "replicaset", rs.Name, "from", from, "to", to)
	c.events.Normal(d, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to)
}
