package api

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// OutOfScope are well-known kinds of Kubernetes that are not served. Clients find them all the same, so that who asks
// for one is told what to do instead, and does not look for a typo.
var OutOfScope = outOfScope([][3]string{
	{"batch/v1", "Job", "a Pod with restartPolicy Never or OnFailure runs to its end; the kind itself is a bonus for learners"},
	{"batch/v1", "CronJob=cj", "let the cron of a machine create Pods with restartPolicy Never; the kind itself is a bonus for learners"},
	{"apps/v1", "DaemonSet=ds", "a Deployment with a replica for each node comes near; the kind itself is a bonus for learners"},
	{"apps/v1", "StatefulSet=sts", "use a Deployment, or a Pod for each member; the kind itself is a bonus for learners"},
	{"apps/v1", "ControllerRevision", "a Deployment keeps its history in its ReplicaSets"},
	{"v1", "ReplicationController=rc PodTemplate", "use a Deployment"},
	{"v1", "PersistentVolume*=pv PersistentVolumeClaim=pvc", "no storage outlives its node; a hostPath volume comes nearest"},
	{"storage.k8s.io/v1", "StorageClass*=sc", "no storage outlives its node; a hostPath volume comes nearest"},
	{"v1", "ResourceQuota=quota LimitRange=limits", "write requests and limits into each container"},
	{"autoscaling/v1", "HorizontalPodAutoscaler=hpa", "that is said of version v1; write apiVersion autoscaling/v2"},
	{"networking.k8s.io/v1", "Ingress=ing IngressClass*", "use a Service of type NodePort"},
	{"networking.k8s.io/v1", "NetworkPolicy=netpol", "every pod may reach every other"},
	{"rbac.authorization.k8s.io/v1", "Role RoleBinding ClusterRole* ClusterRoleBinding*", "who may do what is fixed; use the identities admin and viewer"},
	{"policy/v1", "PodDisruptionBudget=pdb", "nothing holds an eviction back; scale up before a node is drained"},
	{"scheduling.k8s.io/v1", "PriorityClass*=pc", "no pod pushes another one out"},
	{"certificates.k8s.io/v1", "CertificateSigningRequest*=csr", "a worker gets its certificate when it joins"},
	{"apiextensions.k8s.io/v1", "CustomResourceDefinition*=crd=crds", "`kubectl api-resources` lists the kinds that there are"},
	{"admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration* ValidatingWebhookConfiguration*", "the API server calls no webhooks"},
})

// outOfScope reads kinds such as "Node*=no": a star marks one that is in no namespace, and short names follow.
func outOfScope(rows [][3]string) (kinds []*Kind) {
	for _, row := range rows {
		for _, word := range strings.Fields(row[1]) {
			words := strings.Split(word, "=")
			name, clusterWide := strings.CutSuffix(words[0], "*")
			gvk := schema.FromAPIVersionAndKind(row[0], name)
			plural, _ := meta.UnsafeGuessKindToResource(gvk) // it guesses right for all of these
			kinds = append(kinds, &Kind{GroupVersionKind: gvk, Resource: plural.Resource, ShortNames: words[1:],
				Namespaced: !clusterWide, instead: row[2]})
		}
	}
	return kinds
}

// Refusal returns the sentence with which a kind out of scope is refused, or "" for one of the table.
func (k *Kind) Refusal() string {
	if k.instead == "" {
		return ""
	}
	return k.GroupResource().String() + " is out of scope in mini-k8s: " + k.instead
}
