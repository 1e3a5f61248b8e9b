package kubelet

// The containers of a pod, and how often each was run.

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// part is a container of a pod.
type part struct {
	*corev1.Container
	policy  corev1.RestartPolicy
	isFirst bool // it has to succeed before what comes after it begins: an init container, but no sidecar
}

// partsOf returns the containers of a pod in the order in which they begin.
func partsOf(pod *corev1.Pod) (all []part) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; api.IsSidecar(c) {
			all = append(all, part{c, corev1.RestartPolicyAlways, false})
		} else {
			all = append(all, part{c, initRestarts(pod), true})
		}
	}
	for i := range pod.Spec.Containers {
		all = append(all, part{&pod.Spec.Containers[i], pod.Spec.RestartPolicy, false})
	}
	return all
}

// attempt is one run of a container. A container that somebody has removed from the runtime is still an attempt as
// long as the pod's status tells of it: it counts, and is followed by the next.
type attempt struct {
	runtime.Container
	gone *corev1.ContainerStateTerminated // how it ended, if only the status knows; nil if the runtime has it
	ill  bool                             // it was stopped because of a probe: whatever its exit code, it has failed
}

// attemptsOf returns the attempts of each container of the pod by its name, the newest first.
func (m *memory) attemptsOf(pod *corev1.Pod, actual runtime.Pod, now time.Time) map[string][]attempt {
	all := map[string][]attempt{}
	for _, c := range actual.Containers {
		all[c.Name] = append(all[c.Name], attempt{Container: c, ill: m.signalled[c.ID].ill})
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		for _, end := range []*corev1.ContainerStateTerminated{lastSeen(status, now), status.LastTerminationState.Terminated} {
			if end == nil || slices.ContainsFunc(all[status.Name], func(a attempt) bool { return containerID(a.ID) == end.ContainerID }) {
				continue
			}
			number := int(status.RestartCount)
			if end.ContainerID != status.ContainerID {
				number-- // the one before
			}
			id := strings.TrimPrefix(end.ContainerID, idPrefix)
			all[status.Name] = append(all[status.Name], attempt{gone: end, ill: m.signalled[id].ill, Container: runtime.Container{
				ID: id, Name: status.Name, Image: status.Image, ImageID: status.ImageID, Attempt: number,
				State: runtime.Exited, ExitCode: int(end.ExitCode), StartedAt: end.StartedAt.Time, FinishedAt: end.FinishedAt.Time}})
		}
	}
	for _, attempts := range all {
		slices.SortStableFunc(attempts, func(a, b attempt) int { return cmp.Compare(b.Attempt, a.Attempt) })
	}
	return all
}

// lastSeen returns how the newest container that a status tells of ended, provided that it is gone now: one that ran
// counts as killed.
func lastSeen(status corev1.ContainerStatus, now time.Time) *corev1.ContainerStateTerminated {
	running := status.State.Running
	if running == nil {
		return status.State.Terminated
	}
	return &corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137, ContainerID: status.ContainerID,
		Message: "The container could not be located when the pod was looked at", StartedAt: running.StartedAt, FinishedAt: *timeOf(now)}
}

// newest returns the first attempt, nil if there is none.
func newest(attempts []attempt) *attempt {
	if len(attempts) == 0 {
		return nil
	}
	return &attempts[0]
}

func isRunning(a *attempt) bool { return a != nil && a.State == runtime.Running }

func succeeded(a *attempt) bool { return a != nil && a.State == runtime.Exited && a.ExitCode == 0 }

// idPrefix is how the API marks IDs of containers; so do hollow ones.
const idPrefix = "docker://"

func containerID(id string) string { return idPrefix + id }
