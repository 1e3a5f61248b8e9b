package kubelet

// What to do for a pod. All here is pure: from the pod, what there is of it and the time to the steps.

import (
	"slices"
	"time"

	"workshop/mini-k8s/api"
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
	beginProbe      action = "begin probe"
	endProbe        action = "end probe"
	callPreStop     action = "call hook" // before SIGTERM
)

// step is one thing to do for a pod.
type step struct {
	do        action
	container *corev1.Container // to start or stop
	attempt   int               // of the container to start
	id        string            // of the container to stop or remove
	why       string            // it is stopped, if the pod is to live
	asked     asked             // what is asked of the container from now on, or no more
	since     time.Time         // the container to ask runs
}

// planner collects the steps for one pod.
type planner struct {
	pod      *corev1.Pod
	actual   runtime.Pod
	attempts map[string][]attempt
	memory   *memory
	now      time.Time
	ending   bool // the pod is to go, or has run to its end
	steps    []step
	again    time.Duration // look again after that if nothing happens before; 0 for never
}

// plan returns what to do for a pod now, and after how long to look again if nothing happens before.
func plan(pod *corev1.Pod, actual runtime.Pod, m *memory, now time.Time) (steps []step, again time.Duration) {
	p := &planner{pod: pod, actual: actual, attempts: m.attemptsOf(pod, actual, now), memory: m, now: now}
	refused := refusedBefore(pod, m).reason != ""
	finished, deleted := refused || isEnd(phaseOf(pod, p.attempts)), pod.DeletionTimestamp != nil
	p.ending = finished || deleted
	if !refused || deleted {
		p.decide()
	}
	if finished && !deleted {
		p.end()
	}
	p.ask()
	return p.steps, p.again
}

// decide plans for the whole pod. The first of these that applies is all that is done now.
//
//  1. A pod that is being deleted is stopped and removed: p.delete.
//  2. A pod that has run to its end, by its phase (phaseOf), stays as it is: its containers are kept for their logs.
//  3. A pod whose sandbox is not there or does not run, and of which anything is left, sandbox or containers: remove it,
//     for what is left has no network, and cannot get it back. The next look finds nothing, and starts anew.
//  4. A pod of which nothing is there: start the sandbox, then run what is to run in it (p.runAll).
//  5. Else remove old attempts (p.removeOld), and run what is to run (p.runAll).
//
//lab:02 3
//lab:hint p.pod is what is wanted, p.actual is what there is; p.add takes a step, and delete, removeOld and runAll add theirs themselves.
//lab:hint One switch with five cases, in the order of the rules. Whether the sandbox is alive is asked three times: actual.Sandbox != nil && actual.Sandbox.Running.
//lab:hint case p.pod.DeletionTimestamp != nil; case phase is PodSucceeded or PodFailed; case !alive && (p.actual.Sandbox != nil || len(p.actual.Containers) > 0): p.add(step{do: removePod}); case !alive: p.add(step{do: startSandbox}) and p.runAll(); default.
func (p *planner) decide() {
	phase := phaseOf(p.pod, p.attempts)
	switch alive := p.actual.Sandbox != nil && p.actual.Sandbox.Running; {
	case p.pod.DeletionTimestamp != nil:
		p.delete()
	case phase == corev1.PodSucceeded || phase == corev1.PodFailed:
	case !alive && (p.actual.Sandbox != nil || len(p.actual.Containers) > 0):
		p.add(step{do: removePod})
	case !alive:
		p.add(step{do: startSandbox})
		p.runAll()
	default:
		p.removeOld()
		p.runAll()
	}
}

func (p *planner) add(s step) { p.steps = append(p.steps, s) }

// lookAfter asks for a look after that time, unless an earlier one is asked for already.
func (p *planner) lookAfter(wait time.Duration) {
	if wait > 0 && (p.again == 0 || wait < p.again) {
		p.again = wait
	}
}

// delete stops and removes a pod that is being deleted.
//
//  1. Stop each container that runs, with p.stop: it has the time until the DeletionTimestamp, which already has the grace
//     period in it. Others (created, exited) need no stopping.
//  2. If none runs, and anything is left, sandbox or containers: remove the pod. While one runs its death brings us back.
//
//lab:02 3
//lab:hint p.actual.Containers are those that are there, with their State; p.stop decides which signal, and when to look again.
//lab:hint The time that is left is p.pod.DeletionTimestamp.Sub(p.now), for all containers the same; it may be negative. Note whether one runs.
//lab:hint p.stop(&corev1.Container{Name: c.Name}, c.ID, left) for each that is runtime.Running; after the loop p.add(step{do: removePod}) if none was, and p.actual.Sandbox != nil || len(p.actual.Containers) > 0.
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

// stop stops a container that has so much time left for that: with its hook, if it has one, then SIGTERM, and with SIGKILL
// when no time is left. Each signal is sent once. It looks again when the time is over.
func (p *planner) stop(c *corev1.Container, id string, left time.Duration) {
	sent, whole := p.memory.signalled[id].name, containerNamed(p.pod, c.Name)
	switch {
	case left <= 0 && sent != kill:
		p.add(step{do: kill, container: c, id: id})
	case left <= 0 || p.ending && p.isHeldBack(c.Name):
	case sent == "" && hookOf(whole, preStop) != nil:
		p.add(step{do: callPreStop, container: whole, id: id, asked: asked{id, preStop}})
	case sent == "", sent == callPreStop && p.memory.verdicts[asked{id, preStop}] != unknown:
		p.add(step{do: terminate, container: c, id: id})
	}
	p.lookAfter(left)
}

// stopWithin stops a container that has so much time for that from when it was told, or from now if it was not.
func (p *planner) stopWithin(c *corev1.Container, id string, grace time.Duration) {
	told := p.now
	if sent := p.memory.signalled[id]; sent.name != "" {
		told = sent.at
	}
	p.stop(c, id, told.Add(grace).Sub(p.now))
}

// end stops what still runs of a pod that is at its end, whoever says so: sidecars, or all.
func (p *planner) end() {
	for _, c := range p.actual.Containers {
		if c.State == runtime.Running {
			p.stopWithin(&corev1.Container{Name: c.Name}, c.ID, gracePeriod(p.pod))
		}
	}
}

func (p *planner) removeOld() {
	for _, c := range p.actual.Containers {
		if kept := p.attempts[c.Name]; len(kept) > 2 && c.Attempt < kept[1].Attempt {
			p.add(step{do: removeContainer, id: c.ID})
		}
	}
}

// runAll runs the init containers in their order, and when all are done the others. Sidecars go on beside them; the next
// is for when one has started. Init containers that are gone with their sandbox run again in the new one; not if it is only
// they that somebody has cleared away.
func (p *planner) runAll() {
	begun := slices.ContainsFunc(p.pod.Spec.Containers, func(c corev1.Container) bool {
		last := newest(p.attempts[c.Name])
		return last != nil && last.gone == nil
	})
	for _, c := range partsOf(p.pod) {
		last := newest(p.attempts[c.Name])
		switch {
		case c.isFirst && succeeded(last) && (last.gone == nil || begun):
		case c.isFirst && succeeded(last):
			p.run(c.Container, corev1.RestartPolicyAlways)
			return
		case c.isFirst:
			p.run(c.Container, c.policy)
			return
		default:
			p.tend(c.Container, c.policy)
			if _, started := p.memory.questions(p.pod, c.Container, last); api.IsSidecar(c.Container) && !started && !begun {
				return
			}
		}
	}
}

// run plans for one container that should run, by its newest attempt. The first of these that applies is all.
//
//  1. If its last start from this image failed (memory.failed, by name), and is not due again before f.retry: look again
//     then.
//  2. If there was no attempt, start the first, which has the number 0.
//  3. If one was created and never started (a kubelet was killed in between), remove it, and start it with the same number.
//  4. If it runs, and has another image than the pod wants: p.stop it. It has the pod's grace period (gracePeriod), from
//     when it was told (memory.signalled, by ID), or from now if it was not. Its death brings us back.
//  5. If it runs, leave it.
//  6. If it has exited, has the image that the pod wants, and its policy wants no restart (restarts), leave it.
//  7. It has exited and is to run again. If its delay (delayAfter), counted from its end, is not over, look again when it
//     is. Else start the attempt with the next number.
//
//lab:02 2
//lab:hint newest(p.attempts[c.Name]) is the newest attempt, nil if there is none; p.memory.failed[c.Name] the last failure, whose image is "" if there is none.
//lab:hint One switch whose cases stand in the order of the rules; p.add plans a step, p.lookAfter asks for another look after so much time.
//lab:hint Steps are step{do: startContainer, container: c, attempt: n} and step{do: removeContainer, id: last.ID}; times left are f.retry.Sub(p.now), told.Add(gracePeriod(p.pod)).Sub(p.now), last.FinishedAt.Add(delayAfter(last)).Sub(p.now).
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
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && (a.ExitCode != 0 || a.ill)
}

// delayAfter returns how long a container that has exited waits for its next start, from its end.
//
//  1. One that somebody removed (gone is set) did not crash: it comes back at once.
//  2. One that ran for provedBy or longer has proved itself: at once, too.
//  3. Else by its number: the attempt N has had N restarts before it, see restartDelay.
//
//lab:02 1
//lab:hint An attempt has the fields of runtime.Container (Attempt, StartedAt, FinishedAt) and gone.
//lab:hint How long it ran is FinishedAt.Sub(StartedAt); "or longer" is >=.
//lab:hint Return 0 if a.gone != nil or it ran for provedBy, else restartDelay(a.Attempt).
func delayAfter(a *attempt) time.Duration {
	if a.gone != nil || a.FinishedAt.Sub(a.StartedAt) >= provedBy {
		return 0
	}
	return restartDelay(a.Attempt)
}

// restartDelay returns the wait after so many starts in vain: none after 0, firstDelay after the first, then twice as long
// each time, but never more than lastDelay, however large the count.
//
//lab:02 1
//lab:hint firstDelay and lastDelay stand at the top of this file; a time.Duration is an integer of nanoseconds, and doubling is <<.
//lab:hint The n-th delay is firstDelay << (n-1), and min keeps it below lastDelay. But an integer that is shifted far enough overflows to something negative, or to 0: bound the shift, too.
//lab:hint return min(lastDelay, firstDelay<<min(count-1, 16)), and 0 for a count of 0.
func restartDelay(count int) time.Duration {
	if count == 0 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(count-1, 16))
}
