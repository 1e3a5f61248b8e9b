package master

import (
	"context"
	"fmt"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// infoName is the ConfigMap in kube-public in which a worker that joins finds what it must know. kubeadm's has the
// same name.
const infoName = "cluster-info"

// ClusterInfo is what all members of a cluster must agree on.
type ClusterInfo struct{ Name, ClusterCIDR, ServiceCIDR string }

// publishInfo writes the ConfigMap.
func (m *Master) publishInfo(ctx context.Context) error {
	err := publish(ctx, m, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: infoName},
		Data:       map[string]string{"name": m.Name, "clusterCIDR": m.ClusterCIDR.String(), "serviceCIDR": m.ServiceCIDR.String()},
	})
	if err != nil {
		return fmt.Errorf("publish the cluster's name and addresses: %w", err)
	}
	return nil
}

// publish makes an object what it is to be, and creates it if it is not there.
func publish[T api.Object](ctx context.Context, m *Master, wanted T) error {
	objects := client.Of[T](m.Client("component:master", "master"))
	_, err := objects.Update(ctx, wanted)
	if apierrors.IsNotFound(err) {
		_, err = objects.Create(ctx, wanted)
	}
	return err
}

// ReadClusterInfo returns what the master has published.
func ReadClusterInfo(ctx context.Context, c *client.Client) (ClusterInfo, error) {
	found, err := client.Of[*corev1.ConfigMap](c).Get(ctx, metav1.NamespacePublic, infoName)
	if err != nil {
		return ClusterInfo{}, fmt.Errorf("ask the master for the cluster's name and addresses: %w", err)
	}
	return ClusterInfo{Name: found.Data["name"], ClusterCIDR: found.Data["clusterCIDR"], ServiceCIDR: found.Data["serviceCIDR"]}, nil
}
