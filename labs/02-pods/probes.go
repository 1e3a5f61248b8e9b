package kubelet

// Which containers are well, by their probes and hooks. All here is pure: who asks, and when, is in prober.go.

import (
	"slices"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

// question is what is asked of a run of a container. A hook is asked once, a probe again and again. They are named as
// events do.
type question string

const (
	postStart question = "PostStartHook"
	startup   question = "Startup probe"
	liveness  question = "Liveness probe"
	readiness question = "Readiness probe"
	preStop   question = "PreStopHook"
)

// asked is a question to one run of a container.
type asked struct {
	id string // of the run
	question
}

// verdict is what the answers to a question come to.
type verdict int32

const (
	unknown verdict = iota // too early to tell
	well
	ill
)

// tally counts answers.
type tally struct {
	verdict verdict
	last    bool // the newest answer
	row     int  // how many like it came one after the other
}

// count returns the tally with one answer more. It takes several in a row, by the probe's thresholds, to change the verdict.
func (t tally) count(p *corev1.Probe, ok bool) tally {
	if ok != t.last {
		t.row = 0
	}
	t.last, t.row = ok, t.row+1
	if ok && t.row >= int(p.SuccessThreshold) {
		t.verdict = well
	} else if !ok && t.row >= int(p.FailureThreshold) {
		t.verdict = ill
	}
	return t
}

// probeOf returns the probe that a question makes, nil if the container has none.
func probeOf(c *corev1.Container, q question) *corev1.Probe {
	return map[question]*corev1.Probe{startup: c.StartupProbe, liveness: c.LivenessProbe, readiness: c.ReadinessProbe}[q]
}

// hookOf returns the hook that a question calls, nil if the container has none.
func hookOf(c *corev1.Container, q question) *corev1.LifecycleHandler {
	if c == nil || c.Lifecycle == nil {
		return nil
	}
	return map[question]*corev1.LifecycleHandler{postStart: c.Lifecycle.PostStart, preStop: c.Lifecycle.PreStop}[q]
}

// questions returns what is to be asked of a run of a container, and whether it has started: its hook has succeeded, and
// then its startup probe, once, as far as this kubelet or the pod's status knows. Until then the others are held off.
func (m *memory) questions(pod *corev1.Pod, c *corev1.Container, run *attempt) (all []question, started bool) {
	if !isRunning(run) {
		return nil, false
	}
	shown := shownOf(pod, run)
	for _, q := range []question{postStart, startup} {
		if shown.Started != nil && *shown.Started || hookOf(c, q) == nil && probeOf(c, q) == nil {
			continue
		}
		if all = append(all, q); m.verdicts[asked{run.ID, q}] != well {
			return all, false
		}
	}
	for _, q := range []question{liveness, readiness} {
		if probeOf(c, q) != nil {
			all = append(all, q)
		}
	}
	return all, true
}

// ready tells whether a container can be sent requests. What the pod's status says of it counts until its probe has come
// to a verdict: a kubelet that has just been started takes nobody out of service.
func (m *memory) ready(pod *corev1.Pod, c *corev1.Container, run *attempt) bool {
	if _, started := m.questions(pod, c, run); !started || c.ReadinessProbe == nil {
		return started
	}
	v := m.verdicts[asked{run.ID, readiness}]
	return v == well || v == unknown && shownOf(pod, run).Ready
}

// shownOf returns what the pod's status says of a run of a container, nothing if it knows another one.
func shownOf(pod *corev1.Pod, run *attempt) corev1.ContainerStatus {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.ContainerID == containerID(run.ID) {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// ailment says what a run of a container has failed, "" for nothing, and how long it has to stop because of that.
func (m *memory) ailment(pod *corev1.Pod, c *corev1.Container, run *attempt) (what string, grace time.Duration) {
	if !isRunning(run) {
		return "", 0
	}
	for q, words := range map[question]string{postStart: "PostStartHook", startup: "startup probe", liveness: "liveness probe"} {
		if m.verdicts[asked{run.ID, q}] != ill {
			continue
		}
		if p := probeOf(c, q); p != nil && p.TerminationGracePeriodSeconds != nil {
			return words, time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
		}
		return words, gracePeriod(pod)
	}
	return "", 0
}

// tend runs a container, or has it restarted if its probes say so.
func (p *planner) tend(c *corev1.Container, policy corev1.RestartPolicy) {
	last := newest(p.attempts[c.Name])
	what, grace := p.memory.ailment(p.pod, c, last)
	if what == "" {
		p.run(c, policy)
		return
	}
	why := "Container " + c.Name + " failed " + what
	if policy != corev1.RestartPolicyNever {
		why += ", will be restarted"
	}
	before := len(p.steps)
	p.stopWithin(c, last.ID, grace)
	for i := range p.steps[before:] {
		p.steps[before+i].why = why
	}
}

// ask plans to begin with the questions to each container that runs, and to end those to runs that have ended. When the
// pod is to go nobody asks any more whether it lives, but its readiness is still of interest.
func (p *planner) ask() {
	runs := map[string]bool{}
	for _, c := range partsOf(p.pod) {
		run := newest(p.attempts[c.Name])
		if !isRunning(run) {
			continue
		}
		runs[run.ID] = true
		questions, _ := p.memory.questions(p.pod, c.Container, run)
		for _, q := range questions {
			key := asked{run.ID, q}
			if _, begun := p.memory.probers[key]; !begun && (q == readiness || !p.ending) {
				p.add(step{do: beginProbe, container: c.Container, asked: key, since: run.StartedAt})
			}
		}
	}
	for key := range p.memory.probers {
		if !runs[key.id] || p.ending && key.question != readiness && key.question != preStop {
			p.add(step{do: endProbe, asked: key})
		}
	}
}

// isHeldBack tells of a sidecar that the pod's own containers may still need while they stop.
func (p *planner) isHeldBack(name string) bool {
	c := containerNamed(p.pod, name)
	return c != nil && api.IsSidecar(c) &&
		slices.ContainsFunc(p.pod.Spec.Containers, func(c corev1.Container) bool { return isRunning(newest(p.attempts[c.Name])) })
}

// containerNamed returns a container of the pod, nil if it has none of the name.
func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, c := range partsOf(pod) {
		if c.Name == name {
			return c.Container
		}
	}
	return nil
}
