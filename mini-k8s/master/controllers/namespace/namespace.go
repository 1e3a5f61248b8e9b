// Package namespace gives every namespace what each has, empties one that is being deleted, and lets it go when nothing is
// left in it.
//
// Invariants:
//  1. A namespace disappears only after everything in it has: the API server takes in nothing new meanwhile.
//  2. Pods in it get their grace period, like all pods.
//  3. Until then, what every namespace has is there, and as it was.
//
// In Kubernetes: pkg/controller/namespace/deletion, which finds the kinds by discovery and reports in conditions what
// still keeps a namespace.
package namespace

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	workers = 2
	// recheck is how often a namespace with something left in it is looked at.
	recheck = 500 * time.Millisecond
)

// Controller runs the loop.
type Controller struct {
	*control.Loop
	client     *client.Client
	namespaces *control.Objects[*corev1.Namespace]
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("namespace-controller")
	c := &Controller{client: deps.Client, namespaces: control.Of[*corev1.Namespace](deps)}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Watch(c.Loop, c.namespaces, control.Itself)
	return c
}

// reconcile deletes what is in a namespace that is being deleted, until nothing is left.
func (c *Controller) reconcile(ctx context.Context, name string) error {
	ns, ok := c.namespaces.Get(name)
	if !ok || ns.DeletionTimestamp == nil {
		return nil
	}
	left := 0
	for _, kind := range api.Kinds {
		if !kind.Namespaced {
			continue
		}
		n, err := c.empty(ctx, kind, name)
		if err != nil {
			return err
		}
		left += n
	}
	if left > 0 {
		c.AddAfter(name, recheck)
		return nil
	}
	changed := ns.DeepCopy()
	changed.Spec.Finalizers = nil
	if _, err := c.namespaces.Resource.UpdateSubresource(ctx, changed, "finalize"); err != nil {
		return fmt.Errorf("finalize: %w", err)
	}
	slog.Info("namespace is empty and gone", "namespace", name)
	return nil
}

// empty deletes all objects of a kind in a namespace and returns how many were there.
func (c *Controller) empty(ctx context.Context, kind *api.Kind, namespace string) (int, error) {
	objects := client.MetadataOf(c.client, kind)
	list, err := objects.List(ctx, client.Selection{Namespace: namespace})
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", kind.Resource, err)
	}
	for _, o := range list.Items {
		if o.DeletionTimestamp != nil {
			continue
		}
		if _, err := objects.Delete(ctx, namespace, o.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete %s %s: %w", kind.Kind, o.Name, err)
		}
	}
	return len(list.Items), nil
}
