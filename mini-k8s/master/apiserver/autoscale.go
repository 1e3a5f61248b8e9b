package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"workshop/mini-k8s/api"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// `kubectl autoscale` before 1.33 creates its object in version v1. That is all that is served of v1: who writes manifests is
// told to write v2. What v1 says is a part of what v2 can say: it is stored as that, and answered as it came.
//
// In Kubernetes: each kind is served in all of its versions, and converted through a hub.
func (s *Server) autoscaleRoutes() {
	path := "/apis/autoscaling/v1/namespaces/{namespace}/horizontalpodautoscalers"
	s.handle("create", path, api.KindOf[*autoscalingv2.HorizontalPodAutoscaler](), "", func(w http.ResponseWriter, r *request) error {
		if r.manager() != "kubectl-autoscale" {
			return unserved(r.Request, kinds(autoscalingv1.SchemeGroupVersion)[0])
		}
		var sent autoscalingv1.HorizontalPodAutoscaler
		if err := r.readInto(&sent, "a HorizontalPodAutoscaler"); err != nil {
			return err
		}
		body, err := json.Marshal(autoscalerV2(&sent))
		if err != nil {
			return fmt.Errorf("encode the autoscaler: %w", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return s.create(&answerV1{w, &sent}, r)
	})
}

func autoscalerV2(sent *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	target := sent.Spec.ScaleTargetRef
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: sent.ObjectMeta, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: target.Kind, Name: target.Name, APIVersion: target.APIVersion},
		MinReplicas:    sent.Spec.MinReplicas, MaxReplicas: sent.Spec.MaxReplicas,
	}}
	if percent := sent.Spec.TargetCPUUtilizationPercentage; percent != nil {
		cpu := &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: percent}}
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: cpu}}
	}
	return h
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
