package apiserver

import (
	"context"
	"errors"
	"fmt"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bootstrap makes the namespaces that every cluster has, where they are missing.
func (s *Server) bootstrap(ctx context.Context) error {
	kind := api.KindOf[*corev1.Namespace]()
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		object := kind.New()
		object.SetName(name)
		prepareCreate(kind, object)
		kind.Default(object)
		value, err := encode(object)
		if err != nil {
			return err
		}
		if _, err := s.Store.Create(ctx, keyOf(kind, "", name), value, "apiserver"); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	return nil
}
