package apiserver

import (
	"net/http"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pass hands a request for a container on to the kubelet of its node.
func (s *Server) pass(w http.ResponseWriter, r *request) error {
	pod, err := read[*corev1.Pod](r.Context(), s, r.namespace, r.name)
	if err != nil {
		return err
	}
	return s.kubelets.Pass(w, r.Request, pod, r.subresource)
}

// metricsRoutes serves what nodes and pods use at this moment, for `kubectl top` and the autoscaler: the kubelets are asked.
//
// In Kubernetes: metrics-server, which asks them every 15 s, behind an APIService.
func (s *Server) metricsRoutes() {
	for _, kind := range api.Measured {
		list := func(w http.ResponseWriter, r *request) error {
			found, err := s.measure(r)
			if err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, map[string]any{"kind": kind.Kind + "List", "apiVersion": kind.GroupVersion().String(),
				"metadata": metav1.ListMeta{}, "items": found})
		}
		if kind.Namespaced {
			s.handle("list", kind.Path("", "", ""), kind, "", list)
		}
		s.handle("list", kind.Path("{namespace}", "", ""), kind, "", list)
		s.handle("get", kind.Path("{namespace}", "{name}", ""), kind, "", func(w http.ResponseWriter, r *request) error {
			found, err := s.measure(r)
			if err == nil && len(found) == 0 {
				err = apierrors.NewNotFound(kind.GroupResource(), r.name)
			}
			if err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, found[0])
		})
	}
}

// measure returns the metrics of the nodes or pods that a request is about. What nobody can tell of is left out.
func (s *Server) measure(r *request) ([]api.Metrics, error) {
	of := *r // the same of the objects themselves
	of.kind = api.Lookup(r.kind.Resource)
	stored := make([]store.Object, 1)
	var err error
	if r.verb == "get" {
		stored[0], err = s.Store.Get(r.Context(), keyOf(of.kind, of.namespace, of.name))
	} else {
		var selected selection
		if _, selected, err = of.readOptions(); err == nil {
			stored, _, err = s.find(&of, selected)
		}
	}
	if err != nil {
		return nil, err
	}
	var objects []api.Object
	for _, one := range stored {
		o, err := decode(of.kind, one)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return s.kubelets.Measure(r.Context(), r.kind, objects), nil
}
