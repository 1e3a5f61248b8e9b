package api

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ScaleKind is what the subresource "scale" sends and takes.
var ScaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// ScaleOf returns the part of an object that `kubectl scale` and the autoscaler see: the same for all kinds.
func ScaleOf(o Object) *autoscalingv1.Scale {
	wanted, have, selector := scaleParts(o)
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp()},
		Spec:   autoscalingv1.ScaleSpec{Replicas: **wanted},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: metav1.FormatLabelSelector(selector)},
	}
	scale.SetGroupVersionKind(ScaleKind)
	return scale
}

// SetScale gives an object the replicas that the scale asks for.
func SetScale(o Object, scale *autoscalingv1.Scale) {
	wanted, _, _ := scaleParts(o)
	*wanted = &scale.Spec.Replicas
}

// scaleParts returns where an object keeps how many replicas it should have, has, and which they are.
func scaleParts(o Object) (wanted **int32, have int32, selector *metav1.LabelSelector) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	case *appsv1.ReplicaSet:
		return &o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	}
	panic(fmt.Sprintf("api: %T does not scale", o))
}
