package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/discovery"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// `kubectl autoscale` before 1.33 creates its object in version v1. That is all that is served of v1: who writes manifests is
// told to write v2. It is stored as v2, and answered as it came.
func (s *Server) autoscaleRoutes() {
	v1 := api.OutOfScope[slices.IndexFunc(api.OutOfScope, func(k *api.Kind) bool { return k.Kind == "HorizontalPodAutoscaler" })]
	s.handle("create", v1.Path("{namespace}", "", ""), api.KindOf[*autoscalingv2.HorizontalPodAutoscaler](), "", func(w http.ResponseWriter, r *request) error {
		if r.manager() != "kubectl-autoscale" {
			return discovery.Unserved(r.Request, v1)
		}
		var sent autoscalingv1.HorizontalPodAutoscaler
		if err := r.readInto(&sent, "a HorizontalPodAutoscaler"); err != nil {
			return err
		}
		body, err := json.Marshal(api.AutoscalerFromV1(&sent))
		if err != nil {
			return fmt.Errorf("encode the autoscaler: %w", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return s.create(&answerV1{w, &sent}, r)
	})
}

// answerV1 writes what was sent, with the metadata of what is stored.
type answerV1 struct {
	http.ResponseWriter
	object *autoscalingv1.HorizontalPodAutoscaler
}

// Write implements http.ResponseWriter.
func (a *answerV1) Write(stored []byte) (int, error) {
	var v2 autoscalingv2.HorizontalPodAutoscaler
	if err := json.Unmarshal(stored, &v2); err != nil {
		return 0, err
	}
	a.object.ObjectMeta = v2.ObjectMeta
	a.object.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	answer, err := json.Marshal(a.object)
	if err != nil {
		return 0, err
	}
	return a.ResponseWriter.Write(answer)
}
