// Package autoscaler gives every target of a HorizontalPodAutoscaler as many pods as it takes for each to be as busy as
// is wanted: it asks for the pods' metrics, computes how many pods would be right, and sets the target's replicas.
//
// Invariants:
//  1. The target never gets fewer replicas than minReplicas or more than maxReplicas. One that was scaled to 0 is off.
//  2. What is not known speaks against a change: a pod without metrics counts as idle when the others are too busy, and
//     as busy when they are idle. With no metrics at all nothing changes.
//  3. Growing is quick, shrinking waits: of what was recommended in the stabilization window the highest counts.
//
// In Kubernetes: pkg/controller/podautoscaler, which knows metrics of other objects and of systems outside as well, and
// scales whatever has a subresource scale.
package autoscaler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	workers = 4
	// period is how often each autoscaler looks; it is short, to be watched: in Kubernetes it is 15 s.
	period = 5 * time.Second
)

// Controller runs the loop.
type Controller struct {
	*control.Loop
	autoscalers *control.Objects[*autoscalingv2.HorizontalPodAutoscaler]
	deployments *control.Objects[*appsv1.Deployment]
	sets        *control.Objects[*appsv1.ReplicaSet]
	pods        *control.Objects[*corev1.Pod]
	client      *client.Client
	events      *control.Events
	memories    sync.Map // of key to *memory
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("horizontal-pod-autoscaler")
	c := &Controller{autoscalers: control.Of[*autoscalingv2.HorizontalPodAutoscaler](deps), deployments: control.Of[*appsv1.Deployment](deps),
		sets: control.Of[*appsv1.ReplicaSet](deps), pods: control.Of[*corev1.Pod](deps), client: deps.Client, events: deps.Events}
	c.pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Subscribe(c.Loop, c.autoscalers, func(old, h *autoscalingv2.HorizontalPodAutoscaler) {
		switch {
		case h == nil:
			c.Add(control.Key(old))
		case old == nil || old.Generation != h.Generation: // its status is written here
			c.Add(control.Key(h))
		}
	})
	control.Read(c.Loop, c.deployments)
	control.Read(c.Loop, c.sets)
	control.Read(c.Loop, c.pods)
	return c
}

// reconcile looks at one autoscaler, each period. A failure stands in its conditions, and the next period tries again.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	h, ok := c.autoscalers.Get(key)
	if !ok {
		c.memories.Delete(key)
		return nil
	}
	c.AddAfter(key, period)
	now := time.Now()
	status := statusFor(h)
	t, err := c.target(h)
	if err != nil {
		c.events.Warning(h, "FailedGetScale", "%v", err)
		status.condition(autoscalingv2.AbleToScale, false, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", err)
		return c.report(ctx, h, status)
	}
	held, _ := c.memories.LoadOrStore(key, &memory{})
	m := held.(*memory)
	usage, err := c.usage(ctx, h.Namespace, t.selector)
	wanted := decide(h, status, t.replicas, sample{pods: c.podsOf(h.Namespace, t.selector), usage: usage, failure: err, now: now}, m)
	if status.failure != nil {
		c.events.Warning(h, status.failureReason, "%v", status.failure)
	}
	if wanted != t.replicas {
		if err := t.scale(ctx, wanted); err != nil {
			c.events.Warning(h, "FailedRescale", "New size: %d; reason: %s; error: %v", wanted, status.why, err)
			status.condition(autoscalingv2.AbleToScale, false, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
			return c.report(ctx, h, status)
		}
		m.scaled(t.replicas, wanted, now)
		slog.Info("autoscaling", "autoscaler", key, "from", t.replicas, "to", wanted, "reason", status.why)
		c.events.Normal(h, "SuccessfulRescale", "New size: %d; reason: %s", wanted, status.why)
		status.condition(autoscalingv2.AbleToScale, true, "SucceededRescale", "the HPA controller was able to update the target scale to %d", wanted)
		status.LastScaleTime = &metav1.Time{Time: now.Truncate(time.Second)}
	}
	return c.report(ctx, h, status)
}

func (c *Controller) report(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, s *status) error {
	_, err := c.autoscalers.ChangeStatus(ctx, h, func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Status = s.HorizontalPodAutoscalerStatus
	})
	return err
}

// target is what an autoscaler scales.
type target struct {
	replicas int32
	selector labels.Selector
	scale    func(ctx context.Context, replicas int32) error
}

func (c *Controller) target(h *autoscalingv2.HorizontalPodAutoscaler) (target, error) {
	ref, key := h.Spec.ScaleTargetRef, control.JoinKey(h.Namespace, h.Spec.ScaleTargetRef.Name)
	switch ref.Kind {
	case "Deployment":
		if d, ok := c.deployments.Get(key); ok {
			return targetOf(c.deployments, d)
		}
	case "ReplicaSet":
		if rs, ok := c.sets.Get(key); ok {
			return targetOf(c.sets, rs)
		}
	}
	return target{}, fmt.Errorf("%s %q not found", ref.Kind, ref.Name)
}

func targetOf[T api.Object](objects *control.Objects[T], o T) (target, error) {
	scale := api.ScaleOf(o)
	selector, err := labels.Parse(scale.Status.Selector)
	return target{scale.Spec.Replicas, selector, func(ctx context.Context, wanted int32) error {
		scale.Spec.Replicas = wanted
		_, err := objects.Change(ctx, o, func(o T) { api.SetScale(o, scale) })
		return err
	}}, err
}

func (c *Controller) podsOf(namespace string, selector labels.Selector) (pods []*corev1.Pod) {
	for _, pod := range c.pods.ByIndex("namespace", namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// usage asks how busy the pods are, by their names. Those of which nobody knows are not there.
func (c *Controller) usage(ctx context.Context, namespace string, selector labels.Selector) (map[string]api.Metrics, error) {
	answer, _, err := c.client.Do(ctx, client.Request{Method: http.MethodGet, Path: "/apis/metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods",
		Query: url.Values{"labelSelector": {selector.String()}}})
	if err != nil {
		return nil, fmt.Errorf("unable to get metrics from resource metrics API: %w", err)
	}
	var list struct{ Items []api.Metrics }
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("read the pods' metrics: %w", err)
	}
	known := map[string]api.Metrics{}
	for _, m := range list.Items {
		known[m.Name] = m
	}
	return known, nil
}
