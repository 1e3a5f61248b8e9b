package garbage

// What goes because its time is over.

import (
	"context"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/util/secrets"
)

const (
	eventLife  = time.Hour       // how long events are kept
	sweepEvery = 5 * time.Minute // how often what has expired is looked for
)

// sweep deletes events that nobody will look at any more, and join tokens that are good for nothing.
func (c *Controller) sweep(ctx context.Context) error {
	tokens := client.Selection{Namespace: metav1.NamespaceSystem, Fields: "type=" + string(bootstrap.SecretTypeBootstrapToken)}
	for ctx.Err() == nil {
		control.Sleep(ctx, sweepEvery)
		removeExpired(ctx, c.client, client.Selection{}, func(e *corev1.Event) bool {
			return time.Since(e.CreationTimestamp.Time) > eventLife && time.Since(e.LastTimestamp.Time) > eventLife
		})
		removeExpired(ctx, c.client, tokens, func(s *corev1.Secret) bool { return secrets.HasExpired(s, time.Now()) })
	}
	return ctx.Err()
}

// removeExpired deletes those of a selection that have expired. What fails is left to the next sweep.
func removeExpired[T api.Object](ctx context.Context, c *client.Client, selection client.Selection, expired func(T) bool) {
	objects := client.Of[T](c)
	list, err := objects.List(ctx, selection)
	if err != nil {
		return
	}
	for _, o := range list.Items {
		if expired(o) {
			objects.Delete(ctx, o.GetNamespace(), o.GetName(), metav1.DeleteOptions{})
		}
	}
}
