package garbage

import (
	"context"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	eventLife  = time.Hour       // how long events are kept
	eventSweep = 5 * time.Minute // how often old ones are looked for
)

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
