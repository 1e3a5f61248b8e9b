package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Measured are no rows of the table: they are answered with what kubelets measure at that moment, and never stored.
var Measured = []*Kind{
	{GroupVersionKind: measures.WithKind("NodeMetrics"), Resource: "nodes"},
	{GroupVersionKind: measures.WithKind("PodMetrics"), Resource: "pods", Namespaced: true},
}

var measures = schema.GroupVersion{Group: "metrics.k8s.io", Version: "v1beta1"}

// Metrics is how much a node or a pod uses: a NodeMetrics or PodMetrics of k8s.io/metrics.
type Metrics struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Timestamp         metav1.Time         `json:"timestamp"`
	Window            metav1.Duration     `json:"window"` // for CPU, over which it is averaged
	Usage             corev1.ResourceList `json:"usage,omitempty"`
	Containers        []ContainerMetrics  `json:"containers,omitempty"`
}

// ContainerMetrics is how much a container uses.
type ContainerMetrics struct {
	Name  string              `json:"name"`
	Usage corev1.ResourceList `json:"usage"`
}

// NodeUsage is what a kubelet answers that is asked what its pods use.
//
// In Kubernetes: the Summary of k8s.io/kubelet/pkg/apis/stats, or cAdvisor's metrics.
type NodeUsage struct {
	Timestamp metav1.Time                   `json:"timestamp"`
	Window    metav1.Duration               `json:"window"`
	Pods      map[string][]ContainerMetrics `json:"pods"` // by UID
}
