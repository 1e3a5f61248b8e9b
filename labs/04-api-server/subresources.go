package apiserver

import (
	"maps"
	"net/http"
	"slices"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/bodies"
	"workshop/mini-k8s/master/apiserver/discovery"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// subresource is a part of an object with a door of its own, so that who may write the one need not be allowed the
// other.
type subresource struct {
	verbs map[string]handler
	takes schema.GroupVersionKind // what is sent and answered; empty: the object itself
}

func (s *Server) subresource(name string) subresource {
	part := map[string]handler{"get": s.get, "update": s.update, "patch": s.patch}
	switch name {
	case "status", "finalize":
		return subresource{verbs: part}
	case "scale":
		return subresource{part, api.ScaleKind}
	case "binding":
		return subresource{map[string]handler{"create": s.bind}, corev1.SchemeGroupVersion.WithKind("Binding")}
	case "eviction":
		return subresource{map[string]handler{"create": s.evict}, policyv1.SchemeGroupVersion.WithKind("Eviction")}
	case "log":
		return subresource{verbs: map[string]handler{"get": s.pass}}
	case "exec", "attach", "portforward":
		kind := map[string]string{"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}[name]
		return subresource{map[string]handler{"create": s.pass, "get": s.pass}, corev1.SchemeGroupVersion.WithKind(kind)}
	case "history":
		return subresource{verbs: map[string]handler{"get": s.history}}
	}
	panic("apiserver: no handlers for the subresource " + name)
}

// describe says of a subresource what clients find out.
func (s *Server) describe(name string) discovery.Subresource {
	part := s.subresource(name)
	return discovery.Subresource{Verbs: slices.Sorted(maps.Keys(part.verbs)), Takes: part.takes}
}

// empty returns an empty object of what the request sends: of its kind, or a Scale.
func (r *request) empty() api.Object {
	if r.subresource == "scale" {
		scale := &autoscalingv1.Scale{}
		scale.SetGroupVersionKind(api.ScaleKind)
		return scale
	}
	return r.kind.New()
}

// part returns what the request shows of an object: the whole, or its Scale.
func (r *request) part(o api.Object) api.Object {
	if r.subresource == "scale" {
		return api.ScaleOf(o)
	}
	return o
}

// bind gives a pod to a node: the scheduler's one and only write. A pod is bound once.
func (s *Server) bind(w http.ResponseWriter, r *request) error {
	var binding corev1.Binding
	if err := bodies.Into(r.Request, &binding, "a Binding"); err != nil {
		return err
	}
	if binding.Target.Name == "" {
		return badRequest("target.name: the node to bind the pod to is required")
	}
	return s.replace(w, r, func(object api.Object) (api.Object, error) {
		pod := object.(*corev1.Pod)
		if err := r.checkIdentity(pod, &binding.UID, nil); err != nil {
			return nil, err
		}
		if pod.DeletionTimestamp != nil {
			return nil, r.conflict("pod %s is being deleted, cannot be assigned to a host", r.name)
		}
		if pod.Spec.NodeName != "" {
			return nil, r.conflict("pod %s is already assigned to node %q", r.name, pod.Spec.NodeName)
		}
		pod.Spec.NodeName = binding.Target.Name
		api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
		return pod, nil
	})
}

// evict deletes a pod on behalf of someone who empties its node.
func (s *Server) evict(w http.ResponseWriter, r *request) error {
	var eviction struct{ DeleteOptions metav1.DeleteOptions }
	if err := bodies.Into(r.Request, &eviction, "an Eviction"); err != nil {
		return err
	}
	return s.remove(w, r, eviction.DeleteOptions)
}
