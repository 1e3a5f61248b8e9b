package kubelet

import (
	"cmp"
	"fmt"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusOf returns the status to report for a pod whose status so far is the one in it.
func statusOf(pod *corev1.Pod, actual runtime.Pod, m *memory, hostIP string, now time.Time) corev1.PodStatus {
	attempts := attemptsOf(pod, actual, now)
	reported := pod.DeepCopy()
	status := &reported.Status // others have their fields in it
	status.Phase = phaseOf(pod, attempts)
	status.HostIP, status.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	status.PodIP, status.PodIPs = "", nil
	if s := actual.Sandbox; s != nil && s.IP != "" {
		status.PodIP, status.PodIPs = s.IP, []corev1.PodIP{{IP: s.IP}}
	}
	status.StartTime = cmp.Or(status.StartTime, timeOf(now))
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	initialized := true
	for _, c := range pod.Spec.InitContainers {
		s := containerStatus(c, attempts[c.Name], m.failed[c.Name], initRestarts(pod))
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		initialized = initialized && s.Ready
		status.InitContainerStatuses = append(status.InitContainerStatuses, s)
	}
	ready := initialized
	for _, c := range pod.Spec.Containers {
		s := containerStatus(c, attempts[c.Name], m.failed[c.Name], pod.Spec.RestartPolicy)
		if !initialized && s.State.Waiting != nil && s.LastTerminationState.Terminated == nil {
			s.State.Waiting.Reason = "PodInitializing"
		}
		ready = ready && s.Ready
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	setCondition := func(kind corev1.PodConditionType, holds bool, reason string) {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
		if !holds {
			c.Status, c.Reason = corev1.ConditionFalse, reason
		}
		if status.Phase == corev1.PodSucceeded {
			c.Reason = "PodCompleted"
		}
		api.SetPodCondition(reported, c)
	}
	setCondition(corev1.PodInitialized, initialized, "ContainersNotInitialized")
	setCondition(corev1.PodReady, ready, "ContainersNotReady")
	setCondition(corev1.ContainersReady, ready, "ContainersNotReady")
	return *status
}

// phaseOf sums a pod up.
//
//  1. Failed, if an init container failed and the pod never restarts; Pending, until all of them have succeeded.
//  2. Pending, until each container has been started once.
//  3. Running, while one runs or will run again.
//  4. Then Failed if one failed, Succeeded if none did.
func phaseOf(pod *corev1.Pod, attempts map[string][]attempt) corev1.PodPhase {
	for _, c := range pod.Spec.InitContainers {
		last := newest(attempts[c.Name])
		if succeeded(last) {
			continue
		}
		if last != nil && last.State == runtime.Exited && !restarts(initRestarts(pod), last) {
			return corev1.PodFailed
		}
		return corev1.PodPending
	}
	ended := corev1.PodSucceeded
	running := false
	for _, c := range pod.Spec.Containers {
		last := newest(attempts[c.Name])
		switch {
		case last == nil || last.State == runtime.Created:
			return corev1.PodPending
		case last.State == runtime.Running || restarts(pod.Spec.RestartPolicy, last):
			running = true
		case last.ExitCode != 0:
			ended = corev1.PodFailed
		}
	}
	if running {
		return corev1.PodRunning
	}
	return ended
}

// containerStatus describes a container by its newest attempt and the one before.
//
//  1. Waiting, if there is none or it was never started.
//  2. Running, and then ready as well.
//  3. Terminated, if it has exited. If it is to restart that is its last state already, and while it has to wait for
//     that, because of a delay or a failure, it is Waiting: CrashLoopBackOff.
func containerStatus(c corev1.Container, attempts []attempt, f failure, policy corev1.RestartPolicy) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	last := newest(attempts)
	if last == nil {
		s.State.Waiting = waiting(f, "ContainerCreating", "")
		return s
	}
	s.RestartCount, s.ImageID, s.ContainerID = int32(last.Attempt), last.ImageID, containerID(last.ID)
	if len(attempts) > 1 {
		s.LastTerminationState.Terminated = terminated(&attempts[1])
	}
	switch last.State {
	case runtime.Created:
		s.State.Waiting = waiting(f, "ContainerCreating", "")
	case runtime.Running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: *timeOf(last.StartedAt)}
		s.Ready, *s.Started = true, true
	case runtime.Exited:
		s.State.Terminated = terminated(last)
		if !restarts(policy, last) {
			break
		}
		s.LastTerminationState.Terminated = s.State.Terminated
		if delay := delayAfter(last); delay > 0 || f.reason != "" {
			message := fmt.Sprintf("back-off %s restarting failed container=%s", delay, c.Name)
			s.State = corev1.ContainerState{Waiting: waiting(f, "CrashLoopBackOff", message)}
		}
	}
	return s
}

// waiting says why a container does not run yet: because of a failure, or for the reason given.
func waiting(f failure, reason, message string) *corev1.ContainerStateWaiting {
	switch {
	case f.reason == "ErrImagePull" && f.count > 1:
		reason, message = "ImagePullBackOff", "Back-off pulling image: "+f.message
	case f.reason != "":
		reason, message = f.reason, f.message
	}
	return &corev1.ContainerStateWaiting{Reason: reason, Message: message}
}

func terminated(a *attempt) *corev1.ContainerStateTerminated {
	if a.gone != nil {
		return a.gone
	}
	t := &corev1.ContainerStateTerminated{ExitCode: int32(a.ExitCode), Reason: "Error", Message: a.Message,
		StartedAt: *timeOf(a.StartedAt), FinishedAt: *timeOf(a.FinishedAt), ContainerID: containerID(a.ID)}
	switch {
	case a.OOMKilled:
		t.Reason = "OOMKilled"
	case a.ExitCode == 0:
		t.Reason = "Completed"
	case a.StartedAt.IsZero() && a.Message != "":
		t.Reason = "StartError"
	}
	return t
}

// timeOf cuts a time to whole seconds, as it comes back from the API server.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return &metav1.Time{}
	}
	cut := metav1.NewTime(t).Rfc3339Copy()
	return &cut
}
