package cluster

import (
	"context"
	_ "embed"
	"fmt"

	"workshop/mini-k8s/client"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"
)

//go:embed demo.yaml
var demo []byte

// deployDemo creates the demo application, if it is not there yet, and waits until it is available.
func (c *Cluster) deployDemo(ctx context.Context) (string, error) {
	var wanted appsv1.Deployment
	if err := yaml.UnmarshalStrict(demo, &wanted); err != nil {
		return "", fmt.Errorf("read the demo: %w", err)
	}
	if _, err := client.Of[*appsv1.Deployment](c.Client()).Create(ctx, &wanted); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create the demo: %w", err)
	}
	note := ""
	err := waitFor(ctx, c, demoTimeout, func(d *appsv1.Deployment) bool {
		note = fmt.Sprintf("deployment %s: %d/%d pods run", d.Name, d.Status.AvailableReplicas, *d.Spec.Replicas)
		return d.Name == wanted.Name && d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas >= *d.Spec.Replicas
	})
	if err != nil {
		return "", fmt.Errorf("wait for the demo: %w", err)
	}
	return note, nil
}
