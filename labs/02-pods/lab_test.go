package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/labs/labtest"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The tests of lab 02, in the order of its tasks. Those of tasks 1 to 3 ask pure functions, at noon. Those of task 4 run a
// kubelet against the real API server and a hollow runtime, in a bubble of testing/synctest, in which a second costs nothing.

// noon is when the plans of these tests are made.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func describe(steps []step) string {
	var words []string
	for _, s := range steps {
		switch s.do {
		case startContainer:
			words = append(words, fmt.Sprintf("start %s#%d", s.container.Name, s.attempt))
		case removeContainer:
			words = append(words, "remove "+s.id)
		case terminate, kill:
			words = append(words, string(s.do)+" "+s.id)
		default:
			words = append(words, string(s.do))
		}
	}
	return strings.Join(words, ", ")
}

// newPod returns a pod with the container app of image hello:1.
func newPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, NodeName: "node-1"}}
	containers("app")(pod)
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func named(names []string) []corev1.Container {
	var all []corev1.Container
	for _, name := range names {
		all = append(all, corev1.Container{Name: name, Image: "hello:1"})
	}
	return all
}

func containers(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers = named(names) }
}

func inits(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers = named(names) }
}

func policy(p corev1.RestartPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = p }
}

func image(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = name }
}

// deletedIn says how much of the grace period is left at noon.
func deletedIn(left time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		at := metav1.NewTime(noon.Add(left))
		pod.DeletionTimestamp = &at
	}
}

// alive is a pod with a sandbox that runs and these containers, newest first.
func alive(containers ...runtime.Container) runtime.Pod {
	return runtime.Pod{UID: "web-uid", Sandbox: &runtime.Sandbox{ID: "pause", Running: true, IP: "10.244.1.7"}, Containers: containers}
}

func dead(containers ...runtime.Container) runtime.Pod {
	pod := alive(containers...)
	pod.Sandbox.Running, pod.Sandbox.IP = false, ""
	return pod
}

func containerOf(name string, number int, state runtime.State) runtime.Container {
	return runtime.Container{ID: fmt.Sprintf("%s-%d", name, number), Name: name, Image: "hello:1", ImageID: "sha256:1", Attempt: number, State: state,
		CreatedAt: noon.Add(-time.Minute)}
}

func created(name string, number int) runtime.Container {
	return containerOf(name, number, runtime.Created)
}

func running(name string, number int) runtime.Container {
	c := containerOf(name, number, runtime.Running)
	c.StartedAt = c.CreatedAt
	return c
}

// exited returns a container that ran for a minute and ended at noon.
func exited(name string, number, code int) runtime.Container {
	c := containerOf(name, number, runtime.Exited)
	c.StartedAt, c.FinishedAt, c.ExitCode = c.CreatedAt, noon, code
	return c
}

func told(id string, name action, ago time.Duration) memory {
	return memory{signalled: map[string]signal{id: {name: name, at: noon.Add(-ago)}}}
}

// failedAt is the memory of an app that could not be started at that time before or after noon, for the first time.
func failedAt(image string, at time.Duration) memory {
	return memory{failed: map[string]failure{"app": {image: image, reason: "ErrImagePull", count: 1, retry: noon.Add(at + 10*time.Second)}}}
}

// say puts a state in words: what it is, why, and the exit code.
func say(state corev1.ContainerState) string {
	switch {
	case state.Waiting != nil:
		return "waiting " + state.Waiting.Reason
	case state.Running != nil:
		return "running"
	case state.Terminated != nil:
		return "terminated " + state.Terminated.Reason + " " + strconv.Itoa(int(state.Terminated.ExitCode))
	}
	return ""
}

func find(conditions []corev1.PodCondition, wanted corev1.PodConditionType) *corev1.PodCondition {
	for i := range conditions {
		if conditions[i].Type == wanted {
			return &conditions[i]
		}
	}
	return nil
}

// planned puts a plan in words.
func planned(steps []step, again time.Duration) string {
	text := describe(steps)
	if text == "" {
		text = "nothing"
	}
	if again > 0 {
		text += fmt.Sprintf("; look again after %v", again)
	}
	return text
}

// Task 1

func TestTask1DelayDoublesFromTenSecondsToFiveMinutes(t *testing.T) {
	lab := labtest.Task(t, "02", 1)
	for count, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute} {
		lab.Equal(fmt.Sprintf("asked for the delay after %d starts in vain", count), restartDelay(count), want, "none after 0, firstDelay after 1, then twice the one before, lastDelay at the most")
	}
	for _, count := range []int{40, 65, 1000} {
		lab.Equal(fmt.Sprintf("asked for the delay after %d starts in vain", count), restartDelay(count), lastDelay, "ten seconds shifted by so much overflow: bound the shift as well as the result")
	}
}

func TestTask1WhatRanLongOrWasRemovedComesBackAtOnce(t *testing.T) {
	lab := labtest.Task(t, "02", 1)
	for _, row := range []struct {
		what   string
		number int
		ran    time.Duration
		gone   bool
		want   time.Duration
		cause  string
	}{
		{"the first attempt, which ran for a minute", 0, time.Minute, false, 0, "the attempt 0 had no restart before it"},
		{"attempt 3, which ran for a minute", 3, time.Minute, false, 40 * time.Second, "the attempt N had N restarts before it: restartDelay(a.Attempt)"},
		{"attempt 9, which ran for a second less than ten minutes", 9, 10*time.Minute - time.Second, false, 5 * time.Minute, "it ran from StartedAt to FinishedAt, which is less than provedBy"},
		{"attempt 9, which ran for ten minutes", 9, 10 * time.Minute, false, 0, "one that ran for provedBy or longer starts over"},
		{"attempt 9, which somebody removed after a minute", 9, time.Minute, true, 0, "gone is set: it did not crash, so there is nothing to wait for"},
	} {
		a := &attempt{Container: exited("app", row.number, 1)}
		a.StartedAt = a.FinishedAt.Add(-row.ran)
		if row.gone {
			a.gone = &corev1.ContainerStateTerminated{}
		}
		lab.Equal("asked for the delay after "+row.what, delayAfter(a), row.want, row.cause)
	}
}

// Task 2

// runs asks run for its plan for the container app of a pod with these containers.
func runs(pod *corev1.Pod, m memory, containers ...runtime.Container) string {
	p := &planner{pod: pod, attempts: m.attemptsOf(pod, alive(containers...), noon), memory: &m, now: noon}
	p.run(&pod.Spec.Containers[0], pod.Spec.RestartPolicy)
	return planned(p.steps, p.again)
}

// row is a case of a table: what there is, what is to be planned, and which rule says so.
type row struct {
	what string
	got  string
	want string
	rule string
}

func eachRow(lab *labtest.T, rows []row) {
	lab.Helper()
	for _, r := range rows {
		lab.Check(r.got == r.want, labtest.Report{Did: "planned for " + r.what, Want: r.want, Got: r.got, Cause: r.rule})
	}
}

func TestTask2ContainerIsStartedAndStartedAgainByItsPolicy(t *testing.T) {
	lab := labtest.Task(t, "02", 2)
	with := func(p corev1.RestartPolicy, code int) string {
		return runs(newPod(policy(p)), memory{}, exited("app", 0, code))
	}
	eachRow(lab, []row{
		{"a container of which there was no attempt", runs(newPod(), memory{}), "start app#0", "rule 2: the first attempt has the number 0"},
		{"one that runs", runs(newPod(), memory{}, running("app", 0)), "nothing", "rule 5: what runs is left alone"},
		{"one that runs, after two that have exited", runs(newPod(), memory{}, running("app", 2), exited("app", 1, 1)), "nothing", "only the newest attempt counts, and it runs"},
		{"one that was created and never started, as attempt 2", runs(newPod(), memory{}, created("app", 2)), "remove app-2, start app#2", "rule 3: it is in the way of the one that is started in its place, which has the same number: it was no attempt yet"},
		{"Always, after exit code 0", with(corev1.RestartPolicyAlways, 0), "start app#1", "rule 7: Always restarts whatever the code"},
		{"Always, after exit code 1", with(corev1.RestartPolicyAlways, 1), "start app#1", "rule 7: the next attempt has the next number"},
		{"OnFailure, after exit code 0", with(corev1.RestartPolicyOnFailure, 0), "nothing", "rule 6: it has succeeded: ask restarts with the policy that run was given"},
		{"OnFailure, after exit code 1", with(corev1.RestartPolicyOnFailure, 1), "start app#1", "rule 7: it has failed"},
		{"Never, after exit code 1", with(corev1.RestartPolicyNever, 1), "nothing", "rule 6: ask restarts with the policy that run was given"},
	})
}

func TestTask2RestartWaitsUntilItsDelayIsOver(t *testing.T) {
	lab := labtest.Task(t, "02", 2)
	ended := func(number int, ago time.Duration) runtime.Container {
		c := exited("app", number, 1)
		c.StartedAt, c.FinishedAt = c.StartedAt.Add(-ago), c.FinishedAt.Add(-ago)
		return c
	}
	eachRow(lab, []row{
		{"attempt 1, which has ended just now", runs(newPod(), memory{}, ended(1, 0)), "nothing; look again after 10s", "rule 7: nothing would bring us back but a look that was asked for: p.lookAfter"},
		{"attempt 1, which ended 4 s ago", runs(newPod(), memory{}, ended(1, 4*time.Second)), "nothing; look again after 6s", "rule 7: the delay is counted from its end, not from now, or each look would push it on"},
		{"attempt 1, which ended 10 s ago", runs(newPod(), memory{}, ended(1, 10*time.Second)), "start app#2", "rule 7: the delay is over when 10 s have passed"},
		{"one whose image could not be pulled 4 s ago", runs(newPod(), failedAt("hello:1", -4*time.Second)), "nothing; look again after 6s", "rule 1: p.memory.failed says when it is due"},
		{"one whose image could not be pulled 10 s ago", runs(newPod(), failedAt("hello:1", -10*time.Second)), "start app#0", "rule 1: it is due; go on with the other rules"},
		{"one whose image could not be pulled 4 s ago, and now has another", runs(newPod(image("hello:2")), failedAt("hello:1", -4*time.Second)), "start app#0", "rule 1: the failure counts for the image that it was of: somebody has mended the name"},
	})
}

func TestTask2ContainerWithAnotherImageIsReplaced(t *testing.T) {
	lab := labtest.Task(t, "02", 2)
	pod := newPod(image("hello:2"), policy(corev1.RestartPolicyNever))
	eachRow(lab, []row{
		{"one that runs hello:1, of a pod that wants hello:2 now", runs(pod, memory{}, running("app", 0)), "SIGTERM app-0; look again after 30s", "rule 4: it has the pod's grace period from now on; p.stop sends the signal and asks for the look"},
		{"the same 10 s after SIGTERM", runs(pod, told("app-0", "SIGTERM", 10*time.Second), running("app", 0)), "nothing; look again after 20s", "rule 4: the grace period is counted from when it was told: memory.signalled"},
		{"the same 30 s after SIGTERM", runs(pod, told("app-0", "SIGTERM", 30*time.Second), running("app", 0)), "SIGKILL app-0", "rule 4: its time is over, which p.stop sees if it is given 0 or less"},
		{"one that has stopped, of hello:1, in a pod that never restarts and wants hello:2", runs(pod, memory{}, exited("app", 0, 0)), "start app#1", "rule 6 is for containers of the image that the pod wants: of this one there was no attempt yet"},
	})
}

// Task 3

// plans asks plan for a pod.
func plans(pod *corev1.Pod, actual runtime.Pod, m memory) string {
	return planned(plan(pod, actual, &m, noon))
}

func TestTask3PodIsBuiltAndRebuiltOnItsSandbox(t *testing.T) {
	lab := labtest.Task(t, "02", 3)
	never, two := policy(corev1.RestartPolicyNever), containers("app", "log")
	eachRow(lab, []row{
		{"a fresh pod of two containers", plans(newPod(two), runtime.Pod{}, memory{}), "start sandbox, start app#0, start log#0", "rule 4: the sandbox first, and all else in the same look"},
		{"a pod that runs", plans(newPod(), alive(running("app", 0)), memory{}), "nothing", "rule 5: nothing is to be done"},
		{"a pod of which one container of two is missing", plans(newPod(two), alive(running("app", 0)), memory{}), "start log#0", "rule 5: the sandbox runs already"},
		{"a pod whose sandbox has died under a container that runs", plans(newPod(), dead(running("app", 0)), memory{}), "remove pod", "rule 3: only remove; what starts would start in a dead network"},
		{"a pod whose sandbox is gone, with a container that runs", plans(newPod(), runtime.Pod{Containers: []runtime.Container{running("app", 0)}}, memory{}), "remove pod", "rule 3: a container without a sandbox is a rest, too"},
		{"a pod whose sandbox has died before there was a container", plans(newPod(), dead(), memory{}), "remove pod", "rule 3: a dead sandbox is a rest, too, and in the way of a new one"},
		{"a pod that never restarts, has ended, and whose sandbox has died", plans(newPod(never), dead(exited("app", 0, 0)), memory{}), "nothing", "rule 2 comes before rule 3: it is done, and its log is kept"},
		{"a pod with four attempts of its container", plans(newPod(), alive(running("app", 4), exited("app", 3, 1), exited("app", 2, 1), exited("app", 1, 1)), memory{}), "remove app-2, remove app-1", "rule 5: p.removeOld keeps two of each"},
		{"a pod with an init container that is not done", plans(newPod(inits("first")), runtime.Pod{}, memory{}), "start sandbox, start first#0", "rule 4: p.runAll knows of init containers, and run alone does not"},
	})
}

func TestTask3DeletedPodIsStoppedThenRemoved(t *testing.T) {
	lab := labtest.Task(t, "02", 3)
	two := containers("app", "log")
	in := func(left time.Duration, changes ...func(*corev1.Pod)) *corev1.Pod {
		return newPod(append(changes, deletedIn(left))...)
	}
	eachRow(lab, []row{
		{"a pod that is to be gone in 30 s, with two containers that run", plans(in(30*time.Second, two), alive(running("app", 0), running("log", 0)), memory{}), "SIGTERM app-0, SIGTERM log-0; look again after 30s", "delete, rule 1: all are told at once; the look is for the SIGKILL"},
		{"the same 18 s later", plans(in(12*time.Second), alive(running("app", 0)), told("app-0", "SIGTERM", 18*time.Second)), "nothing; look again after 12s", "p.stop sends each signal once"},
		{"the same when the time is over", plans(in(0), alive(running("app", 0)), told("app-0", "SIGTERM", 30*time.Second)), "SIGKILL app-0", "delete, rule 1: give p.stop the time that is left, DeletionTimestamp.Sub(now)"},
		{"one that was to be gone a minute ago, as after a long stop of the kubelet", plans(in(-time.Minute), alive(running("app", 0)), memory{}), "SIGKILL app-0", "delete, rule 1: less than none is left"},
		{"one of which one container runs and the other has ended", plans(in(20*time.Second, two), alive(running("app", 0), exited("log", 0, 0)), told("app-0", "SIGTERM", 10*time.Second)), "nothing; look again after 20s", "delete, rule 2: it is removed when none runs any more"},
		{"one whose containers have all ended", plans(in(20*time.Second), alive(exited("app", 0, 0)), memory{}), "remove pod", "delete, rule 2: there is nothing to wait for"},
		{"one of which only the sandbox is left", plans(in(20*time.Second), alive(), memory{}), "remove pod", "delete, rule 2: the sandbox is a rest, too"},
		{"one whose container was created and never started", plans(in(20*time.Second), alive(created("app", 0)), memory{}), "remove pod", "delete, rule 1: only what runs needs stopping"},
		{"one that was never begun", plans(in(20*time.Second), runtime.Pod{}, memory{}), "nothing", "rule 1 comes first: nothing is started for a pod that is being deleted, and there is nothing to remove"},
		{"one that has run to its end", plans(in(20*time.Second, policy(corev1.RestartPolicyNever)), alive(exited("app", 0, 0)), memory{}), "remove pod", "rule 1 comes before rule 2: it was kept until somebody deleted it"},
	})
}

// Task 4

// faulty is a hollow runtime that notes what it is told, and of which a test can break parts.
type faulty struct {
	*runtime.Hollow
	stubborn  bool         // containers do not end at SIGTERM
	sandboxes atomic.Int32 // so many fail to start

	mu   sync.Mutex // guards told
	told []string
}

func (f *faulty) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, what)
}

func (f *faulty) wasTold() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.told, ", ")
}

func (f *faulty) StartSandbox(ctx context.Context, pod *corev1.Pod) (runtime.Sandbox, error) {
	if f.sandboxes.Add(-1) >= 0 {
		return runtime.Sandbox{}, errors.New("no address is free")
	}
	return f.Hollow.StartSandbox(ctx, pod)
}

func (f *faulty) Signal(ctx context.Context, id, signal string) error {
	f.note(signal)
	if f.stubborn && signal == "SIGTERM" {
		return nil
	}
	return f.Hollow.Signal(ctx, id, signal)
}

func (f *faulty) RemovePod(ctx context.Context, uid types.UID) error {
	f.note("remove pod")
	return f.Hollow.RemovePod(ctx, uid)
}

// worker is a node with a kubelet in it.
type worker struct {
	*mastertest.Bench
	lab     *labtest.T
	runtime *faulty
	stop    func() // the kubelet
}

// onNode runs a test of task 4 in a bubble, with a kubelet that runs.
func onNode(t *testing.T, test func(lab *labtest.T, w *worker)) {
	labtest.Begun(t, "02")
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		lab := labtest.Task(t, "02", 4)
		w := &worker{Bench: bench, lab: lab, runtime: &faulty{Hollow: runtime.NewHollow(runtime.HollowOptions{})}}
		w.start()
		test(lab, w)
		w.stop()
	})
}

// start starts a kubelet that knows nothing of those before it.
func (w *worker) start() { w.stop = w.Start(w.kubelet().Run) }

func (w *worker) kubelet() *Kubelet {
	return New(Config{Node: "node-1", Address: "192.0.2.1", Port: 10250, Client: w.Loops(), Runtime: w.runtime})
}

// creates makes a pod that is bound to the node, and gives the kubelet a moment.
func (w *worker) creates(changes ...func(*corev1.Pod)) *corev1.Pod {
	w.lab.Helper()
	pod := mastertest.Create(w.lab, w.Client, mastertest.Pod("web", append(changes, func(p *corev1.Pod) { p.Spec.NodeName = "node-1" })...))
	mastertest.Settle()
	return pod
}

// shown tells what the API server has of the pod web.
func (w *worker) shown() string {
	w.lab.Helper()
	pod, there := mastertest.Find[*corev1.Pod](w.lab, w.Client, "default", "web")
	if !there {
		return "no pod"
	}
	text := string(pod.Status.Phase)
	for _, c := range pod.Status.ContainerStatuses {
		text += fmt.Sprintf("; %s is %s, restarts: %d", c.Name, say(c.State), c.RestartCount)
	}
	return text
}

// shows ends the test if the API server has something else of the pod.
func (w *worker) shows(did, want, cause string) {
	w.lab.Helper()
	got := w.shown()
	w.lab.Must(got == want, labtest.Report{Did: did + ", and read its status", Want: want, Got: got, Cause: cause})
}

// quiet checks that nothing is written in so much time.
func (w *worker) quiet(did string, wait time.Duration, cause string) {
	w.lab.Helper()
	before := len(w.Wire.Writes())
	time.Sleep(wait)
	synctest.Wait()
	writes := len(w.Wire.Writes()) - before
	w.lab.Check(writes == 0, labtest.Report{Did: did + ", and counted the writes", Want: "none", Got: "some", Cause: cause})
}

// begun ends the test if the pod does not run.
func (w *worker) begun() {
	w.lab.Helper()
	got := w.shown()
	w.lab.Must(got == "Running; app is running, restarts: 0", labtest.Report{Did: "bound a pod to the node, waited 3 s and read its status", Want: "Running; app is running, restarts: 0", Got: got,
		Cause: "see TestTask4PodRunsAndItsStatusTellsSo"})
}

func (w *worker) held(uid types.UID) runtime.Pod {
	w.lab.Helper()
	pod, err := w.runtime.Pod(w.lab.Context(), uid)
	if err != nil {
		w.lab.Fatal(err)
	}
	return pod
}

func TestTask4PodRunsAndItsStatusTellsSo(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		mastertest.Create(lab, w.Client, mastertest.Pod("theirs", func(p *corev1.Pod) { p.Spec.NodeName = "node-2" }))
		pod := w.creates(func(p *corev1.Pod) { p.Spec.InitContainers = named([]string{"first", "second"}) })
		var order []string
		for _, c := range slices.Backward(w.held(pod.UID).Containers) {
			order = append(order, c.Name)
		}
		lab.Equal("bound a pod with two init containers to the node, waited 3 s and asked the runtime in which order its containers were started", strings.Join(order, ", "), "first, second, app",
			"look, plan, carry out, and look again: an init container that has ended is an event of the runtime, which brings the pod back")
		w.shows("bound a pod to the node and waited 3 s", "Running; app is running, restarts: 0", "what is reported is what was seen after the last step: look at the runtime again before the report")
		status := mastertest.Get[*corev1.Pod](lab, w.Client, "default", "web").Status
		lab.Equal("read its addresses", status.PodIP+", "+status.HostIP, w.held(pod.UID).Sandbox.IP+", 192.0.2.1", "statusOf takes the pod's from the sandbox that it is given, and the node's is k.Address")
		pods, _ := w.runtime.Pods(lab.Context())
		lab.Equal("counted the node's pods, where one is bound to another node", len(pods), 1, "only pods of this node come here; those of others are in no cache of ours")
	})
}

func TestTask4ContainerThatDiesIsRestartedAfterItsDelay(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		pod := w.creates()
		w.begun()
		w.runtime.Exit(pod.UID, "app", 3)
		mastertest.Settle()
		w.shows("let the container die for the first time and waited 3 s", "Running; app is running, restarts: 1", "its death is an event of the runtime; the first restart has no delay")
		w.runtime.Exit(pod.UID, "app", 3)
		mastertest.Settle()
		w.shows("let it die again and waited 3 s", "Running; app is waiting CrashLoopBackOff, restarts: 1", "it waits for 10 s now, and the status tells of that at once")
		time.Sleep(8 * time.Second)
		synctest.Wait()
		w.shows("waited 8 s more", "Running; app is running, restarts: 2", "nothing happens in the runtime when a delay is over: k.queue.AddAfter has to bring the pod back after the time that plan has returned")
	})
}

func TestTask4SandboxThatDiesIsReplacedInOneLook(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		pod := w.creates()
		w.begun()
		before := w.held(pod.UID).Sandbox.ID
		w.runtime.KillSandbox(pod.UID)
		mastertest.Settle()
		sandbox := w.held(pod.UID).Sandbox
		lab.Check(sandbox != nil && sandbox.Running && sandbox.ID != before, labtest.Report{Did: "killed the sandbox of a pod and waited 3 s", Want: "another one that runs", Got: fmt.Sprintf("one that runs: %v", sandbox != nil && sandbox.Running),
			Cause: "what is left is removed first, and then the look begins again and finds nothing: carry out and continue, up to maxRounds times"})
		w.shows("killed the sandbox of a pod and waited 3 s", "Running; app is running, restarts: 1", "the report is of the last look; what went with the sandbox counts as a restart")
	})
}

func TestTask4StatusIsToldThoughTheSandboxDoesNotStart(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		w.runtime.sandboxes.Store(1000)
		w.creates()
		w.shows("bound a pod to a node on which no sandbox starts", "Pending; app is waiting ContainerCreating, restarts: 0", "a failure of carryOut ends the steps, not the look: the status is reported, and then the failure is returned")
		w.runtime.sandboxes.Store(0)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		w.shows("let sandboxes start again and waited 30 s", "Running; app is running, restarts: 0", "the failure has to be returned: only then the queue brings the pod back, a little later each time")
	})
}

func TestTask4DeletedPodGoesWhenNothingIsLeftOfIt(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		w.runtime.stubborn = true
		grace := int64(7)
		pod := w.creates(func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &grace })
		w.begun()
		w.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if mastertest.Is(r, "DELETE", "/pods/web") {
				w.runtime.note("confirm")
			}
			return do()
		})
		mastertest.Delete[*corev1.Pod](lab, w.Client, "default", "web", "")
		mastertest.Settle()
		w.shows("deleted a pod whose program does not heed SIGTERM, with 7 s of grace, and waited 3 s", "Running; app is running, restarts: 0", "a container that runs still is one: the deletion is confirmed when the runtime has nothing left of the pod")
		time.Sleep(7 * time.Second)
		synctest.Wait()
		w.shows("waited 7 s more", "no pod", "k.queue.AddAfter brings the pod back when its grace is over; k.confirmDeletion comes when the last look finds neither sandbox nor containers")
		steps := w.runtime.wasTold()
		steps, _, _ = strings.Cut(steps, ", confirm")
		lab.Equal("listed what was done up to the confirmation", steps, "SIGTERM, SIGKILL, remove pod", "the API server is told last: a pod that is gone there while it still runs here would be started somewhere else in the meantime")
		lab.Check(w.held(pod.UID).Sandbox == nil, labtest.Report{Did: "looked what the runtime has of it", Want: "nothing", Got: "a sandbox", Cause: "see above"})
	})
}

func TestTask4NextKubeletGoesOnWithTheSameContainers(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		pod := w.creates()
		w.begun()
		w.runtime.Exit(pod.UID, "app", 1)
		mastertest.Settle()
		w.shows("let the container die once", "Running; app is running, restarts: 1", "see the tests before")
		w.stop()
		before := w.held(pod.UID)
		time.Sleep(time.Hour)
		w.start()
		w.quiet("stopped the kubelet, and started another an hour later for ten minutes", 10*time.Minute, "the status that it makes is the one that is there: write only what differs")
		lab.Equal("asked whether the runtime has the same containers as before", slices.Equal(w.held(pod.UID).Containers, before.Containers), true, "they run and are as the pod wants them: nothing is to be done")
	})
}

func TestTask4IdleKubeletWritesNothing(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		w.creates()
		w.begun()
		w.quiet("let a pod run for an hour, in which it is looked at each minute", time.Hour, "compare with equality.Semantic.DeepEqual before you write: 60 writes an hour for each pod of a cluster are a load")
	})
}

func TestTask4ReportIsNotRepeatedThoughTheWatchIsSlow(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		w.stop()
		pod := w.creates()
		k := w.kubelet()
		stop := w.Start(k.pods.Run)
		mastertest.Settle()
		stop() // from here on it hears nothing
		cached := k.pods.List()[0].DeepCopy()
		for _, look := range []struct {
			which, cause string
			want         int
		}{
			{"the first look", "the status has to be written with k.client.UpdateStatus", 1},
			{"the second look, at a cache that does not show that yet", "what the API server answered is the newest that is known of the pod: keep it in m.written", 0},
		} {
			before := len(w.Wire.Writes())
			err := k.sync(lab.Context(), pod.UID)
			lab.NoError(look.which, err, "which call failed?")
			lab.Check(w.shown() == "Running; app is running, restarts: 0", labtest.Report{Did: look.which + ", and read the pod's status", Want: "Running; app is running, restarts: 0", Got: w.shown(),
				Cause: "what is reported is what the last look saw: when steps were carried out, ask the runtime again"})
			lab.Equal(look.which+", and counted its writes", len(w.Wire.Writes())-before, look.want, look.cause)
			time.Sleep(time.Minute)
		}
		lab.Equal("compared the pod in the cache with what it was before", equality.Semantic.DeepEqual(k.pods.List()[0], cached), true, "the pod belongs to the cache, from which others read: change a copy")
	})
}

func TestTask4ReportMindsNoOtherWriterButEveryFailure(t *testing.T) {
	onNode(t, func(lab *labtest.T, w *worker) {
		pod := w.creates()
		w.begun()
		var gate mastertest.Gate
		var failures atomic.Int32
		hold := gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") })
		w.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if mastertest.Is(r, "PUT", "/status") && failures.Add(-1) >= 0 {
				return mastertest.Refusal(apierrors.NewServiceUnavailable("out of luck")), nil
			}
			return hold(r, do)
		})
		w.stop()
		w.start() // with a watch that can be held
		mastertest.Settle()
		gate.Shut()
		mastertest.Change(lab, w.Client, "default", "web", func(p *corev1.Pod) { p.Labels = map[string]string{"kept": "yes"} })
		w.runtime.Exit(pod.UID, "app", 1)
		mastertest.Settle()
		w.shows("let a container die while the watch does not bring what somebody else has written to the pod", "Running; app is running, restarts: 1", "an update with the resourceVersion of the cache is a conflict: the status is ours alone, so leave it empty")
		lab.Equal("looked for the label that somebody else has written", mastertest.Get[*corev1.Pod](lab, w.Client, "default", "web").Labels["kept"], "yes", "UpdateStatus writes the status, and Update all of it: the older labels as well")
		gate.Open()
		failures.Store(3)
		w.runtime.KillSandbox(pod.UID)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		w.shows("let its sandbox die while the API server refuses three reports, and waited 30 s", "Running; app is running, restarts: 2", "a report that failed is returned as an error, so that it is made again")
		var zero int64
		if _, err := client.Of[*corev1.Pod](w.Client).Delete(lab.Context(), "default", "web", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			lab.Fatal(err)
		}
		mastertest.Settle()
		lab.Check(w.held(pod.UID).Sandbox == nil, labtest.Report{Did: "deleted the pod from the API server at once, and asked the runtime for it 3 s later", Want: "nothing of it", Got: "a sandbox", Cause: "sync, which is given, removes it: does a look at it end?"})
	})
}
