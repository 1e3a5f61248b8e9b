package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"

	"workshop/mini-k8s/api"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

type handler = func(http.ResponseWriter, *request) error

// subresource returns the handlers of a subresource by method. A subresource is a part of an object with a door
// of its own, so that who may write the one need not be allowed the other.
func (s *Server) subresource(name string) map[string]handler {
	switch name {
	case "status", "finalize":
		return map[string]handler{
			"GET":   s.get,
			"PUT":   func(w http.ResponseWriter, r *request) error { return s.put(w, r, name) },
			"PATCH": func(w http.ResponseWriter, r *request) error { return s.patchPart(w, r, name) },
		}
	case "scale":
		return map[string]handler{"GET": s.getScale, "PUT": s.putScale, "PATCH": s.putScale}
	case "binding":
		return map[string]handler{"POST": s.bind}
	case "eviction":
		return map[string]handler{"POST": s.evict}
	case "log":
		return map[string]handler{"GET": s.logs}
	}
	panic("apiserver: no handlers for the subresource " + name)
}

// scaleParts returns where an object keeps how many replicas it should have, has, and which they are.
func scaleParts(o api.Object) (wanted **int32, have int32, selector *metav1.LabelSelector) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	case *appsv1.ReplicaSet:
		return &o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	}
	panic(fmt.Sprintf("apiserver: %T does not scale", o))
}

// scaleOf returns the part of an object that `kubectl scale` and the autoscaler see: the same for all kinds.
func scaleOf(o api.Object) *autoscalingv1.Scale {
	wanted, have, selector := scaleParts(o)
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp()},
		Spec:   autoscalingv1.ScaleSpec{Replicas: **wanted},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: metav1.FormatLabelSelector(selector)},
	}
}

func (s *Server) getScale(w http.ResponseWriter, r *request) error {
	object, _, err := s.read(r.Context(), r.kind, r.namespace, r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, scaleOf(object))
}

// putScale takes a whole Scale or a merge patch of one.
func (s *Server) putScale(w http.ResponseWriter, r *request) error {
	if r.Method == http.MethodPatch {
		if contentType := r.Header.Get("Content-Type"); contentType != string(types.MergePatchType) {
			return unsupportedMediaType(contentType, string(types.MergePatchType))
		}
		r.Header.Set("Content-Type", "application/json")
	}
	sent, err := r.readBody()
	if err != nil {
		return err
	}
	answer := &scaleAnswer{ResponseWriter: w, kind: r.kind}
	return s.replace(answer, r, "scale", func(current api.Object) (api.Object, error) {
		scale, body := &autoscalingv1.Scale{}, sent
		if r.Method == http.MethodPatch {
			before, err := json.Marshal(scaleOf(current))
			if err != nil {
				return nil, err
			}
			if body, err = jsonpatch.MergePatch(before, sent); err != nil {
				return nil, apierrors.NewBadRequest("the patch cannot be applied: " + err.Error())
			}
		}
		if err := json.Unmarshal(body, scale); err != nil {
			return nil, apierrors.NewBadRequest("the body is not a Scale: " + err.Error())
		}
		object := current.DeepCopyObject().(api.Object)
		if r.Method == http.MethodPut || mentionsRevision(sent) {
			object.SetResourceVersion(scale.ResourceVersion)
		} else {
			object.SetResourceVersion("")
		}
		wanted, _, _ := scaleParts(object)
		*wanted = &scale.Spec.Replicas
		return object, nil
	})
}

// scaleAnswer turns the object that replace answers with into its Scale.
type scaleAnswer struct {
	http.ResponseWriter
	kind *api.Kind
}

func (a *scaleAnswer) Write(data []byte) (int, error) {
	object := a.kind.New()
	if err := json.Unmarshal(data, object); err != nil {
		return 0, err
	}
	scale, err := json.Marshal(scaleOf(object))
	if err != nil {
		return 0, err
	}
	return a.ResponseWriter.Write(scale)
}

// bind gives a pod to a node: the scheduler's one and only write. A pod is bound once.
func (s *Server) bind(w http.ResponseWriter, r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	var binding corev1.Binding
	if err := json.Unmarshal(body, &binding); err != nil {
		return apierrors.NewBadRequest("the body is not a Binding: " + err.Error())
	}
	if binding.Target.Name == "" {
		return apierrors.NewBadRequest("target.name: the node to bind the pod to is required")
	}
	return s.replace(w, r, "binding", func(current api.Object) (api.Object, error) {
		pod := current.DeepCopyObject().(*corev1.Pod)
		if binding.UID != "" && binding.UID != pod.UID {
			return nil, apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("another pod has its name now: its UID is %s, not %s", pod.UID, binding.UID))
		}
		if pod.DeletionTimestamp != nil {
			return nil, apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", r.name))
		}
		if pod.Spec.NodeName != "" {
			return nil, apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf("pod %s is already assigned to node %q", r.name, pod.Spec.NodeName))
		}
		pod.Spec.NodeName = binding.Target.Name
		api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
		return pod, nil
	})
}

// evict deletes a pod on behalf of someone who empties its node.
func (s *Server) evict(w http.ResponseWriter, r *request) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	var eviction struct {
		DeleteOptions metav1.DeleteOptions `json:"deleteOptions"`
	}
	if err := json.Unmarshal(body, &eviction); err != nil {
		return apierrors.NewBadRequest("the body is not an Eviction: " + err.Error())
	}
	return s.remove(w, r, eviction.DeleteOptions)
}
