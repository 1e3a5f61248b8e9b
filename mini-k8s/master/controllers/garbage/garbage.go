// Package garbage deletes what belongs to something that is gone: the pods of a deleted ReplicaSet, the ReplicaSets
// of a deleted Deployment. Who belongs to whom stands in metadata.ownerReferences, for all kinds alike.
//
// Invariants:
//  1. An object is deleted only when none of its owners exists any more, and the API server itself has said so.
//  2. An owner is looked for by its UID: a new object of the same name is somebody else.
//  3. Deleted in the foreground, an owner goes last; orphaning, its dependents stay and forget it.
//
// In Kubernetes: pkg/controller/garbagecollector, which keeps a graph of all objects in memory, finds kinds by
// discovery, and lets blockOwnerDeletion decide which dependents a foreground deletion waits for.
package garbage

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const workers = 4

// Controller runs the loop.
type Controller struct {
	*control.Loop
	client  *client.Client
	objects map[*api.Kind]*control.Objects[client.Metadata]
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("garbage-collector")
	c := &Controller{client: deps.Client, objects: map[*api.Kind]*control.Objects[client.Metadata]{}}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	for _, kind := range api.Kinds {
		switch kind.Kind {
		case "Event", "Lease", "Node", "Namespace": // are many or change often, and neither own nor are owned
			continue
		}
		objects := control.Some(deps, client.MetadataOf(deps.Client, kind), client.Selection{})
		objects.Index("uid", func(o client.Metadata) []string { return []string{string(o.UID)} })
		objects.Index("owners", ownersOf)
		control.Subscribe(c.Loop, objects, c.enqueue)
		c.objects[kind] = objects
	}
	return c
}

// Run collects until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	return control.Run(ctx, control.Component{Name: "queue", Run: c.Loop.Run}, control.Component{Name: "expired", Run: c.sweep})
}

func ownersOf(o client.Metadata) (uids []string) {
	for _, owner := range o.OwnerReferences {
		uids = append(uids, string(owner.UID))
	}
	return uids
}

// enqueue puts an object into the queue when something changed that matters here, and its owners when it is gone. The
// key is the UID, for it outlives the object.
func (c *Controller) enqueue(old, o client.Metadata) {
	if o == nil {
		for _, uid := range append(ownersOf(old), string(old.UID)) {
			c.Add(uid)
		}
		return
	}
	if old == nil || o.DeletionTimestamp != nil && len(o.Finalizers) > 0 ||
		!equality.Semantic.DeepEqual(old.OwnerReferences, o.OwnerReferences) {
		c.Add(string(o.UID))
	}
}

// reconcile looks at one object: whether it is still wanted by an owner, or gone and wanted by dependents no more.
func (c *Controller) reconcile(ctx context.Context, uid string) error {
	found := c.by("uid", uid)
	if len(found) == 0 {
		for _, dependent := range c.by("owners", uid) {
			if err := c.collect(ctx, dependent); err != nil {
				return err
			}
		}
		return nil
	}
	switch o := found[0]; {
	case o.DeletionTimestamp == nil:
		return c.collect(ctx, o)
	case slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents):
		return c.finish(ctx, o, metav1.FinalizerOrphanDependents)
	case slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents):
		return c.finish(ctx, o, metav1.FinalizerDeleteDependents)
	}
	return nil
}

// by returns the objects, of whatever kind, that an index of the caches has under a UID.
func (c *Controller) by(index, uid string) (all []client.Metadata) {
	for _, objects := range c.objects {
		all = append(all, objects.ByIndex(index, uid)...)
	}
	return all
}

// collect deletes an object if it has owners and none of them exists.
func (c *Controller) collect(ctx context.Context, o client.Metadata) error {
	if len(o.OwnerReferences) == 0 || o.DeletionTimestamp != nil {
		return nil
	}
	if wanted, err := c.wanted(ctx, o, ""); err != nil || wanted {
		return err
	}
	owner := o.OwnerReferences[0]
	slog.Info("collecting garbage", "kind", o.Kind, "object", control.Key(o), "owner", owner.Kind+"/"+owner.Name)
	return c.delete(ctx, o, metav1.DeletePropagationBackground)
}

// wanted reports whether one of an object's owners exists, but for the one of this UID. It asks the caches and, where they
// know nothing, the API server: caches of different kinds are not equally old.
func (c *Controller) wanted(ctx context.Context, o client.Metadata, except types.UID) (bool, error) {
	for _, owner := range o.OwnerReferences {
		if owner.UID == except {
			continue
		}
		kind := api.ForGVK(schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind))
		if kind == nil || len(c.by("uid", string(owner.UID))) > 0 {
			return true, nil // of a kind that we do not know: better keep it
		}
		found, err := client.MetadataOf(c.client, kind).Get(ctx, o.Namespace, owner.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("look for %s %s, owner of %s: %w", owner.Kind, owner.Name, o.Name, err)
		}
		if err == nil && found.UID == owner.UID {
			return true, nil
		}
	}
	return false, nil
}

// finish is for an owner that is being deleted and waits, by a finalizer, for what becomes of all that belongs to it. Orphaned,
// it stays and forgets the owner. Deleted in the foreground, it goes first, after what belongs to it in turn; what somebody
// else wants as well stays with them. The deletion of the last dependent brings us back to let the owner go.
func (c *Controller) finish(ctx context.Context, owner client.Metadata, finalizer string) error {
	waiting := false
	for _, o := range c.by("owners", string(owner.UID)) {
		stays, err := finalizer == metav1.FinalizerOrphanDependents, error(nil)
		if !stays {
			stays, err = c.wanted(ctx, o, owner.UID)
		}
		policy := metav1.DeletePropagationBackground
		if len(c.by("owners", string(o.UID))) > 0 {
			policy = metav1.DeletePropagationForeground
		}
		switch {
		case err != nil:
		case stays:
			err = c.patch(ctx, o, "ownerReferences", slices.DeleteFunc(slices.Clone(o.OwnerReferences),
				func(r metav1.OwnerReference) bool { return r.UID == owner.UID }))
		case o.DeletionTimestamp != nil:
			waiting = true
		default:
			waiting, err = true, c.delete(ctx, o, policy)
		}
		if err != nil {
			return err
		}
	}
	if waiting {
		return nil
	}
	return c.patch(ctx, owner, "finalizers", slices.DeleteFunc(slices.Clone(owner.Finalizers), func(f string) bool { return f == finalizer }))
}

// delete deletes an object that is still as it was seen: its owners may have let it go since.
func (c *Controller) delete(ctx context.Context, o client.Metadata, policy metav1.DeletionPropagation) error {
	return c.objectsOf(o).DeleteWith(ctx, o, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{ResourceVersion: &o.ResourceVersion}, PropagationPolicy: &policy})
}

// patch changes one field of the metadata, if the object is still as it was seen.
func (c *Controller) patch(ctx context.Context, o client.Metadata, field string, value any) error {
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": o.ResourceVersion, field: value}}
	_, err := c.objectsOf(o).Resource.Patch(ctx, o.Namespace, o.Name, "", types.MergePatchType, patch)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("change the %s of %s %s: %w", field, o.Kind, control.Key(o), err)
	}
	return nil
}

func (c *Controller) objectsOf(o client.Metadata) *control.Objects[client.Metadata] {
	return c.objects[api.ForGVK(o.GroupVersionKind())]
}
