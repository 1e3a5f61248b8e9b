package api

import (
	"slices"
	"strconv"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var namespaces = behaviour[*corev1.Namespace]{
	columns: "Name Status Age",
	cells:   func(n *corev1.Namespace) []any { return []any{n.Name, n.Status.Phase, age(n.CreationTimestamp)} },
	defaults: func(n *corev1.Namespace) {
		setDefault(&n.Status.Phase, corev1.NamespaceActive)
		if n.Name != "" { // every namespace can be selected by its name
			metav1.SetMetaDataLabel(&n.ObjectMeta, corev1.LabelMetadataName, n.Name)
		}
	},
	fields: func(n *corev1.Namespace) map[string]string {
		return map[string]string{"status.phase": string(n.Status.Phase)}
	},
}

var nodes = behaviour[*corev1.Node]{
	columns: "Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
	cells:   nodeCells,
	validate: func(c *check, n, old *corev1.Node) {
		checkTaints(c, n.Spec.Taints, field.NewPath("spec", "taints"))
		checkQuantities(c, n.Status.Capacity, field.NewPath("status", "capacity"))
		checkQuantities(c, n.Status.Allocatable, field.NewPath("status", "allocatable"))
		if n.Spec.PodCIDR != "" {
			c.add(validation.IsValidCIDR(field.NewPath("spec", "podCIDR"), n.Spec.PodCIDR)...)
		}
		if old != nil && old.Spec.PodCIDR != "" && n.Spec.PodCIDR != old.Spec.PodCIDR {
			c.add(field.Forbidden(field.NewPath("spec", "podCIDR"), "node updates may only change labels, taints, or capacity"))
		}
	},
	fields: func(n *corev1.Node) map[string]string {
		return map[string]string{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
	},
}

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

func checkTaints(c *check, taints []corev1.Taint, path *field.Path) {
	for i, taint := range taints {
		at := path.Index(i)
		c.name(at.Child("key"), taint.Key, validation.IsQualifiedName)
		c.nameIfSet(at.Child("value"), taint.Value, validation.IsValidLabelValue)
		if c.required(at.Child("effect"), taint.Effect != ""); taint.Effect != "" {
			oneOf(c, at.Child("effect"), taint.Effect, taintEffects...)
		}
		if slices.ContainsFunc(taints[:i], func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			c.add(field.Duplicate(at, taint.ToString()))
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
	validate: func(c *check, l, old *coordinationv1.Lease) {
		atLeast(c, field.NewPath("spec", "leaseDurationSeconds"), 1, l.Spec.LeaseDurationSeconds)
		atLeast(c, field.NewPath("spec", "leaseTransitions"), 0, l.Spec.LeaseTransitions)
	},
}

var serviceAccounts = behaviour[*corev1.ServiceAccount]{
	columns: "Name Secrets Age",
	cells:   func(s *corev1.ServiceAccount) []any { return []any{s.Name, len(s.Secrets), age(s.CreationTimestamp)} },
}

var events = behaviour[*corev1.Event]{
	columns: "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*",
	cells:   eventCells,
	validate: func(c *check, e, old *corev1.Event) {
		// What is in no namespace has its events in one of those that are always there.
		about := e.InvolvedObject.Namespace
		if about != e.Namespace && (about != "" || e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem) {
			c.invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace")
		}
	},
	fields: func(e *corev1.Event) map[string]string {
		return map[string]string{
			"involvedObject.kind":            e.InvolvedObject.Kind,
			"involvedObject.namespace":       e.InvolvedObject.Namespace,
			"involvedObject.name":            e.InvolvedObject.Name,
			"involvedObject.uid":             string(e.InvolvedObject.UID),
			"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
			"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
			"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
			"reason":                         e.Reason,
			"reportingComponent":             e.ReportingController,
			"source":                         e.Source.Component,
			"type":                           e.Type,
		}
	},
}
