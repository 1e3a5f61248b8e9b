package kubelet

// What to do for a pod. All here is pure: from the pod, what there is of it and the time to the steps.

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
	terminate       action = "SIGTERM"
	kill            action = "SIGKILL"
	removeContainer action = "remove container"
	removePod       action = "remove pod"
)

// step is one thing to do for a pod.
type step struct {
	do        action
	container *corev1.Container // to start or stop
	attempt   int               // of the container to start
	id        string            // of the container to stop or remove
}

// planner collects the steps for one pod.
type planner struct {
	pod      *corev1.Pod
	actual   runtime.Pod
	attempts map[string][]attempt
	memory   *memory
	now      time.Time
	steps    []step
	again    time.Duration // look again after that if nothing happens before; 0 for never
}

// plan returns what to do for a pod now, and after how long to look again if nothing happens before.
//
//  1. A pod that is being deleted is stopped and removed: see planner.delete.
//  2. A pod that has run to its end stays as it is, its containers for their logs.
//  3. Without a running sandbox the containers have no network. If anything is left of the pod, remove it, and plan
//     no more now; else start the sandbox first.
//  4. Of each container keep the newest two; remove the older ones that are there.
//  5. Init containers go one at a time: of the first that is not done see planner.run, and the rest has to wait.
//  6. Then all containers of the pod: see planner.run.
func plan(pod *corev1.Pod, actual runtime.Pod, m *memory, now time.Time) (steps []step, again time.Duration) {
	p := &planner{pod: pod, actual: actual, attempts: attemptsOf(pod, actual, now), memory: m, now: now}
	phase := phaseOf(pod, p.attempts)
	switch alive := actual.Sandbox != nil && actual.Sandbox.Running; {
	case pod.DeletionTimestamp != nil:
		p.delete()
	case phase == corev1.PodSucceeded || phase == corev1.PodFailed:
	case !alive && (actual.Sandbox != nil || len(actual.Containers) > 0):
		p.add(step{do: removePod})
	case !alive:
		p.add(step{do: startSandbox})
		p.runAll()
	default:
		p.removeOld()
		p.runAll()
	}
	return p.steps, p.again
}

func (p *planner) add(s step) { p.steps = append(p.steps, s) }

func (p *planner) lookAfter(wait time.Duration) {
	if wait > 0 && (p.again == 0 || wait < p.again) {
		p.again = wait
	}
}

// delete tells all containers to stop, with SIGKILL once the deletion's grace period is over. When none runs any more
// what is left is removed.
func (p *planner) delete() {
	left := p.pod.DeletionTimestamp.Sub(p.now)
	running := false
	for _, c := range p.actual.Containers {
		if c.State == runtime.Running {
			running = true // its death brings us back
			p.stop(&corev1.Container{Name: c.Name}, c.ID, left)
		}
	}
	if !running && (p.actual.Sandbox != nil || len(p.actual.Containers) > 0) {
		p.add(step{do: removePod})
	}
}

// stop stops a container that has so much time left for that: each signal is sent once.
func (p *planner) stop(c *corev1.Container, id string, left time.Duration) {
	switch sent := p.memory.signalled[id].name; {
	case left <= 0 && sent != kill:
		p.add(step{do: kill, container: c, id: id})
	case left > 0 && sent == "":
		p.add(step{do: terminate, container: c, id: id})
	}
	p.lookAfter(left)
}

func (p *planner) removeOld() {
	for _, c := range p.actual.Containers {
		if kept := p.attempts[c.Name]; len(kept) > 2 && c.Attempt < kept[1].Attempt {
			p.add(step{do: removeContainer, id: c.ID})
		}
	}
}

// runAll runs the init containers in their order, and when all are done the others. Init containers that are gone with
// their sandbox run again in the new one; not if it is only they that somebody has cleared away.
func (p *planner) runAll() {
	begun := slices.ContainsFunc(p.pod.Spec.Containers, func(c corev1.Container) bool {
		last := newest(p.attempts[c.Name])
		return last != nil && last.gone == nil
	})
	for i := range p.pod.Spec.InitContainers {
		c := &p.pod.Spec.InitContainers[i]
		last, policy := newest(p.attempts[c.Name]), initRestarts(p.pod)
		if succeeded(last) {
			if last.gone == nil || begun {
				continue
			}
			policy = corev1.RestartPolicyAlways
		}
		p.run(c, policy)
		return
	}
	for i := range p.pod.Spec.Containers {
		p.run(&p.pod.Spec.Containers[i], p.pod.Spec.RestartPolicy)
	}
}

// run plans for one container that should run, by its newest attempt.
//
//  1. If its last start from this image failed, wait until it is due again.
//  2. If there was no attempt, start the first.
//  3. If one was created and never started (a kubelet was killed in between), remove it and start it anew.
//  4. If it runs, leave it; but stop one with another image than the pod's, with the pod's grace period.
//  5. If it has exited and its policy wants no restart, leave it, unless the pod has another image now.
//  6. Otherwise start the next attempt when its restart delay is over.
func (p *planner) run(c *corev1.Container, policy corev1.RestartPolicy) {
	last := newest(p.attempts[c.Name])
	f := p.memory.failed[c.Name]
	switch {
	case f.image == c.Image && p.now.Before(f.retry):
		p.lookAfter(f.retry.Sub(p.now))
	case last == nil:
		p.add(step{do: startContainer, container: c})
	case last.State == runtime.Created:
		p.add(step{do: removeContainer, id: last.ID})
		p.add(step{do: startContainer, container: c, attempt: last.Attempt})
	case last.State == runtime.Running && last.Image != c.Image: // its exit brings us back
		told := p.now
		if sent := p.memory.signalled[last.ID]; sent.name != "" {
			told = sent.at
		}
		p.stop(c, last.ID, told.Add(gracePeriod(p.pod)).Sub(p.now))
	case last.State == runtime.Running:
	case last.Image == c.Image && !restarts(policy, last):
	default:
		if wait := last.FinishedAt.Add(delayAfter(last)).Sub(p.now); wait > 0 {
			p.lookAfter(wait)
		} else {
			p.add(step{do: startContainer, container: c, attempt: last.Attempt + 1})
		}
	}
}

// gracePeriod returns how long a container has to stop.
func gracePeriod(pod *corev1.Pod) time.Duration {
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// initRestarts returns the policy of init containers, which have to succeed: only Never lets them fail.
func initRestarts(pod *corev1.Pod) corev1.RestartPolicy {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return corev1.RestartPolicyNever
	}
	return corev1.RestartPolicyOnFailure
}

// restarts tells whether a container that has exited is to run again.
func restarts(policy corev1.RestartPolicy, a *attempt) bool {
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && a.ExitCode != 0
}

// delayAfter returns how long a container that has exited waits for its next start. One that somebody removed did not
// crash, and comes back at once.
func delayAfter(a *attempt) time.Duration {
	if a.gone != nil || a.FinishedAt.Sub(a.StartedAt) >= provedBy {
		return 0
	}
	return restartDelay(a.Attempt)
}

// restartDelay returns the wait after so many starts in vain.
func restartDelay(count int) time.Duration {
	if count == 0 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(count-1, 16))
}
