package api

import (
	"slices"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var namespaces = behaviour[*corev1.Namespace]{
	columns: "Name Status Age",
	cells:   func(n *corev1.Namespace) []any { return []any{n.Name, n.Status.Phase, age(n.CreationTimestamp)} },
	fields:  "status.phase",
}

// defaultNamespace has every namespace be selected by its name.
func defaultNamespace(n *corev1.Namespace) {
	if n.Name != "" {
		metav1.SetMetaDataLabel(&n.ObjectMeta, corev1.LabelMetadataName, n.Name)
	}
}

var nodes = behaviour[*corev1.Node]{
	columns: "Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
	cells:   nodeCells,
	update: func(c *check, n, old *corev1.Node) {
		if old.Spec.PodCIDR != "" && n.Spec.PodCIDR != old.Spec.PodCIDR {
			c.add(field.Forbidden(field.NewPath("spec", "podCIDR"), "node updates may only change labels, taints, or capacity"))
		}
	},
	fields: "spec.unschedulable",
}

func checkTaints(c *check, s *corev1.NodeSpec, at *field.Path) {
	for i, taint := range s.Taints {
		if slices.ContainsFunc(s.Taints[:i], func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			c.add(field.Duplicate(at.Child("taints").Index(i), taint.ToString()))
		}
	}
}

// NodeReady reports whether the node's Ready condition is true.
func NodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

var leases = behaviour[*coordinationv1.Lease]{
	columns: "Name Holder Age",
	cells: func(l *coordinationv1.Lease) []any {
		return []any{l.Name, ptr.Deref(l.Spec.HolderIdentity, ""), age(l.CreationTimestamp)}
	},
}

var serviceAccounts = behaviour[*corev1.ServiceAccount]{
	columns: "Name Secrets Age",
	cells:   func(s *corev1.ServiceAccount) []any { return []any{s.Name, len(s.Secrets), age(s.CreationTimestamp)} },
}

var events = behaviour[*corev1.Event]{
	columns: "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*",
	cells:   eventCells,
	fields: "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion " +
		"involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent type",
}

func checkEvent(c *check, e *corev1.Event, at *field.Path) {
	// What is in no namespace has its events in one of those that are always there.
	about := e.InvolvedObject.Namespace
	if about != e.Namespace && (about != "" || e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem) {
		c.invalid(at.Child("involvedObject", "namespace"), about, "does not match event.namespace")
	}
}
