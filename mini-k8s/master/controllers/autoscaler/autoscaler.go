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
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
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
	pods        *control.Objects[*corev1.Pod]
	client      *client.Client
	events      *control.Events
	memories    sync.Map // of key to *memory
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("horizontal-pod-autoscaler")
	c := &Controller{autoscalers: control.Of[*autoscalingv2.HorizontalPodAutoscaler](deps), pods: control.Of[*corev1.Pod](deps),
		client: deps.Client, events: deps.Events}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Subscribe(c.Loop, c.autoscalers, func(old, h *autoscalingv2.HorizontalPodAutoscaler) {
		if old == nil || h == nil || old.Generation != h.Generation { // its status is written here
			c.Add(control.Key(cmp.Or(h, old)))
		}
	})
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
	s := &status{HorizontalPodAutoscalerStatus: *h.Status.DeepCopy()}
	s.ObservedGeneration = &h.Generation
	c.look(ctx, h, s)
	_, err := c.autoscalers.ChangeStatus(ctx, h, func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Status = s.HorizontalPodAutoscalerStatus })
	return err
}

// look asks for the target and how busy its pods are, scales it if need be, and writes down in the status how that went.
func (c *Controller) look(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, s *status) {
	path := fmt.Sprintf("/apis/apps/v1/namespaces/%s/%ss/%s/scale", // the API server has refused other kinds
		h.Namespace, strings.ToLower(h.Spec.ScaleTargetRef.Kind), url.PathEscape(h.Spec.ScaleTargetRef.Name))
	scale := &autoscalingv1.Scale{}
	if err := c.call(ctx, client.Request{Method: http.MethodGet, Path: path}, scale); err != nil {
		c.events.Warning(h, "FailedGetScale", "%v", err)
		s.condition(autoscalingv2.AbleToScale, false, "FailedGetScale",
			"the HPA controller was unable to get the target's current scale: %v", err)
		return
	}
	replicas, now := scale.Spec.Replicas, time.Now()
	held, _ := c.memories.LoadOrStore(control.Key(h), &memory{})
	m := held.(*memory)
	decide(h, s, replicas, c.sample(ctx, h.Namespace, scale.Status.Selector, now), m)
	if s.failure != nil {
		c.events.Warning(h, failedMetric, "%v", s.failure)
	}
	wanted := s.DesiredReplicas
	if wanted == replicas {
		return
	}
	scale.Spec.Replicas = wanted
	body, err := json.Marshal(scale)
	if err == nil {
		err = c.call(ctx, client.Request{Method: http.MethodPut, Path: path, Body: body}, scale)
	}
	if err != nil {
		c.events.Warning(h, "FailedRescale", "New size: %d; reason: %s; error: %v", wanted, s.why, err)
		s.condition(autoscalingv2.AbleToScale, false, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
		return
	}
	m.scaled = append(within(m.scaled, longest, now), change{wanted - replicas, now})
	slog.Info("autoscaling", "autoscaler", control.Key(h), "from", replicas, "to", wanted, "reason", s.why)
	c.events.Normal(h, "SuccessfulRescale", "New size: %d; reason: %s", wanted, s.why)
	s.condition(autoscalingv2.AbleToScale, true, "SucceededRescale", "the HPA controller was able to update the target scale to %d", wanted)
	s.LastScaleTime = &metav1.Time{Time: now.Truncate(time.Second)}
}

// sample asks which pods there are and how busy they are. Those of which nobody knows have no usage.
func (c *Controller) sample(ctx context.Context, namespace, selector string, now time.Time) sample {
	var list struct{ Items []api.Metrics }
	parsed, err := labels.Parse(selector)
	if err == nil {
		err = c.call(ctx, client.Request{Method: http.MethodGet, Path: "/apis/metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods",
			Query: url.Values{"labelSelector": {selector}}}, &list)
	}
	if err != nil {
		return sample{failure: fmt.Errorf("unable to get metrics from resource metrics API: %w", err), now: now}
	}
	known := sample{pods: c.pods.Selected(namespace, parsed), usage: map[string]api.Metrics{}, now: now}
	for _, m := range list.Items {
		known.usage[m.Name] = m
	}
	return known
}

// call asks the API server for what is no object of a kind.
func (c *Controller) call(ctx context.Context, request client.Request, into any) error {
	answer, _, err := c.client.Do(ctx, request)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}
