package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"
)

const (
	readyTimeout = 90 * time.Second
	demoTimeout  = 2 * time.Minute
)

//go:embed demo.yaml
var demo []byte

// startWorkers waits until all nodes are ready: they have been starting since the master runs.
func (c *Cluster) startWorkers(ctx context.Context) (string, error) {
	ready := map[string]bool{}
	err := waitFor(ctx, c, readyTimeout, func(node *corev1.Node) bool {
		for _, w := range c.workers {
			// With another port it is what the last run has said.
			if w.Node == node.Name && w.Port() == node.Status.DaemonEndpoints.KubeletEndpoint.Port && api.NodeReady(node) {
				ready[node.Name] = true
			}
		}
		return len(ready) == len(c.workers)
	})
	if err != nil {
		return "", fmt.Errorf("wait for the workers, of which %d are not ready: %w", len(c.workers)-len(ready), err)
	}
	c.endTurn() // every node has its network
	if c.docker == nil {
		return "all ready; hollow: their pods are simulated", nil
	}
	return "all ready", nil
}

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

// waitFor watches the objects of a kind until done says so of one, the cluster ends, or the time is up.
func waitFor[T api.Object](ctx context.Context, c *Cluster, timeout time.Duration, done func(T) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("that takes longer than %v", timeout))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go func() {
		if err := c.Wait(ctx); err != nil {
			giveUp(err)
		}
	}()
	for ctx.Err() == nil {
		for event, err := range client.Of[T](c.Client()).Watch(ctx, client.Selection{}, "") {
			if err != nil {
				break
			}
			if done(event.Object) {
				return nil
			}
		}
		control.Sleep(ctx, 50*time.Millisecond)
	}
	return context.Cause(ctx)
}
