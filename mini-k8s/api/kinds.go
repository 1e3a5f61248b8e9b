package api

import (
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// KubernetesVersion is what the API server and the kubelets report. Its minor version is that of the Kubernetes API
// that they keep to: kubectl warns when its own is more than one away.
const KubernetesVersion = "v1.33.0+mini-k8s"

// Kinds is the table. Its order is the order in which `kubectl api-resources` and a namespace's clean-up go.
var Kinds = []*Kind{
	row(Kind{
		GroupVersionKind: core("Namespace"), Resource: "namespaces", ShortNames: []string{"ns"},
		Subresources: []string{"status", "finalize"},
	}, namespaces),
	row(Kind{
		GroupVersionKind: core("Node"), Resource: "nodes", ShortNames: []string{"no"},
		Subresources: []string{"status"},
	}, nodes),
	row(Kind{
		GroupVersionKind: core("Pod"), Resource: "pods", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, Subresources: []string{"status", "binding", "eviction", "log"},
		Unserved: unservedPodFields("spec"),
	}, pods),
	row(Kind{
		GroupVersionKind: core("Service"), Resource: "services", ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, Subresources: []string{"status"},
		Unserved: []string{"spec"},
	}, services),
	row(Kind{
		GroupVersionKind: core("Endpoints"), Resource: "endpoints", ShortNames: []string{"ep"}, Namespaced: true,
	}, endpoints),
	row(Kind{
		GroupVersionKind: core("ConfigMap"), Resource: "configmaps", ShortNames: []string{"cm"}, Namespaced: true,
	}, configMaps),
	row(Kind{
		GroupVersionKind: core("Secret"), Resource: "secrets", Namespaced: true,
	}, secrets),
	row(Kind{
		GroupVersionKind: core("ServiceAccount"), Resource: "serviceaccounts", ShortNames: []string{"sa"}, Namespaced: true,
	}, serviceAccounts),
	row(Kind{
		GroupVersionKind: core("Event"), Resource: "events", ShortNames: []string{"ev"}, Namespaced: true,
	}, events),
	row(Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("Deployment"), Resource: "deployments", ShortNames: []string{"deploy"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Unserved: append(unservedPodFields("spec.template.spec"), "spec.minReadySeconds"),
	}, deployments),
	row(Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), Resource: "replicasets", ShortNames: []string{"rs"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Unserved: append(unservedPodFields("spec.template.spec"), "spec.minReadySeconds"),
	}, replicaSets),
	row(Kind{
		GroupVersionKind: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:         "horizontalpodautoscalers", ShortNames: []string{"hpa"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Unserved: []string{"spec"},
	}, autoscalers),
	row(Kind{
		GroupVersionKind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Resource: "endpointslices", Namespaced: true,
	}, endpointSlices),
	row(Kind{
		GroupVersionKind: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Resource: "leases", Namespaced: true,
	}, leases),
}

// Reviews are no rows of the table: they are answered with what somebody may do, or who they are, and never stored.
var Reviews = []*Kind{
	row(Kind{GroupVersionKind: authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), Resource: "selfsubjectreviews"},
		behaviour[*authenticationv1.SelfSubjectReview]{}),
	row(Kind{GroupVersionKind: authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), Resource: "selfsubjectaccessreviews"},
		behaviour[*authorizationv1.SelfSubjectAccessReview]{}),
	row(Kind{GroupVersionKind: authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"), Resource: "selfsubjectrulesreviews"},
		behaviour[*authorizationv1.SelfSubjectRulesReview]{}),
}

func core(kind string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(kind) }
