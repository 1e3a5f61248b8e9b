package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// oracle answers what containers are asked, by the first word of the command.
type oracle struct {
	mu      sync.Mutex        // guards all below
	answers map[string]string // what is wrong; "error" if it cannot be asked
	asked   map[string][]time.Time
}

func (o *oracle) check(ctx context.Context, handler corev1.ProbeHandler, about Container) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := handler.Exec.Command[0]
	if o.asked == nil {
		o.asked = map[string][]time.Time{}
	}
	o.asked[name] = append(o.asked[name], time.Now())
	if o.answers[name] == "error" {
		return "", errors.New("nobody answers")
	}
	return o.answers[name], nil
}

func (o *oracle) say(name, answer string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answers == nil {
		o.answers = map[string]string{}
	}
	o.answers[name] = answer
}

// times returns when a question was asked, in seconds since then, and forgets it.
func (o *oracle) times(name string, since time.Time) (seconds []float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.asked[name] {
		seconds = append(seconds, at.Sub(since).Seconds())
	}
	delete(o.asked, name)
	return seconds
}

func command(word string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{word}}}
}

func hook(word string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: command(word).Exec}
}

// newProbe returns one with the defaults of the API server.
func newProbe(word string, changes ...func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{ProbeHandler: command(word), TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3}
	for _, change := range changes {
		change(p)
	}
	return p
}

func app(change func(*corev1.Container)) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { change(&pod.Spec.Containers[0]) }
}

func live(changes ...func(*corev1.Probe)) func(*corev1.Pod) {
	return app(func(c *corev1.Container) { c.LivenessProbe = newProbe("live", changes...) })
}

func readily(changes ...func(*corev1.Probe)) func(*corev1.Pod) {
	return app(func(c *corev1.Container) { c.ReadinessProbe = newProbe("ready", changes...) })
}

func atStart(changes ...func(*corev1.Probe)) func(*corev1.Pod) {
	return app(func(c *corev1.Container) { c.StartupProbe = newProbe("startup", changes...) })
}

func withPreStop(pod *corev1.Pod) {
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: hook("bye")}
}

// sidecars makes init containers of those names that go on.
func sidecars(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		for _, c := range named(names) {
			c.RestartPolicy = &always
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		}
	}
}

func says(id string, q question, v verdict) memory {
	return memory{verdicts: map[asked]verdict{{id, q}: v}, probers: map[asked]*prober{{id, q}: {}}}
}

func TestAVerdictTakesSoManyAnswersInARow(t *testing.T) {
	p := newProbe("x", func(p *corev1.Probe) { p.SuccessThreshold, p.FailureThreshold = 2, 3 })
	for _, test := range []struct{ answers, verdicts string }{
		{"+", "?"},
		{"++", "?+"},
		{"+-+-+", "?????"},
		{"---", "??-"},
		{"--+---", "?????-"},
		{"++--+---", "?++++++-"},
		{"---+-++", "??----+"},
		{"++-+-+", "?+++++"},
	} {
		got, count := "", tally{}
		for _, answer := range test.answers {
			count = count.count(p, answer == '+')
			got += map[verdict]string{unknown: "?", well: "+", ill: "-"}[count.verdict]
		}
		if got != test.verdicts {
			t.Errorf("after the answers %s the verdicts were %s, want %s", test.answers, got, test.verdicts)
		}
	}
}

func TestContainersAreAskedOneThingAfterTheOther(t *testing.T) {
	full := newPod(atStart(), live(), readily(), app(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{PostStart: hook("hello")} }))
	shown := full.DeepCopy()
	started := true
	shown.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "docker://app-0", Started: &started}}
	both := says("app-0", postStart, well)
	both.verdicts[asked{"app-0", startup}] = well
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		memory  memory
		run     runtime.Container
		want    string
		started bool
	}{
		{"nothing", newPod(), memory{}, running("app", 0), "", true},
		{"nothing of one that is not there", full, memory{}, exited("app", 0, 0), "", false},
		{"first the hook", full, memory{}, running("app", 0), "PostStartHook", false},
		{"which has failed", full, says("app-0", postStart, ill), running("app", 0), "PostStartHook", false},
		{"then whether it has started", full, says("app-0", postStart, well), running("app", 0), "PostStartHook Startup probe", false},
		{"then how it is", full, both, running("app", 0), "PostStartHook Startup probe Liveness probe Readiness probe", true},
		{"from the beginning for the next run", full, both, running("app", 1), "PostStartHook", false},
		{"not again what the status knows", shown, memory{}, running("app", 0), "Liveness probe Readiness probe", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			questions, started := test.memory.questions(test.pod, &test.pod.Spec.Containers[0], &attempt{Container: test.run})
			var words []string
			for _, q := range questions {
				words = append(words, string(q))
			}
			if got := strings.Join(words, " "); got != test.want || started != test.started {
				t.Errorf("asked is %q, started: %v; want %q, %v", got, started, test.want, test.started)
			}
		})
	}
}

func TestPlansForContainersThatAreIllOrHaveHooks(t *testing.T) {
	short := func(p *corev1.Probe) { grace := int64(5); p.TerminationGracePeriodSeconds = &grace }
	sent := func(m memory, name action, ago time.Duration) memory {
		m.signalled = map[string]signal{"app-0": {name: name, at: noon.Add(-ago)}}
		return m
	}
	never := policy(corev1.RestartPolicyNever)
	for _, test := range []struct{ name, got, want string }{
		{"a probe begins with its container", plans(newPod(live(), readily()), alive(running("app", 0)), memory{}), "begin probe, begin probe"},
		{"and not before", plans(newPod(live()), alive(), memory{}), "start app#0"},
		{"it ends with its container", plans(newPod(live(), never), alive(exited("app", 0, 0)), says("app-0", liveness, well)), "end probe"},
		{"one that is well is left alone", plans(newPod(live()), alive(running("app", 0)), says("app-0", liveness, well)), "nothing"},
		{"one that is ill is stopped", plans(newPod(live()), alive(running("app", 0)), says("app-0", liveness, ill)), "SIGTERM app-0; look again after 30s"},
		{"in the time that the probe gives", plans(newPod(live(short)), alive(running("app", 0)), says("app-0", liveness, ill)), "SIGTERM app-0; look again after 5s"},
		{"once", plans(newPod(live()), alive(running("app", 0)), sent(says("app-0", liveness, ill), terminate, 10*time.Second)), "nothing; look again after 20s"},
		{"and killed when that is over", plans(newPod(live()), alive(running("app", 0)), sent(says("app-0", liveness, ill), terminate, 30*time.Second)), "SIGKILL app-0"},
		{"one that never started, too", plans(newPod(atStart()), alive(running("app", 0)), says("app-0", startup, ill)), "SIGTERM app-0; look again after 30s"},
		{"one that is not ready is not", plans(newPod(readily()), alive(running("app", 0)), says("app-0", readiness, ill)), "nothing"},
		{"in a pod that is deleted nobody asks whether it lives", plans(newPod(live(), deletedIn(time.Minute)), alive(running("app", 0)), says("app-0", liveness, well)), "SIGTERM app-0, end probe; look again after 1m0s"},
		{"but whether it is ready", plans(newPod(readily(), deletedIn(time.Minute)), alive(running("app", 0)), says("app-0", readiness, well)), "SIGTERM app-0; look again after 1m0s"},

		{"the hook comes before SIGTERM", plans(newPod(withPreStop, deletedIn(time.Minute)), alive(running("app", 0)), memory{}), "call hook; look again after 1m0s"},
		{"which waits for it", plans(newPod(withPreStop, deletedIn(time.Minute)), alive(running("app", 0)), sent(says("app-0", preStop, unknown), callPreStop, time.Second)), "nothing; look again after 1m0s"},
		{"but not for ever", plans(newPod(withPreStop, deletedIn(0)), alive(running("app", 0)), sent(says("app-0", preStop, unknown), callPreStop, time.Minute)), "SIGKILL app-0"},
		{"whether it fails", plans(newPod(withPreStop, deletedIn(time.Minute)), alive(running("app", 0)), sent(says("app-0", preStop, ill), callPreStop, time.Second)), "SIGTERM app-0; look again after 1m0s"},
		{"or not", plans(newPod(withPreStop, deletedIn(time.Minute)), alive(running("app", 0)), sent(says("app-0", preStop, well), callPreStop, time.Second)), "SIGTERM app-0; look again after 1m0s"},

		{"a sidecar starts first", plans(newPod(sidecars("side"), inits("last")), runtime.Pod{}, memory{}), "start sandbox, start last#0"},
		{"and then the next", plans(newPod(inits("last"), sidecars("side")), alive(running("side", 0), exited("last", 0, 0)), memory{}), "start app#0"},
		{"not before it has started", plans(newPod(sidecars("side"), func(p *corev1.Pod) { p.Spec.InitContainers[0].StartupProbe = newProbe("startup") }), alive(running("side", 0)), says("side-0", startup, unknown)), "nothing"},
		{"one that dies is back while the others go on", plans(newPod(sidecars("side")), alive(running("app", 0), exited("side", 0, 0)), memory{}), "start side#1"},
		{"it ends when the others have", plans(newPod(sidecars("side"), never), alive(running("side", 0), exited("app", 0, 0)), memory{}), "SIGTERM side-0; look again after 30s"},
		{"not before", plans(newPod(sidecars("side"), never, deletedIn(time.Minute)), alive(running("side", 0), running("app", 0)), memory{}), "SIGTERM app-0; look again after 1m0s"},
		{"unless there is no time", plans(newPod(sidecars("side"), never, deletedIn(0)), alive(running("side", 0), running("app", 0)), memory{}), "SIGKILL side-0, SIGKILL app-0"},

		{"a pod that is refused is not begun", plans(newPod(), runtime.Pod{}, memory{refusal: refusal{"OutOfcpu", "full"}}), "nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("the plan is %q, want %q", test.got, test.want)
			}
		})
	}
}

func TestStatusTellsWhatProbesSay(t *testing.T) {
	never, onFailure := policy(corev1.RestartPolicyNever), policy(corev1.RestartPolicyOnFailure)
	shownReady := func(pod *corev1.Pod) {
		started := true
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "docker://app-0", Ready: true, Started: &started}}
	}
	stopped := memory{signalled: map[string]signal{"app-0": {name: terminate, ill: true}}}
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		memory memory
		want   string
	}{
		{"no probe: ready when it runs", newPod(), alive(running("app", 0)), memory{}, "Running; app running ready; Ready True"},
		{"not asked yet", newPod(readily()), alive(running("app", 0)), memory{}, "Running; app running; Ready False ContainersNotReady containers with unready status: [app]"},
		{"ready", newPod(readily()), alive(running("app", 0)), says("app-0", readiness, well), "Running; app running ready; Ready True"},
		{"not ready", newPod(readily()), alive(running("app", 0)), says("app-0", readiness, ill), "Running; app running; Ready False ContainersNotReady containers with unready status: [app]"},
		{"ready before this kubelet", newPod(readily(), shownReady), alive(running("app", 0)), memory{}, "Running; app running ready; Ready True"},
		{"not ready any more", newPod(readily(), shownReady), alive(running("app", 0)), says("app-0", readiness, ill), "Running; app running; Ready False ContainersNotReady containers with unready status: [app]"},
		{"the run before was ready", newPod(readily(), shownReady), alive(running("app", 1), exited("app", 0, 1)), memory{}, "Running; app running; Ready False ContainersNotReady containers with unready status: [app]"},
		{"not started yet", newPod(atStart()), alive(running("app", 0)), memory{}, "Running; app running; Ready False ContainersNotReady containers with unready status: [app]"},
		{"stopped because of a probe is failed", newPod(onFailure), alive(exited("app", 0, 0)), stopped, "Running; app terminated Completed 0; Ready False ContainersNotReady containers with unready status: [app]"},
		{"a sidecar is no end", newPod(never, sidecars("side")), alive(exited("app", 0, 0), running("side", 0)), memory{}, "Running; app terminated Completed 0; Ready False ContainersNotReady containers with unready status: [app]"},
		{"without it all is done", newPod(never, sidecars("side")), alive(exited("app", 0, 0), exited("side", 0, 0)), memory{}, "Succeeded; app terminated Completed 0; Ready False PodCompleted "},
		{"refused", newPod(), runtime.Pod{}, memory{refusal: refusal{"OutOfcpu", "full"}}, "Failed OutOfcpu Pod was rejected: full; Ready False PodFailed "},
		{"refused before", newPod(func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "OutOfcpu", "Pod was rejected: full"
		}), runtime.Pod{}, memory{}, "Failed OutOfcpu Pod was rejected: full; Ready False PodFailed "},
	} {
		t.Run(test.name, func(t *testing.T) {
			status := statusOf(test.pod, test.actual, &test.memory, "192.0.2.1", noon)
			got := strings.TrimSpace(fmt.Sprintf("%s %s %s", status.Phase, status.Reason, status.Message))
			for _, c := range status.ContainerStatuses {
				got += "; " + c.Name + " " + say(c.State)
				if c.Ready {
					got += " ready"
				}
			}
			condition := find(status.Conditions, corev1.PodReady)
			if got += "; Ready " + string(condition.Status); condition.Reason != "" {
				got += " " + condition.Reason + " " + condition.Message
			}
			if got != test.want {
				t.Errorf("the status is\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestAPodOnTheHostsNetworkIsWhereTheNodeIs(t *testing.T) {
	pod := newPod(func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	if got := statusOf(pod, alive(running("app", 0)), &memory{}, "192.0.2.1", noon); got.PodIP != "192.0.2.1" || got.PodIPs[0].IP != got.PodIP {
		t.Errorf("it is at %q %v", got.PodIP, got.PodIPs)
	}
}

// The tests below run a kubelet, in a bubble in which a second costs nothing.

// since returns when the newest container of a pod was started.
func (b *kubeletBench) since(pod *corev1.Pod) time.Time {
	b.t.Helper()
	return b.held(pod.UID).Containers[0].StartedAt
}

func (b *kubeletBench) waitReady(want bool) {
	b.t.Helper()
	b.eventually(fmt.Sprint("the pod's readiness is ", want), func() bool {
		c := find(b.pod().Status.Conditions, corev1.PodReady)
		return c != nil && (c.Status == corev1.ConditionTrue) == want
	})
}

func (b *kubeletBench) said() string {
	b.t.Helper()
	mastertest.Settle()
	var said []string
	for _, event := range mastertest.List[*corev1.Event](b.t, b.Client) {
		said = append(said, fmt.Sprintf("%s %s: %s (%d)", event.Type, event.Reason, event.Message, event.Count))
	}
	return strings.Join(said, "\n")
}

func TestProbesAreMadeWhenTheyAreDue(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.oracle.say("ready", "not yet")
		pod := b.create(live(func(p *corev1.Probe) { p.InitialDelaySeconds, p.PeriodSeconds = 7, 3 }), readily())
		b.waitState("running", 0)
		start := b.since(pod)
		time.Sleep(15 * time.Second)
		if got := b.oracle.times("live", start); !slices.Equal(got, []float64{7, 10, 13}) {
			t.Errorf("whether it lives was asked after %v s", got)
		}
		// What is not ready yet is asked soon, then less and less often.
		if got := b.oracle.times("ready", start); !slices.Equal(got, []float64{0, .125, .375, .875, 1.875, 3.875, 7.875}) {
			t.Errorf("whether it is ready was asked after %v s", got)
		}
		b.oracle.say("ready", "")
		time.Sleep(15 * time.Second)
		b.oracle.times("ready", start)
		time.Sleep(30 * time.Second)
		if got := b.oracle.times("ready", start); len(got) != 3 || got[1]-got[0] != 10 {
			t.Errorf("when it is ready that was asked after %v s", got)
		}
	})
}

func TestSuccessesInARowAreAPeriodApart(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(readily(func(p *corev1.Probe) { p.SuccessThreshold = 3 }))
		b.waitState("running", 0)
		start := b.since(pod)
		b.waitReady(true)
		if got := b.oracle.times("ready", start); !slices.Equal(got, []float64{0, 10, 20}) {
			t.Errorf("it was asked after %v s", got)
		}
	})
}

func TestReadinessComesAndGoes(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.oracle.say("ready", "not yet")
		b.create(readily())
		b.waitState("running", 0)
		b.waitReady(false)
		b.oracle.say("ready", "")
		b.waitReady(true)
		b.oracle.say("ready", "error")
		time.Sleep(5 * time.Minute)
		b.waitReady(true) // that it cannot be asked says nothing about it
		b.oracle.say("ready", "out of order")
		start := time.Now()
		b.waitReady(false)
		if took := time.Since(start); took < 20*time.Second || took > 31*time.Second {
			t.Errorf("three failures took %v", took)
		}
		b.waitState("running", 0)
		for _, want := range []string{"Warning Unhealthy: Readiness probe failed: out of order (3)", "Warning Unhealthy: Readiness probe errored: nobody answers (30)"} {
			if got := b.said(); !strings.Contains(got, want) {
				t.Errorf("there is no event %q, but\n%s", want, got)
			}
		}
	})
}

func TestLivenessRestarts(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create(live())
		b.waitState("running", 0)
		b.oracle.say("live", "it hangs")
		b.waitState("running", 1)
		b.waitState("waiting CrashLoopBackOff", 1)
		b.oracle.say("live", "")
		b.waitState("running", 2)
		time.Sleep(time.Hour)
		b.waitState("running", 2)
		for _, want := range []string{"Warning Unhealthy: Liveness probe failed: it hangs (6)", "Normal Killing: Container app failed liveness probe, will be restarted (2)"} {
			if got := b.said(); !strings.Contains(got, want) {
				t.Errorf("there is no event %q, but\n%s", want, got)
			}
		}
	})
}

func TestALivenessFailureRestartsWhateverTheExitCode(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create(live(), policy(corev1.RestartPolicyOnFailure))
		b.waitState("running", 0)
		b.oracle.say("live", "it hangs")
		b.waitState("running", 1) // it ended with 0, at SIGTERM
	})
}

func TestTheOthersWaitForTheStartupProbe(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.oracle.say("startup", "still loading")
		b.oracle.say("live", "no answer")
		pod := b.create(atStart(func(p *corev1.Probe) { p.FailureThreshold = 30 }), live(), readily())
		b.waitState("running", 0)
		start := b.since(pod)
		time.Sleep(2 * time.Minute)
		b.waitState("running", 0)
		if got := slices.Concat(b.oracle.times("live", start), b.oracle.times("ready", start)); len(got) > 0 {
			t.Errorf("it was asked how it is after %v s", got)
		}
		b.oracle.say("live", "")
		b.oracle.say("startup", "")
		b.waitReady(true)
		b.oracle.times("startup", start)
		time.Sleep(time.Hour)
		if got := b.oracle.times("startup", start); len(got) > 0 {
			t.Errorf("after it had started that was asked %v s later", got)
		}
		if !*b.pod().Status.ContainerStatuses[0].Started {
			t.Error("it has not started")
		}
	})
}

func TestTheNextKubeletChangesNothingByItsProbes(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create(atStart(), live(), readily(), app(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{PostStart: hook("hello")} }))
		b.waitReady(true)
		before := b.pod()
		b.stop()
		b.oracle.times("hello", time.Now())
		b.oracle.times("startup", time.Now())
		b.oracle.say("ready", "error")
		b.start()
		if writes := b.writesAfter(time.Minute); len(slices.DeleteFunc(writes, func(w string) bool { return strings.Contains(w, "/events") })) > 0 {
			t.Errorf("the next kubelet wrote %v", writes)
		}
		if now := b.pod(); now.ResourceVersion != before.ResourceVersion {
			t.Errorf("the status was\n%+v and is\n%+v", before.Status, now.Status)
		}
		if got := slices.Concat(b.oracle.times("hello", time.Now()), b.oracle.times("startup", time.Now())); len(got) > 0 {
			t.Error("it was started anew")
		}
	})
}

func TestAHookThatFailsAfterTheStartStopsTheContainer(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.oracle.say("hello", "no greeting")
		b.create(readily(), app(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{PostStart: hook("hello")} }))
		b.waitState("waiting CrashLoopBackOff", 1)
		b.oracle.say("hello", "")
		b.waitReady(true)
		if got := b.said(); !strings.Contains(got, "Warning FailedPostStartHook: PostStartHook failed: no greeting (2)") {
			t.Errorf("the events are\n%s", got)
		}
	})
}

func TestAHookBeforeTheEndPutsItOff(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(app(func(c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 12}}}
		}))
		b.waitState("running", 0)
		start := time.Now()
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		time.Sleep(11 * time.Second)
		if got := b.runtime.sent(); len(got) > 0 {
			t.Errorf("while it waits it was sent %v", got)
		}
		b.waitGone(pod.UID)
		if took := time.Since(start); took < 12*time.Second || took > 13*time.Second {
			t.Errorf("it took %v", took)
		}
		if got := strings.Join(b.runtime.sent(), " "); got != "SIGTERM" {
			t.Errorf("it was sent %s", got)
		}
	})
}

func TestReadinessIsAskedUntilTheEnd(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.stubborn = true
		pod := b.create(live(), readily(func(p *corev1.Probe) { p.FailureThreshold = 1 }))
		b.waitReady(true)
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		mastertest.Settle()
		b.oracle.times("live", time.Now())
		b.oracle.say("live", "it stops")
		b.oracle.say("ready", "it stops")
		b.waitReady(false)
		b.waitGone(pod.UID)
		if got := b.oracle.times("live", time.Now()); len(got) > 0 {
			t.Errorf("that it lives was asked %d times", len(got))
		}
		b.oracle.times("ready", time.Now())
		time.Sleep(time.Hour)
		if got := b.oracle.times("ready", time.Now()); len(got) > 0 {
			t.Errorf("when it was gone it was asked %d times", len(got))
		}
	})
}
