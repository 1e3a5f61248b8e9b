package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/bodies"
	"workshop/mini-k8s/master/apiserver/discovery"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		if err := bodies.Into(r.Request, &sent, "a HorizontalPodAutoscaler"); err != nil {
			return err
		}
		body, err := json.Marshal(api.AutoscalerFromV1(&sent))
		if err != nil {
			return fmt.Errorf("encode the autoscaler: %w", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		stored, answer := autoscalingv2.HorizontalPodAutoscaler{}, unsent{ResponseWriter: w}
		if err := s.create(&answer, r); err != nil {
			return err
		}
		if err := json.Unmarshal(answer.body, &stored); err != nil {
			return fmt.Errorf("decode the autoscaler: %w", err)
		}
		sent.TypeMeta, sent.ObjectMeta = metav1.TypeMeta{Kind: v1.Kind, APIVersion: v1.GroupVersion().String()}, stored.ObjectMeta
		return writeJSON(w, http.StatusCreated, &sent)
	})
}
