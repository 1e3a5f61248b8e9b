package kubelet

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusOf returns the status to report for a pod.
func statusOf(pod *corev1.Pod, actual view, m *memory, hostIP string) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.Phase = phaseOf(pod, actual)
	status.HostIP, status.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	status.PodIP, status.PodIPs = "", nil
	if s := actual.Sandbox; s != nil && s.IP != "" {
		status.PodIP, status.PodIPs = s.IP, []corev1.PodIP{{IP: s.IP}}
	}
	if status.StartTime == nil {
		status.StartTime = cmp.Or(m.status.StartTime, timeOf(time.Now()))
	}
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	initialized := true
	for i := range pod.Spec.InitContainers {
		s := containerStatus(&pod.Spec.InitContainers[i], actual, m, initRestarts(pod))
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		initialized = initialized && s.Ready
		status.InitContainerStatuses = append(status.InitContainerStatuses, s)
	}
	ready := initialized
	for i := range pod.Spec.Containers {
		s := containerStatus(&pod.Spec.Containers[i], actual, m, pod.Spec.RestartPolicy)
		if !initialized && s.State.Waiting != nil && s.LastTerminationState.Terminated == nil {
			s.State.Waiting.Reason = "PodInitializing"
		}
		ready = ready && s.Ready
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	status.Conditions = conditions(pod.Status.Conditions, m.status.Conditions, status.Phase, initialized, ready)
	return status
}

// conditions returns those that are shown, with ours set and those of others, such as the scheduler, as they are.
// Since when ours hold is known from what was written last: what is shown may be older.
func conditions(shown, written []corev1.PodCondition, phase corev1.PodPhase, initialized, ready bool) []corev1.PodCondition {
	pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: slices.Clone(shown)}}
	set := func(condition corev1.PodConditionType, holds bool, reason string) {
		c := corev1.PodCondition{Type: condition, Status: corev1.ConditionTrue}
		if !holds {
			c.Status, c.Reason = corev1.ConditionFalse, reason
		}
		if phase == corev1.PodSucceeded {
			c.Reason = "PodCompleted"
		}
		api.SetPodCondition(pod, c)
		if last := find(written, condition); last != nil && last.Status == c.Status {
			find(pod.Status.Conditions, condition).LastTransitionTime = last.LastTransitionTime
		}
	}
	set(corev1.PodInitialized, initialized, "ContainersNotInitialized")
	set(corev1.PodReady, ready, "ContainersNotReady")
	set(corev1.ContainersReady, ready, "ContainersNotReady")
	return pod.Status.Conditions
}

func find(conditions []corev1.PodCondition, wanted corev1.PodConditionType) *corev1.PodCondition {
	for i := range conditions {
		if conditions[i].Type == wanted {
			return &conditions[i]
		}
	}
	return nil
}

// phaseOf sums a pod up: Pending until each container has been started once, then Running until none will be again.
func phaseOf(pod *corev1.Pod, actual view) corev1.PodPhase {
	for i := range pod.Spec.InitContainers {
		l := actual.latest(pod.Spec.InitContainers[i].Name)
		if l != nil && l.State == runtime.Exited && l.ExitCode != 0 && initRestarts(pod) == corev1.RestartPolicyNever {
			return corev1.PodFailed
		}
		if l == nil || l.State != runtime.Exited || l.ExitCode != 0 {
			return corev1.PodPending
		}
	}
	exited, failed := 0, 0
	for i := range pod.Spec.Containers {
		l := actual.latest(pod.Spec.Containers[i].Name)
		if l == nil || l.State == runtime.Created {
			return corev1.PodPending
		}
		if l.State == runtime.Exited {
			exited++
			if l.ExitCode != 0 {
				failed++
			}
		}
	}
	switch policy := pod.Spec.RestartPolicy; {
	case exited < len(pod.Spec.Containers), policy == corev1.RestartPolicyAlways, policy == corev1.RestartPolicyOnFailure && failed > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// containerStatus describes a container by its newest attempt and the one before.
func containerStatus(c *corev1.Container, actual view, m *memory, policy corev1.RestartPolicy) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	var attempts []*runtime.Container
	for i := range actual.Containers {
		if actual.Containers[i].Name == c.Name {
			attempts = append(attempts, &actual.Containers[i])
		}
	}
	if len(attempts) == 0 {
		s.State.Waiting = waiting(c.Name, m, "ContainerCreating")
		return s
	}
	latest := attempts[0]
	s.RestartCount, s.ImageID, s.ContainerID = int32(latest.Attempt), latest.ImageID, containerID(latest.ID)
	switch {
	case latest.State == runtime.Running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: *timeOf(latest.StartedAt)}
		s.Ready, *s.Started = true, true
	case latest.State == runtime.Created:
		s.State.Waiting = waiting(c.Name, m, "ContainerCreating")
	case policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && latest.ExitCode != 0:
		s.LastTerminationState.Terminated = terminated(latest)
		if restartDelayOf(latest) > 0 || m.failed[c.Name].reason != "" {
			s.State.Waiting = waiting(c.Name, m, "CrashLoopBackOff")
			if s.State.Waiting.Message == "" {
				s.State.Waiting.Message = fmt.Sprintf("back-off %s restarting failed container=%s", restartDelayOf(latest), c.Name)
			}
		} else {
			s.State.Terminated = terminated(latest)
		}
	default:
		s.State.Terminated = terminated(latest)
	}
	if len(attempts) > 1 && s.LastTerminationState.Terminated == nil {
		s.LastTerminationState.Terminated = terminated(attempts[1])
	}
	if s.LastTerminationState.Terminated == nil {
		s.LastTerminationState = lastState(c.Name, m, latest.Attempt)
	}
	return s
}

// lastState remembers how the attempt before ended when its container is there no more.
func lastState(name string, m *memory, attempt int) corev1.ContainerState {
	for _, known := range append(m.status.InitContainerStatuses, m.status.ContainerStatuses...) {
		switch {
		case known.Name != name:
		case int(known.RestartCount) == attempt:
			return known.LastTerminationState
		case known.State.Terminated != nil:
			return known.State
		case known.State.Running != nil:
			return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", ExitCode: 137, Message: "The container could not be located when the pod was looked at",
				StartedAt: known.State.Running.StartedAt, FinishedAt: *timeOf(time.Now()), ContainerID: known.ContainerID,
			}}
		default:
			return known.LastTerminationState
		}
	}
	return corev1.ContainerState{}
}

// waiting says why a container does not run yet: because of a failure, or for the reason given.
func waiting(name string, m *memory, reason string) *corev1.ContainerStateWaiting {
	f, failed := m.failed[name]
	if !failed {
		return &corev1.ContainerStateWaiting{Reason: reason}
	}
	if f.reason == "ErrImagePull" && f.count > 1 {
		return &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off pulling image: " + f.message}
	}
	return &corev1.ContainerStateWaiting{Reason: f.reason, Message: f.message}
}

func terminated(c *runtime.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{ExitCode: int32(c.ExitCode), Reason: "Error", Message: c.Message,
		StartedAt: *timeOf(c.StartedAt), FinishedAt: *timeOf(c.FinishedAt), ContainerID: containerID(c.ID)}
	switch {
	case lost(c):
		t.Reason = "ContainerStatusUnknown"
	case c.OOMKilled:
		t.Reason = "OOMKilled"
	case c.ExitCode == 0:
		t.Reason = "Completed"
	case c.StartedAt.IsZero() && c.Message != "":
		t.Reason = "StartError"
	}
	return t
}

func containerID(id string) string {
	if id == "" {
		return ""
	}
	return "docker://" + id
}

// timeOf cuts a time to whole seconds, as it comes back from the API server.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return &metav1.Time{}
	}
	cut := metav1.NewTime(t).Rfc3339Copy()
	return &cut
}
