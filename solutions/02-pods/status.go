package kubelet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusOf returns the status to report for a pod whose status so far is the one in it.
func statusOf(pod *corev1.Pod, actual runtime.Pod, m *memory, hostIP string, now time.Time) corev1.PodStatus {
	attempts := m.attemptsOf(pod, actual, now)
	reported := pod.DeepCopy()
	status := &reported.Status // others have their fields in it
	status.Phase, status.Reason, status.Message = phaseOf(pod, attempts), "", ""
	refused := refusedBefore(pod, m)
	running := slices.ContainsFunc(actual.Containers, func(c runtime.Container) bool { return c.State == runtime.Running })
	switch { // what is at its end takes no resources any more, so nothing of it may run
	case refused.reason != "" && !running:
		status.Phase, status.Reason, status.Message = corev1.PodFailed, refused.reason, refused.message
	case running && isEnd(status.Phase):
		status.Phase = corev1.PodRunning
	}
	status.HostIP, status.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	status.PodIP, status.PodIPs = addressOf(pod, actual.Sandbox, hostIP), nil
	if status.PodIP != "" {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	status.StartTime = cmp.Or(status.StartTime, timeOf(now))
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	parts := partsOf(pod)
	if refused.reason != "" && len(attempts) == 0 {
		parts = nil
	}
	var behind, unready []string // init containers that are not done, and containers that are not ready
	for i, c := range parts {
		last := newest(attempts[c.Name])
		if refused.reason != "" {
			c.policy = corev1.RestartPolicyNever
		}
		s := containerStatus(c, attempts[c.Name], m.failed[c.Name])
		_, *s.Started = m.questions(pod, c.Container, last)
		s.Ready = m.ready(pod, c.Container, last)
		if c.isFirst {
			s.Ready = succeeded(last)
		} else if !s.Ready {
			unready = append(unready, c.Name)
		}
		if i < len(pod.Spec.InitContainers) {
			if c.isFirst && !s.Ready || !c.isFirst && !*s.Started {
				behind = append(behind, c.Name)
			}
			status.InitContainerStatuses = append(status.InitContainerStatuses, s)
			continue
		}
		if len(behind) > 0 && s.State.Waiting != nil && s.LastTerminationState.Terminated == nil {
			s.State.Waiting.Reason = "PodInitializing"
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	setConditions(reported, behind, unready)
	return *status
}

// setConditions says in the pod's conditions which of its containers are behind and not ready.
func setConditions(pod *corev1.Pod, behind, unready []string) {
	phase := pod.Status.Phase
	set := func(kind corev1.PodConditionType, reason, message string) {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
		if reason != "" {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		if phase == corev1.PodSucceeded {
			c.Reason, c.Message = "PodCompleted", ""
		}
		api.SetPodCondition(pod, c)
	}
	because := func(reason, message string, names []string) (string, string) {
		if len(names) == 0 {
			return "", ""
		}
		return reason, message + ": [" + strings.Join(names, " ") + "]"
	}
	initialized, incomplete := because("ContainersNotInitialized", "containers with incomplete status", behind)
	set(corev1.PodInitialized, initialized, incomplete)
	reason, message := because("ContainersNotReady", "containers with unready status", unready)
	if phase == corev1.PodFailed {
		reason, message = "PodFailed", ""
	}
	set(corev1.ContainersReady, reason, message)
	set(corev1.PodReady, reason, message)
}

// addressOf returns where a pod is reached. On the node's own network that is where the node is.
func addressOf(pod *corev1.Pod, sandbox *runtime.Sandbox, hostIP string) string {
	switch {
	case sandbox == nil || !sandbox.Running:
		return ""
	case pod.Spec.HostNetwork:
		return hostIP
	}
	return sandbox.IP
}

func isEnd(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// phaseOf sums a pod up.
//
//  1. Failed, if an init container failed and the pod never restarts; Pending, until all of them have succeeded.
//  2. Pending, until each container has been started once.
//  3. Running, while one runs or will run again.
//  4. Then Failed if one failed, Succeeded if none did.
func phaseOf(pod *corev1.Pod, attempts map[string][]attempt) corev1.PodPhase {
	ended, running := corev1.PodSucceeded, false
	for _, c := range partsOf(pod) {
		last := newest(attempts[c.Name])
		switch {
		case c.isFirst && succeeded(last):
		case c.isFirst && last != nil && last.State == runtime.Exited && !restarts(c.policy, last):
			return corev1.PodFailed
		case c.isFirst || last == nil || last.State == runtime.Created:
			return corev1.PodPending
		case api.IsSidecar(c.Container):
		case isRunning(last) || restarts(c.policy, last):
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
//  2. Running. Whether it is ready is for its probes to say.
//  3. Terminated, if it has exited. If it is to restart that is its last state already, and while it has to wait for
//     that, because of a delay or a failure, it is Waiting: CrashLoopBackOff.
func containerStatus(c part, attempts []attempt, f failure) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	s.State.Waiting = waiting(f, "ContainerCreating", "")
	last := newest(attempts)
	if last == nil {
		return s
	}
	s.RestartCount, s.ImageID, s.ContainerID = int32(last.Attempt), last.ImageID, containerID(last.ID)
	if len(attempts) > 1 {
		s.LastTerminationState.Terminated = terminated(&attempts[1])
	}
	switch last.State {
	case runtime.Running:
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *timeOf(last.StartedAt)}}
	case runtime.Exited:
		s.State = corev1.ContainerState{Terminated: terminated(last)}
		if !restarts(c.policy, last) {
			break
		}
		s.LastTerminationState = s.State
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
