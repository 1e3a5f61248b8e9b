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
		Served:       below("spec.", "finalizers"),
	}, namespaces),
	row(Kind{
		GroupVersionKind: core("Node"), Resource: "nodes", ShortNames: []string{"no"},
		Subresources: []string{"status"},
		Served:       below("spec.", "podCIDR unschedulable taints[*].key taints[*].value taints[*].effect=NoSchedule"),
	}, nodes),
	row(Kind{
		GroupVersionKind: core("Pod"), Resource: "pods", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, Subresources: []string{"status", "binding", "eviction", "log", "exec", "attach", "portforward"},
		Served: servedPodFields("spec."),
	}, pods),
	row(Kind{
		GroupVersionKind: core("Service"), Resource: "services", ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, Subresources: []string{"status"},
		Served: below("spec.", "type clusterIP clusterIPs ipFamilies ipFamilyPolicy externalName selector sessionAffinity publishNotReadyAddresses "+
			"internalTrafficPolicy=Cluster externalTrafficPolicy=Cluster "+
			"ports[*].name ports[*].protocol ports[*].port ports[*].targetPort ports[*].nodePort ports[*].appProtocol"),
	}, services),
	row(Kind{
		GroupVersionKind: core("Endpoints"), Resource: "endpoints", ShortNames: []string{"ep"}, Namespaced: true,
		Served: below("subsets[*].", "notReadyAddresses addresses[*].ip addresses[*].hostname addresses[*].nodeName addresses[*].targetRef ports"),
	}, endpoints),
	row(Kind{
		GroupVersionKind: core("ConfigMap"), Resource: "configmaps", ShortNames: []string{"cm"}, Namespaced: true,
		Served: below("", "data binaryData immutable"),
	}, configMaps),
	row(Kind{
		GroupVersionKind: core("Secret"), Resource: "secrets", Namespaced: true,
		Served: below("", "type data stringData immutable"),
	}, secrets),
	row(Kind{
		GroupVersionKind: core("ServiceAccount"), Resource: "serviceaccounts", ShortNames: []string{"sa"}, Namespaced: true,
		Served: below("", "automountServiceAccountToken=false"),
	}, serviceAccounts),
	row(Kind{
		GroupVersionKind: core("Event"), Resource: "events", ShortNames: []string{"ev"}, Namespaced: true,
		Served: below("", "involvedObject related type reason message action source count series "+
			"firstTimestamp lastTimestamp eventTime reportingComponent reportingInstance"),
	}, events),
	row(Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("Deployment"), Resource: "deployments", ShortNames: []string{"deploy"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Served: append(below("spec.", "replicas selector paused revisionHistoryLimit progressDeadlineSeconds minReadySeconds "+
			"strategy.type strategy.rollingUpdate.maxSurge strategy.rollingUpdate.maxUnavailable"), servedTemplate...),
	}, deployments),
	row(Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), Resource: "replicasets", ShortNames: []string{"rs"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Served: append(below("spec.", "replicas selector minReadySeconds"), servedTemplate...),
	}, replicaSets),
	row(Kind{
		GroupVersionKind: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:         "horizontalpodautoscalers", ShortNames: []string{"hpa"},
		Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Served: below("spec.", "scaleTargetRef minReplicas maxReplicas metrics[*].type metrics[*].resource behavior"),
	}, autoscalers),
	row(Kind{
		GroupVersionKind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Resource: "endpointslices", Namespaced: true,
		Served: below("", "addressType ports endpoints[*].addresses endpoints[*].conditions endpoints[*].hostname endpoints[*].nodeName endpoints[*].targetRef"),
	}, endpointSlices),
	row(Kind{
		GroupVersionKind: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Resource: "leases", Namespaced: true,
		Served: below("spec.", "holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions"),
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
