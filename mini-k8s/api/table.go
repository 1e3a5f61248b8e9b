package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
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
	cells := []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, replicas(d.Spec.Replicas)),
		d.Status.UpdatedReplicas, d.Status.AvailableReplicas, age(d.CreationTimestamp)}
	return append(cells, workloadCells(d.Spec.Template, d.Spec.Selector)...)
}

func replicaSetCells(rs *appsv1.ReplicaSet) []any {
	cells := []any{rs.Name, replicas(rs.Spec.Replicas), rs.Status.Replicas, rs.Status.ReadyReplicas, age(rs.CreationTimestamp)}
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
	summary := string(p.Status.Phase)
	if p.Status.Reason != "" {
		summary = p.Status.Reason
	}
	for i, c := range p.Status.InitContainerStatuses {
		switch state := c.State; {
		case state.Terminated != nil && state.Terminated.ExitCode == 0:
			continue
		case state.Terminated != nil && state.Terminated.Reason == "":
			summary = fmt.Sprintf("Init:ExitCode:%d", state.Terminated.ExitCode)
		case state.Terminated != nil:
			summary = "Init:" + state.Terminated.Reason
		case state.Waiting != nil && state.Waiting.Reason != "" && state.Waiting.Reason != "PodInitializing":
			summary = "Init:" + state.Waiting.Reason
		default:
			summary = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return orTerminating(p, summary)
	}
	running := false
	for _, c := range slices.Backward(p.Status.ContainerStatuses) {
		switch state := c.State; {
		case state.Waiting != nil && state.Waiting.Reason != "":
			summary = state.Waiting.Reason
		case state.Terminated != nil && state.Terminated.Reason != "":
			summary = state.Terminated.Reason
		case state.Terminated != nil:
			summary = fmt.Sprintf("ExitCode:%d", state.Terminated.ExitCode)
		case state.Running != nil && c.Ready:
			running = true
		}
	}
	if summary == "Completed" && running {
		summary = "NotReady"
		if PodReady(p) {
			summary = "Running"
		}
	}
	return orTerminating(p, summary)
}

func orTerminating(p *corev1.Pod, summary string) string {
	switch {
	case p.DeletionTimestamp == nil:
		return summary
	case p.Status.Reason == "NodeLost":
		return "Unknown"
	}
	return "Terminating"
}

func nodeCells(n *corev1.Node) []any {
	status := []string{"Unknown"}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status[0] = map[corev1.ConditionStatus]string{corev1.ConditionTrue: "Ready"}[c.Status]
			if status[0] == "" {
				status[0] = "NotReady"
			}
		}
	}
	if n.Spec.Unschedulable {
		status = append(status, "SchedulingDisabled")
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
	info := n.Status.NodeInfo
	return []any{n.Name, strings.Join(status, ","), orNone(roles...), age(n.CreationTimestamp), info.KubeletVersion,
		orNone(address[corev1.NodeInternalIP]), orNone(address[corev1.NodeExternalIP]), orUnknown(info.OSImage),
		orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion)}
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func eventCells(e *corev1.Event) []any {
	object := strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
	source := strings.TrimSuffix(e.Source.Component+", "+e.Source.Host, ", ")
	return []any{age(e.LastTimestamp), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(e.FirstTimestamp), e.Count, e.Name}
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
