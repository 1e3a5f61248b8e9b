package kubelet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// attempt is one run of a container. A container that somebody has removed from the runtime is still an attempt as
// long as the pod's status tells of it: it counts, and is followed by the next.
type attempt struct {
	runtime.Container
	gone *corev1.ContainerStateTerminated // how it ended, if only the status knows; nil if the runtime has it
	ill  bool                             // it was stopped because of a probe: whatever its exit code, it has failed
}

// attemptsOf returns the attempts with what is remembered of them.
func (m *memory) attemptsOf(pod *corev1.Pod, actual runtime.Pod, now time.Time) map[string][]attempt {
	all := attemptsOf(pod, actual, now)
	for _, attempts := range all {
		for i := range attempts {
			attempts[i].ill = m.ill[attempts[i].ID]
		}
	}
	return all
}

// attemptsOf returns the attempts of each container of the pod by its name, the newest first.
func attemptsOf(pod *corev1.Pod, actual runtime.Pod, now time.Time) map[string][]attempt {
	all := map[string][]attempt{}
	for _, c := range actual.Containers {
		all[c.Name] = append(all[c.Name], attempt{Container: c})
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
			all[status.Name] = append(all[status.Name], attempt{gone: end, Container: runtime.Container{
				ID: strings.TrimPrefix(end.ContainerID, idPrefix), Name: status.Name, Image: status.Image, ImageID: status.ImageID, Attempt: number,
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

func succeeded(a *attempt) bool { return a != nil && a.State == runtime.Exited && a.ExitCode == 0 }

// idPrefix is how the API marks IDs of containers; so do hollow ones.
const idPrefix = "docker://"

func containerID(id string) string { return idPrefix + id }
