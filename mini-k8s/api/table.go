package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/ptr"
)

// parseColumns reads "Name Ready IP*": an underscore stands for a blank, a star marks what only -o wide shows.
func parseColumns(text string) []metav1.TableColumnDefinition {
	var columns []metav1.TableColumnDefinition
	for _, word := range strings.Fields(text) {
		name, wide := strings.CutSuffix(strings.ReplaceAll(word, "_", " "), "*")
		column := metav1.TableColumnDefinition{Name: name, Type: "string"}
		if wide {
			column.Priority = 1
		}
		if name == "Name" {
			column.Format = "name" // kubectl puts "pod/" before it where it shows several kinds
		}
		columns = append(columns, column)
	}
	return columns
}

// Columns returns the columns of the kind's table.
func (k *Kind) Columns() []metav1.TableColumnDefinition { return k.columns }

// Cells returns the object's row of the table, one cell for each column.
func (k *Kind) Cells(o Object) []any { return k.cells(o) }

// age returns how long ago the time was, in the words of kubectl: "5m".
func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// orNone returns the words of a list, or what kubectl shows in place of an empty one.
func orNone(words ...string) string {
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) == 0 {
		return "<none>"
	}
	return strings.Join(words, ",")
}

// workloadCells returns the wide columns Containers, Images and Selector.
func workloadCells(template corev1.PodTemplateSpec, selector *metav1.LabelSelector) []any {
	var names, images []string
	for _, c := range template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	return []any{strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(selector)}
}

func deploymentCells(d *appsv1.Deployment) []any {
	cells := []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 1)),
		d.Status.UpdatedReplicas, d.Status.AvailableReplicas, age(d.CreationTimestamp)}
	return append(cells, workloadCells(d.Spec.Template, d.Spec.Selector)...)
}

func replicaSetCells(rs *appsv1.ReplicaSet) []any {
	cells := []any{rs.Name, ptr.Deref(rs.Spec.Replicas, 1), rs.Status.Replicas, rs.Status.ReadyReplicas, age(rs.CreationTimestamp)}
	return append(cells, workloadCells(rs.Spec.Template, rs.Spec.Selector)...)
}

func podCells(p *corev1.Pod) []any {
	ready, restarts, lastRestart := 0, int32(0), metav1.Time{}
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready {
			ready++
		}
		restarts += c.RestartCount
		if t := c.LastTerminationState.Terminated; t != nil && lastRestart.Before(&t.FinishedAt) {
			lastRestart = t.FinishedAt
		}
	}
	restartCell := fmt.Sprint(restarts)
	if restarts > 0 && !lastRestart.IsZero() {
		restartCell += fmt.Sprintf(" (%s ago)", age(lastRestart))
	}
	return []any{p.Name, fmt.Sprintf("%d/%d", ready, len(p.Spec.Containers)), PodSummary(p), restartCell, age(p.CreationTimestamp),
		orNone(p.Status.PodIP), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), "<none>"}
}

// PodSummary returns the word in the STATUS column: the phase, or the reason that says more.
func PodSummary(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			return "Unknown"
		}
		return "Terminating"
	}
	for i, c := range p.Status.InitContainerStatuses {
		switch state := c.State; {
		case state.Terminated != nil && state.Terminated.ExitCode == 0:
			continue
		case state.Terminated != nil:
			return "Init:" + endReason(state.Terminated)
		case state.Waiting != nil && state.Waiting.Reason != "" && state.Waiting.Reason != "PodInitializing":
			return "Init:" + state.Waiting.Reason
		}
		return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
	}
	summary, running := cmp.Or(p.Status.Reason, string(p.Status.Phase)), false
	for _, c := range slices.Backward(p.Status.ContainerStatuses) {
		switch state := c.State; {
		case state.Waiting != nil && state.Waiting.Reason != "":
			summary = state.Waiting.Reason
		case state.Terminated != nil:
			summary = endReason(state.Terminated)
		case state.Running != nil && c.Ready:
			running = true
		}
	}
	switch {
	case summary != "Completed" || !running:
		return summary
	case PodReady(p):
		return "Running"
	}
	return "NotReady"
}

func endReason(end *corev1.ContainerStateTerminated) string {
	return cmp.Or(end.Reason, fmt.Sprint("ExitCode:", end.ExitCode))
}

func nodeCells(n *corev1.Node) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			status = "Ready"
		} else if c.Type == corev1.NodeReady {
			status = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	var roles []string
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/"); ok {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	address := map[corev1.NodeAddressType]string{}
	for _, a := range n.Status.Addresses {
		address[a.Type] = a.Address
	}
	info, unknown := n.Status.NodeInfo, "<unknown>"
	return []any{n.Name, status, orNone(roles...), age(n.CreationTimestamp), info.KubeletVersion,
		orNone(address[corev1.NodeInternalIP]), orNone(address[corev1.NodeExternalIP]), cmp.Or(info.OSImage, unknown),
		cmp.Or(info.KernelVersion, unknown), cmp.Or(info.ContainerRuntimeVersion, unknown)}
}

func eventCells(e *corev1.Event) []any {
	object := strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
	source := strings.TrimSuffix(e.Source.Component+", "+e.Source.Host, ", ")
	return []any{age(e.LastTimestamp), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(e.FirstTimestamp), e.Count, e.Name}
}
