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
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	workers = 4
	// eventLife is how long events are kept, eventSweep how often old ones are looked for.
	eventLife  = time.Hour
	eventSweep = 5 * time.Minute
)

// Controller runs the loop.
type Controller struct {
	client    *client.Client
	informers map[*api.Kind]*control.Informer[client.Metadata]
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("garbage-collector")
	c := &Controller{client: deps.Client, informers: map[*api.Kind]*control.Informer[client.Metadata]{}}
	for _, kind := range api.Kinds {
		switch kind.Kind {
		case "Event", "Lease", "Node", "Namespace": // are many or change often, and neither own nor are owned
			continue
		}
		c.informers[kind] = control.NewInformer(client.MetadataOf(deps.Client, kind), client.Selection{})
	}
	return c
}

// Run collects until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	queue := control.NewQueue("garbage")
	var parts []control.Component
	for kind, informer := range c.informers {
		parts = append(parts, control.Component{Name: kind.Resource, Run: informer.Run})
		informer.Index("owners", func(o client.Metadata) []string {
			var uids []string
			for _, owner := range o.OwnerReferences {
				uids = append(uids, string(owner.UID))
			}
			return uids
		})
	}
	parts = append(parts, control.Component{Name: "queue", Run: func(ctx context.Context) error {
		for kind, informer := range c.informers {
			if err := informer.WaitSynced(ctx); err != nil {
				return err
			}
			informer.Subscribe(ctx, func(old, o client.Metadata) { c.enqueue(queue, kind, old, o) })
		}
		return queue.Run(ctx, workers, c.reconcile)
	}}, control.Component{Name: "events", Run: c.sweepEvents})
	return control.Run(ctx, parts...)
}

// node names one object for the queue: where it is, and which one it is.
type node struct {
	kind            *api.Kind
	namespace, name string
	uid             types.UID
}

func (n node) key() string {
	return strings.Join([]string{n.kind.GroupResource().String(), n.namespace, n.name, string(n.uid)}, "/")
}

func parseKey(key string) node {
	parts := strings.Split(key, "/")
	return node{kind: api.Lookup(parts[0]), namespace: parts[1], name: parts[2], uid: types.UID(parts[3])}
}

// enqueue puts an object into the queue when something changed that matters here, and its owners when it is gone.
func (c *Controller) enqueue(queue *control.Queue, kind *api.Kind, old, o client.Metadata) {
	if o == nil {
		queue.Add(node{kind, old.Namespace, old.Name, old.UID}.key())
		for _, owner := range old.OwnerReferences {
			if ownerKind := kindOf(owner); c.informers[ownerKind] != nil {
				queue.Add(node{ownerKind, old.Namespace, owner.Name, owner.UID}.key())
			}
		}
		return
	}
	if old == nil || !equality.Semantic.DeepEqual(old.OwnerReferences, o.OwnerReferences) || o.DeletionTimestamp != nil && len(o.Finalizers) > 0 {
		queue.Add(node{kind, o.Namespace, o.Name, o.UID}.key())
	}
}

// reconcile looks at one object: whether it is still wanted by an owner, or gone and wanted by dependents no more.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	n := parseKey(key)
	o, ok := c.informers[n.kind].Get(control.JoinKey(n.namespace, n.name))
	if !ok || o.UID != n.uid {
		for _, dependent := range c.dependents(n.uid) {
			if err := c.collect(ctx, dependent); err != nil {
				return err
			}
		}
		return nil
	}
	if o.DeletionTimestamp != nil {
		switch {
		case slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents):
			return c.orphanDependents(ctx, n, o)
		case slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents):
			return c.deleteDependents(ctx, n, o)
		}
		return nil
	}
	return c.collect(ctx, member{n.kind, o})
}

// member is an object with its kind, which metadata do not tell.
type member struct {
	kind *api.Kind
	client.Metadata
}

func (c *Controller) dependents(owner types.UID) []member {
	var all []member
	for kind, informer := range c.informers {
		for _, o := range informer.ByIndex("owners", string(owner)) {
			all = append(all, member{kind, o})
		}
	}
	return all
}

// collect deletes an object if it has owners and none of them exists.
func (c *Controller) collect(ctx context.Context, o member) error {
	if len(o.OwnerReferences) == 0 || o.DeletionTimestamp != nil {
		return nil
	}
	if wanted, err := c.wanted(ctx, o, ""); err != nil || wanted {
		return err
	}
	slog.Info("collecting garbage", "kind", o.kind.Kind, "object", control.Key(o.Metadata), "owner", o.OwnerReferences[0].Kind+"/"+o.OwnerReferences[0].Name)
	return c.delete(ctx, o, metav1.DeletePropagationBackground)
}

// wanted reports whether one of an object's owners exists, but for the one of this UID.
func (c *Controller) wanted(ctx context.Context, o member, except types.UID) (bool, error) {
	for _, owner := range o.OwnerReferences {
		if owner.UID == except {
			continue
		}
		exists, err := c.exists(ctx, o.Namespace, owner)
		if err != nil {
			return false, fmt.Errorf("look for %s %s, owner of %s: %w", owner.Kind, owner.Name, o.Name, err)
		}
		if exists {
			return true, nil
		}
	}
	return false, nil
}

// exists asks the cache and, where that knows nothing, the API server: caches of different kinds are not equally old.
func (c *Controller) exists(ctx context.Context, namespace string, owner metav1.OwnerReference) (bool, error) {
	kind := kindOf(owner)
	if kind == nil {
		return true, nil // of a kind that we do not know: better keep it
	}
	if !kind.Namespaced {
		namespace = ""
	}
	if informer := c.informers[kind]; informer != nil {
		if o, ok := informer.Get(control.JoinKey(namespace, owner.Name)); ok && o.UID == owner.UID {
			return true, nil
		}
	}
	o, err := client.MetadataOf(c.client, kind).Get(ctx, namespace, owner.Name)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && o.UID == owner.UID, err
}

func kindOf(owner metav1.OwnerReference) *api.Kind {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		return nil
	}
	return api.ForGVK(gv.WithKind(owner.Kind))
}

func (c *Controller) delete(ctx context.Context, o member, policy metav1.DeletionPropagation) error {
	_, err := client.MetadataOf(c.client, o.kind).Delete(ctx, o.Namespace, o.Name,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(o.UID)), PropagationPolicy: &policy})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", o.kind.Kind, control.Key(o.Metadata), err)
	}
	return nil
}

// deleteDependents is for an owner that waits to be deleted after all that belongs to it, which waits for what belongs
// to it in turn. What somebody else wants as well stays with them. The deletion of the last dependent brings us back
// to let the owner go.
func (c *Controller) deleteDependents(ctx context.Context, n node, owner client.Metadata) error {
	waiting := false
	for _, o := range c.dependents(n.uid) {
		wanted, err := c.wanted(ctx, o, n.uid)
		switch {
		case err != nil:
		case wanted:
			err = c.release(ctx, o, n.uid)
		case o.DeletionTimestamp == nil && len(c.dependents(o.UID)) > 0:
			waiting, err = true, c.delete(ctx, o, metav1.DeletePropagationForeground)
		case o.DeletionTimestamp == nil:
			waiting, err = true, c.delete(ctx, o, metav1.DeletePropagationBackground)
		default:
			waiting = true
		}
		if err != nil {
			return err
		}
	}
	if waiting {
		return nil
	}
	return c.removeFinalizer(ctx, n, owner, metav1.FinalizerDeleteDependents)
}

// orphanDependents takes the owner out of all that belongs to it, and then lets it go.
func (c *Controller) orphanDependents(ctx context.Context, n node, owner client.Metadata) error {
	for _, o := range c.dependents(n.uid) {
		if err := c.release(ctx, o, n.uid); err != nil {
			return err
		}
	}
	return c.removeFinalizer(ctx, n, owner, metav1.FinalizerOrphanDependents)
}

// release takes an owner out of an object that belongs to it.
func (c *Controller) release(ctx context.Context, o member, owner types.UID) error {
	rest := slices.DeleteFunc(slices.Clone(o.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == owner })
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": o.ResourceVersion, "ownerReferences": rest}}
	_, err := client.MetadataOf(c.client, o.kind).Patch(ctx, o.Namespace, o.Name, "", types.MergePatchType, patch)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("release %s %s: %w", o.kind.Kind, o.Name, err)
	}
	return nil
}

func (c *Controller) removeFinalizer(ctx context.Context, n node, o client.Metadata, name string) error {
	rest := slices.DeleteFunc(slices.Clone(o.Finalizers), func(f string) bool { return f == name })
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": o.ResourceVersion, "finalizers": rest}}
	_, err := client.MetadataOf(c.client, n.kind).Patch(ctx, n.namespace, n.name, "", types.MergePatchType, patch)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// sweepEvents deletes events that nobody will look at any more.
func (c *Controller) sweepEvents(ctx context.Context) error {
	events := client.Of[*corev1.Event](c.client)
	for ctx.Err() == nil {
		control.Sleep(ctx, eventSweep)
		list, err := events.List(ctx, client.Selection{})
		if err != nil {
			continue // the next sweep will do
		}
		for _, e := range list.Items {
			if time.Since(e.CreationTimestamp.Time) > eventLife && time.Since(e.LastTimestamp.Time) > eventLife {
				events.Delete(ctx, e.Namespace, e.Name, metav1.DeleteOptions{})
			}
		}
	}
	return ctx.Err()
}
