package kubelet

// Who asks containers how they are: a goroutine for each question to each run of a container. It ends with the run.

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
)

// firstPause is how soon a container that was not ready at once is asked again. From there on the pauses double up to the
// probe's period: a server that takes half a second to listen need not wait ten for its first request. What is asked in its
// first second goes untold.
const firstPause = 125 * time.Millisecond

// prober asks one question until its verdict is final or its context ends.
type prober struct {
	end     context.CancelFunc
	verdict atomic.Int32 // a verdict; the pod is looked at when it changes
}

// begin starts a prober. Run waits for it.
func (k *Kubelet) begin(ctx context.Context, pod *corev1.Pod, podIP string, m *memory, s step) {
	ctx, end := context.WithCancel(ctx)
	p := &prober{end: end}
	m.probers[s.asked] = p
	about := Container{Pod: pod, Container: s.container, ID: s.asked.id, PodIP: podIP}
	say := func(v verdict) {
		if p.verdict.Swap(int32(v)) != int32(v) && ctx.Err() == nil {
			k.queue.Add(string(pod.UID))
		}
	}
	k.probing.Go(func() {
		defer end()
		if probe := probeOf(s.container, s.asked.question); probe != nil {
			k.probe(ctx, about, s, probe, say)
		} else {
			k.callHook(ctx, about, s.asked.question, say)
		}
	})
}

// probe asks at the times that the probe wants, counted from the start of the container. An ill container will be
// stopped, and one that has started once has: what comes after that is another prober's.
func (k *Kubelet) probe(ctx context.Context, about Container, s step, p *corev1.Probe, say func(verdict)) {
	kind, period := s.asked.question, time.Duration(p.PeriodSeconds)*time.Second
	control.Sleep(ctx, time.Until(s.since.Add(time.Duration(p.InitialDelaySeconds)*time.Second)))
	pause := period
	if kind == readiness {
		pause = firstPause
	}
	for answers := (tally{}); ctx.Err() == nil; {
		start := time.Now()
		once, cancel := context.WithTimeout(ctx, time.Duration(p.TimeoutSeconds)*time.Second)
		failure, err := k.Check(once, p.ProbeHandler, about)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // nobody knows how it is: that is no reason to change anything
			k.events.Warning(about.Pod, "Unhealthy", "%s errored: %v", kind, err)
		default:
			if failure != "" && pause >= min(period, time.Second) {
				k.events.Warning(about.Pod, "Unhealthy", "%s failed: %s", kind, failure)
			}
			before := answers.verdict
			if answers = answers.count(p, failure == ""); answers.verdict != before {
				slog.Info(string(kind)+" has a verdict", "pod", control.Key(about.Pod), "container", about.Name, "well", answers.verdict == well)
			}
			say(answers.verdict)
		}
		if kind != readiness && answers.verdict == ill || kind == startup && answers.verdict == well {
			return
		}
		if answers.last {
			pause = period
		}
		control.Sleep(ctx, time.Until(start.Add(pause)))
		pause = min(2*pause, period)
	}
}

// callHook does what a hook says, once. One that fails after the start stops the container, one before the end does not
// keep it.
func (k *Kubelet) callHook(ctx context.Context, about Container, which question, say func(verdict)) {
	hook := hookOf(about.Container, which)
	if hook.Sleep != nil {
		control.Sleep(ctx, time.Duration(hook.Sleep.Seconds)*time.Second)
		say(well)
		return
	}
	failure, err := k.Check(ctx, corev1.ProbeHandler{Exec: hook.Exec, HTTPGet: hook.HTTPGet}, about)
	if err != nil {
		failure = err.Error()
	}
	if failure == "" {
		say(well)
		return
	}
	if ctx.Err() == nil {
		k.events.Warning(about.Pod, "Failed"+string(which), "%s failed: %s", which, failure)
	}
	say(ill)
}

// endProbes ends all probers of a pod that is gone.
func (m *memory) endProbes() {
	for _, p := range m.probers {
		p.end()
	}
}
