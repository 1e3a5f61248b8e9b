// Package replicaset keeps the promise of every ReplicaSet: so many pods of its template, no more and no fewer.
//
// Invariants:
//  1. It counts only pods that it owns: by a controller reference with the ReplicaSet's UID. Pods that match the
//     selector and belong to nobody are adopted; owned pods that no longer match are let go.
//  2. It never makes a pod twice because its cache is old: a look begins when the cache shows all that the loop has
//     written. Revisions are one sequence for the whole store, so "shows" is a comparison of numbers.
//  3. A look at a ReplicaSet that is as it should be writes nothing.
//
// In Kubernetes: pkg/controller/replicaset. There revisions were opaque to clients until KEP-5504, so it counts the
// watch events that it expects from its own writes (UIDTrackingControllerExpectations) to reach the second one.
package replicaset

import (
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const workers = 4

var controllerKind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Controller runs the loop.
type Controller struct {
	*control.Loop
	sets   *control.Objects[*appsv1.ReplicaSet]
	pods   *control.Objects[*corev1.Pod]
	events *control.Events
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As("replicaset-controller")
	c := &Controller{sets: control.Of[*appsv1.ReplicaSet](deps), pods: control.Of[*corev1.Pod](deps), events: deps.Events}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Watch(c.Loop, c.sets, control.Itself)
	control.Watch(c.Loop, c.pods, c.setsOf)
	return c
}

// setsOf returns the ReplicaSet that a pod belongs to, or, for a pod that nobody owns, all that would adopt it.
func (c *Controller) setsOf(pod *corev1.Pod) (keys []string) {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		if owner.Kind == controllerKind.Kind {
			keys = append(keys, control.JoinKey(pod.Namespace, owner.Name))
		}
		return keys
	}
	for _, rs := range c.sets.ByIndex("namespace", pod.Namespace) {
		if selectorOf(rs).Matches(labels.Set(pod.Labels)) {
			keys = append(keys, control.Key(rs))
		}
	}
	return keys
}
