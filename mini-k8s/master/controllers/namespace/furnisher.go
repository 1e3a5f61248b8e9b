package namespace

import (
	"context"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What every namespace has.
const (
	accountName = "default"
	rootCAName  = "kube-root-ca.crt"
	rootCAKey   = "ca.crt"
)

// Furnisher sees to it that every namespace has the ServiceAccount of pods that name none, and the certificate of the
// cluster's CA, by which they know the API server.
//
// In Kubernetes: pkg/controller/serviceaccount and pkg/controller/certificates/rootcacertpublisher.
type Furnisher struct {
	*control.Loop
	rootCA     map[string]string
	namespaces *control.Objects[*corev1.Namespace]
	accounts   *control.Objects[*corev1.ServiceAccount]
	maps       *control.Objects[*corev1.ConfigMap]
}

// NewFurnisher returns one that does nothing until Run. The certificate is in PEM.
func NewFurnisher(deps control.Deps, rootCA []byte) *Furnisher {
	deps = deps.As("namespace-furnisher")
	f := &Furnisher{rootCA: map[string]string{rootCAKey: string(rootCA)}, namespaces: control.Of[*corev1.Namespace](deps),
		accounts: named[*corev1.ServiceAccount](deps, accountName), maps: named[*corev1.ConfigMap](deps, rootCAName)}
	f.Loop = control.NewLoop(deps, workers, f.reconcile)
	control.Watch(f.Loop, f.namespaces, control.Itself)
	control.Watch(f.Loop, f.accounts, func(a *corev1.ServiceAccount) []string { return []string{a.Namespace} })
	control.Watch(f.Loop, f.maps, func(m *corev1.ConfigMap) []string { return []string{m.Namespace} })
	return f
}

// named returns the objects of one name: the others may be many, and large.
func named[T api.Object](deps control.Deps, name string) *control.Objects[T] {
	objects := client.Of[T](deps.Client)
	return &control.Objects[T]{Resource: objects, Informer: control.NewInformer(objects, client.Selection{Fields: "metadata.name=" + name})}
}

// Run furnishes until the context ends.
func (f *Furnisher) Run(ctx context.Context) error {
	return control.Run(ctx, control.Component{Name: "accounts", Run: f.accounts.Run}, control.Component{Name: "certificates", Run: f.maps.Run},
		control.Component{Name: "queue", Run: f.Loop.Run})
}

// reconcile puts into a namespace what is missing, and makes it again what it was.
func (f *Furnisher) reconcile(ctx context.Context, name string) error {
	ns, ok := f.namespaces.Get(name)
	if !ok || ns.DeletionTimestamp != nil {
		return nil
	}
	if _, ok := f.accounts.Get(control.JoinKey(name, accountName)); !ok {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: accountName}}
		if _, err := f.accounts.Create(ctx, account); err != nil {
			return err
		}
	}
	found, ok := f.maps.Get(control.JoinKey(name, rootCAName))
	if !ok {
		_, err := f.maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: rootCAName}, Data: f.rootCA})
		return err
	}
	_, err := f.maps.Change(ctx, found, func(m *corev1.ConfigMap) { m.Data, m.BinaryData = f.rootCA, nil })
	return err
}
