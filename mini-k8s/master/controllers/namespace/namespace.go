// Package namespace gives every namespace what each has, empties one that is being deleted, and lets it go when nothing is
// left in it.
//
// Invariants:
//  1. A namespace disappears only after everything in it has: the API server takes in nothing new meanwhile.
//  2. Pods in it get their grace period, like all pods.
//  3. Until then, what every namespace has is there, and as it was: the ServiceAccount of pods that name none, and the
//     certificate of the cluster's CA, by which they know the API server.
//
// In Kubernetes: pkg/controller/namespace/deletion, which finds the kinds by discovery and reports in conditions what
// still keeps a namespace; pkg/controller/serviceaccount and pkg/controller/certificates/rootcacertpublisher.
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

	accountName = "default"
	rootCAName  = "kube-root-ca.crt"
	rootCAKey   = "ca.crt"
)

// Controller runs the loop.
type Controller struct {
	*control.Loop
	client     *client.Client
	rootCA     map[string]string
	namespaces *control.Objects[*corev1.Namespace]
	accounts   *control.Objects[*corev1.ServiceAccount]
	maps       *control.Objects[*corev1.ConfigMap]
}

// New returns a controller that does nothing until Run. The CA's certificate is in PEM.
func New(deps control.Deps, rootCA []byte) *Controller {
	deps = deps.As("namespace-controller")
	c := &Controller{client: deps.Client, rootCA: map[string]string{rootCAKey: string(rootCA)},
		namespaces: control.Of[*corev1.Namespace](deps),
		accounts:   named[*corev1.ServiceAccount](deps, accountName), maps: named[*corev1.ConfigMap](deps, rootCAName)}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Watch(c.Loop, c.namespaces, control.Itself)
	control.Watch(c.Loop, c.accounts, namespaceOf)
	control.Watch(c.Loop, c.maps, namespaceOf)
	return c
}

// named returns the objects of one name: the others may be many, and large.
func named[T api.Object](deps control.Deps, name string) *control.Objects[T] {
	return control.Some(deps, client.Of[T](deps.Client), client.Selection{Fields: "metadata.name=" + name})
}

func namespaceOf[T api.Object](o T) []string { return []string{o.GetNamespace()} }

// reconcile puts into a namespace what is missing, or deletes what is in one that is being deleted, until nothing is left.
func (c *Controller) reconcile(ctx context.Context, name string) error {
	ns, ok := c.namespaces.Get(name)
	if !ok {
		return nil
	}
	if ns.DeletionTimestamp == nil {
		return c.furnish(ctx, name)
	}
	left, err := c.empty(ctx, name)
	if err != nil {
		return err
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

// furnish makes what every namespace has, and makes it again what it was.
func (c *Controller) furnish(ctx context.Context, name string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: accountName}}
	if err := c.accounts.Ensure(ctx, account, func(*corev1.ServiceAccount) {}); err != nil {
		return err
	}
	certificate := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: rootCAName}, Data: c.rootCA}
	return c.maps.Ensure(ctx, certificate, func(m *corev1.ConfigMap) { m.Data, m.BinaryData = c.rootCA, nil })
}

// empty deletes all that is in a namespace and returns how much was there.
func (c *Controller) empty(ctx context.Context, namespace string) (left int, err error) {
	for _, kind := range api.Kinds {
		if !kind.Namespaced {
			continue
		}
		objects := client.MetadataOf(c.client, kind)
		list, err := objects.List(ctx, client.Selection{Namespace: namespace})
		if err != nil {
			return 0, fmt.Errorf("list %s: %w", kind.Resource, err)
		}
		left += len(list.Items)
		for _, o := range list.Items {
			if o.DeletionTimestamp != nil {
				continue
			}
			if _, err := objects.Delete(ctx, namespace, o.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return 0, fmt.Errorf("delete %s %s: %w", kind.Kind, o.Name, err)
			}
		}
	}
	return left, nil
}
