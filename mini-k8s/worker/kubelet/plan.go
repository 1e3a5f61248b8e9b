package kubelet

import (
	"slices"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// How long a container waits before it is started again: not at all the first time, then 10 s, doubling to 5 min.
// One that ran for 10 min has proved itself and starts over.
const (
	firstDelay = 10 * time.Second
	lastDelay  = 5 * time.Minute
	provedBy   = 10 * time.Minute
)

type action string

const (
	startSandbox    action = "start sandbox"
	startContainer  action = "start container"
	terminate       action = "terminate"
	kill            action = "kill"
	removeContainer action = "remove container"
	removePod       action = "remove pod"
)

// step is one thing to do for a pod.
type step struct {
	do        action
	container *corev1.Container // to start or stop
	attempt   int
	id        string // of the container to stop or remove
}

// view is what there is of a pod: what the runtime has, and what has vanished from it.
type view struct {
	runtime.Pod
}

// latest returns the newest container of the name, nil if there is none.
func (v view) latest(name string) *runtime.Container {
	for i := range v.Containers {
		if v.Containers[i].Name == name {
			return &v.Containers[i]
		}
	}
	return nil
}

// lost marks a container that somebody has removed: it has no ID any more.
func lost(c *runtime.Container) bool { return c.ID == "" }

// withLost adds the containers that, going by the pod's status, have been there and are not any more. They count
// as having been killed.
func withLost(pod *corev1.Pod, actual runtime.Pod, status corev1.PodStatus, now time.Time) view {
	v := view{actual}
	if pod.DeletionTimestamp != nil {
		return v
	}
	for _, known := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		if known.ContainerID == "" || v.latest(known.Name) != nil {
			continue
		}
		gone := runtime.Container{Name: known.Name, Image: known.Image, ImageID: known.ImageID, Attempt: int(known.RestartCount),
			State: runtime.Exited, ExitCode: 137, Message: "The container could not be located when the pod was looked at"}
		switch {
		case known.State.Running != nil:
			gone.StartedAt, gone.FinishedAt = known.State.Running.StartedAt.Time, now
		case known.State.Terminated != nil:
			t := known.State.Terminated
			gone.ExitCode, gone.Message = int(t.ExitCode), t.Message
			gone.StartedAt, gone.FinishedAt = t.StartedAt.Time, t.FinishedAt.Time
		}
		v.Containers = append(v.Containers, gone)
	}
	return v
}

// plan returns what to do for a pod now, and after how long to look again if nothing happens before.
func plan(pod *corev1.Pod, actual view, m *memory, now time.Time) (steps []step, again time.Duration) {
	if pod.DeletionTimestamp != nil {
		return planDeletion(pod, actual, m, now)
	}
	if finished(pod, actual) {
		return nil, 0 // its containers stay for their logs
	}
	steps = planOld(pod, actual)
	if actual.Sandbox == nil || !actual.Sandbox.Running {
		// Without the sandbox the containers have no network: all start again in a new one.
		if actual.Sandbox != nil || slices.ContainsFunc(actual.Containers, func(c runtime.Container) bool { return !lost(&c) }) {
			return []step{{do: removePod}}, 0
		}
		steps = append(steps, step{do: startSandbox})
	}
	begun := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		l := actual.latest(c.Name)
		return l != nil && !lost(l)
	})
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		policy := initRestarts(pod)
		if l := actual.latest(c.Name); l != nil && l.State == runtime.Exited && l.ExitCode == 0 {
			if begun || !lost(l) {
				continue
			}
			policy = corev1.RestartPolicyAlways // it went with its sandbox, and runs again in the new one
		}
		// One at a time: the rest has to wait for this one.
		return planContainer(steps, pod, c, actual, m, now, policy)
	}
	for i := range pod.Spec.Containers {
		var wait time.Duration
		steps, wait = planContainer(steps, pod, &pod.Spec.Containers[i], actual, m, now, pod.Spec.RestartPolicy)
		if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
	}
	return steps, again
}

// planContainer adds what to do for one container of a pod that should run.
func planContainer(steps []step, pod *corev1.Pod, c *corev1.Container, actual view, m *memory, now time.Time, policy corev1.RestartPolicy) ([]step, time.Duration) {
	if f, ok := m.failed[c.Name]; ok && f.image == c.Image && now.Before(f.retry) {
		return steps, f.retry.Sub(now)
	}
	l := actual.latest(c.Name)
	switch {
	case l == nil:
		return append(steps, step{do: startContainer, container: c}), 0
	case l.State == runtime.Running && l.Image != c.Image: // its exit brings us back
		deadline := now.Add(gracePeriod(pod))
		if sent := m.signalled[l.ID]; sent.name != "" {
			deadline = sent.at.Add(gracePeriod(pod))
		}
		return planStop(steps, c, l, m, deadline.Sub(now))
	case l.State == runtime.Created: // left so by a kubelet that was killed
		return append(steps, step{do: removeContainer, id: l.ID}, step{do: startContainer, container: c, attempt: l.Attempt}), 0
	case l.State == runtime.Running:
		return steps, 0
	case l.Image == c.Image && (policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && l.ExitCode == 0):
		return steps, 0
	}
	if wait := l.FinishedAt.Add(restartDelayOf(l)).Sub(now); wait > 0 {
		return steps, wait
	}
	return append(steps, step{do: startContainer, container: c, attempt: l.Attempt + 1}), 0
}

// planOld removes containers that are neither the newest of their name, nor the one before, whose log people may
// still want.
func planOld(pod *corev1.Pod, actual view) []step {
	var steps []step
	seen := map[string]int{}
	for _, c := range actual.Containers { // newest first
		if seen[c.Name]++; seen[c.Name] > 2 && !lost(&c) {
			steps = append(steps, step{do: removeContainer, id: c.ID})
		}
	}
	return steps
}

// planDeletion stops all containers, with SIGTERM first and SIGKILL when the grace period is over, and removes the
// pod when all have stopped.
func planDeletion(pod *corev1.Pod, actual view, m *memory, now time.Time) (steps []step, again time.Duration) {
	left := pod.DeletionTimestamp.Sub(now)
	running := false
	for i := range actual.Containers {
		c := &actual.Containers[i]
		if c.State != runtime.Running {
			continue
		}
		running = true
		steps, again = planStop(steps, &corev1.Container{Name: c.Name}, c, m, left)
	}
	switch {
	case running:
		return steps, again // before that, its death brings us back
	case actual.Sandbox != nil || len(actual.Containers) > 0:
		return append(steps, step{do: removePod}), 0
	}
	return nil, 0
}

// planStop adds what to do for a container that has so much time left to stop.
func planStop(steps []step, c *corev1.Container, running *runtime.Container, m *memory, left time.Duration) ([]step, time.Duration) {
	switch sent := m.signalled[running.ID].name; {
	case left <= 0 && sent != "SIGKILL":
		steps = append(steps, step{do: kill, container: c, id: running.ID})
	case sent == "":
		steps = append(steps, step{do: terminate, container: c, id: running.ID})
	}
	return steps, max(0, left)
}

// gracePeriod returns how long a container has to stop.
func gracePeriod(pod *corev1.Pod) time.Duration {
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// finished reports whether the pod has run to its end and its restart policy leaves it there.
func finished(pod *corev1.Pod, actual view) bool {
	phase := phaseOf(pod, actual)
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// initRestarts returns the policy of init containers, which have to succeed: only Never lets them fail.
func initRestarts(pod *corev1.Pod) corev1.RestartPolicy {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return corev1.RestartPolicyNever
	}
	return corev1.RestartPolicyOnFailure
}

// restartDelayOf returns how long a container that has exited waits for its next start. One that somebody removed
// did not crash, and comes back at once.
func restartDelayOf(c *runtime.Container) time.Duration {
	if lost(c) || c.FinishedAt.Sub(c.StartedAt) >= provedBy {
		return 0
	}
	return restartDelay(c.Attempt)
}

// restartDelay returns the wait after so many starts in vain.
func restartDelay(count int) time.Duration {
	if count == 0 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(count-1, 16))
}
