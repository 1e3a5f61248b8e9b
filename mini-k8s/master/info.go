package master

import (
	"context"
	"fmt"

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
	maps := client.Of[*corev1.ConfigMap](m.Client("component:master", "master"))
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: infoName},
		Data:       map[string]string{"name": m.Name, "clusterCIDR": m.ClusterCIDR.String(), "serviceCIDR": m.ServiceCIDR.String()},
	}
	_, err := maps.Create(ctx, wanted)
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(ctx, wanted)
	}
	if err != nil {
		return fmt.Errorf("publish the cluster's name and addresses: %w", err)
	}
	return nil
}

// ReadClusterInfo returns what the master has published.
func ReadClusterInfo(ctx context.Context, c *client.Client) (ClusterInfo, error) {
	found, err := client.Of[*corev1.ConfigMap](c).Get(ctx, metav1.NamespacePublic, infoName)
	if err != nil {
		return ClusterInfo{}, fmt.Errorf("ask the master for the cluster's name and addresses: %w", err)
	}
	return ClusterInfo{Name: found.Data["name"], ClusterCIDR: found.Data["clusterCIDR"], ServiceCIDR: found.Data["serviceCIDR"]}, nil
}
