package kubelet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// noon is when the plans of these tests are made.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestPlan(t *testing.T) {
	always, onFailure, never := corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		memory memory
		want   string // steps, comma-separated
		again  time.Duration
	}{
		{"a fresh pod starts whole", newPod(containers("app", "log")), runtime.Pod{}, memory{},
			"start sandbox, start app#0, start log#0", 0},
		{"a pod that runs is left alone", newPod(), alive(running("app", 0)), memory{}, "", 0},
		{"of two containers the missing one starts", newPod(containers("app", "log")), alive(running("app", 0)), memory{}, "start log#0", 0},

		{"the first init container goes first", newPod(inits("a", "b")), runtime.Pod{}, memory{}, "start sandbox, start a#0", 0},
		{"while one runs nothing else starts", newPod(inits("a", "b")), alive(running("a", 0)), memory{}, "", 0},
		{"then the second", newPod(inits("a", "b")), alive(exited("a", 0, 0)), memory{}, "start b#0", 0},
		{"then the pod's own", newPod(inits("a", "b")), alive(exited("b", 0, 0), exited("a", 0, 0)), memory{}, "start app#0", 0},
		{"one that failed runs again", newPod(inits("a")), alive(exited("a", 0, 1)), memory{}, "start a#1", 0},
		{"and waits after the second time", newPod(inits("a")), alive(exited("a", 1, 1)), memory{}, "", 10 * time.Second},
		{"an init container of a pod that never restarts fails it", newPod(inits("a"), policy(never)), alive(exited("a", 0, 1)), memory{}, "", 0},
		{"with OnFailure one that is done stays done", newPod(inits("a"), policy(onFailure)), alive(exited("a", 0, 0)), memory{}, "start app#0", 0},

		{"Always restarts a success", newPod(policy(always)), alive(exited("app", 0, 0)), memory{}, "start app#1", 0},
		{"Always restarts a failure", newPod(policy(always)), alive(exited("app", 0, 1)), memory{}, "start app#1", 0},
		{"OnFailure leaves a success", newPod(policy(onFailure)), alive(exited("app", 0, 0)), memory{}, "", 0},
		{"OnFailure restarts a failure", newPod(policy(onFailure)), alive(exited("app", 0, 1)), memory{}, "start app#1", 0},
		{"Never leaves a success", newPod(policy(never)), alive(exited("app", 0, 0)), memory{}, "", 0},
		{"Never leaves a failure", newPod(policy(never)), alive(exited("app", 0, 1)), memory{}, "", 0},
		{"Never leaves one beside another that runs", newPod(policy(never), containers("app", "log")),
			alive(running("log", 0), exited("app", 0, 1)), memory{}, "", 0},
		{"a pod that has ended does not come back when its sandbox dies", newPod(policy(never)), dead(exited("app", 0, 0)), memory{}, "", 0},
		{"the next look is for the first that is due", newPod(containers("app", "log")),
			alive(exited("app", 3, 1), exited("log", 2, 1)), memory{}, "", 20 * time.Second},

		{"a dead sandbox takes all with it", newPod(), dead(running("app", 0)), memory{}, "remove pod", 0},
		{"a sandbox that is gone as well", newPod(), runtime.Pod{Containers: []runtime.Container{running("app", 0)}}, memory{}, "remove pod", 0},
		{"one that was created and never started is made anew", newPod(), alive(created("app", 2)), memory{}, "remove app-2, start app#2", 0},
		{"two attempts are kept and the older ones go", newPod(),
			alive(running("app", 4), exited("app", 3, 1), exited("app", 2, 1), exited("app", 1, 1)), memory{}, "remove app-2, remove app-1", 0},

		{"another image: told to stop", newPod(image("hello:2")), alive(running("app", 0)), memory{}, "SIGTERM app-0", 30 * time.Second},
		{"once", newPod(image("hello:2")), alive(running("app", 0)), told("app-0", "SIGTERM", 10*time.Second), "", 20 * time.Second},
		{"killed when its grace is over", newPod(image("hello:2")), alive(running("app", 0)), told("app-0", "SIGTERM", 30*time.Second), "SIGKILL app-0", 0},
		{"once, too", newPod(image("hello:2")), alive(running("app", 0)), told("app-0", "SIGKILL", 40*time.Second), "", 0},
		{"and replaced when it has stopped", newPod(image("hello:2")), alive(exited("app", 0, 0)), memory{}, "start app#1", 0},

		{"what could not start is tried again later", newPod(), alive(), failedAt("hello:1", -4*time.Second), "", 6 * time.Second},
		{"then", newPod(), alive(), failedAt("hello:1", -10*time.Second), "start app#0", 0},
		{"or at once if it has another image now", newPod(image("hello:2")), alive(), failedAt("hello:1", -4*time.Second), "start app#0", 0},

		{"deleted: told to stop", newPod(deletedIn(30 * time.Second)), alive(running("app", 0)), memory{}, "SIGTERM app-0", 30 * time.Second},
		{"deleted: all at once", newPod(containers("app", "log"), deletedIn(30*time.Second)), alive(running("app", 0), running("log", 0)), memory{},
			"SIGTERM app-0, SIGTERM log-0", 30 * time.Second},
		{"deleted: told once", newPod(deletedIn(12 * time.Second)), alive(running("app", 0)), told("app-0", "SIGTERM", 18*time.Second), "", 12 * time.Second},
		{"deleted: killed at the deadline", newPod(deletedIn(0)), alive(running("app", 0)), told("app-0", "SIGTERM", 30*time.Second), "SIGKILL app-0", 0},
		{"deleted: killed at once after the deadline", newPod(deletedIn(-time.Minute)), alive(running("app", 0)), memory{}, "SIGKILL app-0", 0},
		{"deleted: killed once", newPod(deletedIn(-time.Second)), alive(running("app", 0)), told("app-0", "SIGKILL", time.Second), "", 0},
		{"deleted: removed when all have stopped", newPod(deletedIn(20 * time.Second)), alive(exited("app", 0, 0)), memory{}, "remove pod", 0},
		{"deleted: removed if only the sandbox is left", newPod(deletedIn(20 * time.Second)), alive(), memory{}, "remove pod", 0},
		{"deleted: nothing starts", newPod(deletedIn(20 * time.Second)), runtime.Pod{}, memory{}, "", 0},
		{"deleted: one that never started does not hold it up", newPod(deletedIn(20 * time.Second)), alive(created("app", 0)), memory{}, "remove pod", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			steps, again := plan(test.pod, test.actual, &test.memory, noon)
			if got := describe(steps); got != test.want || again != test.again {
				t.Errorf("the plan is %q, next look after %v; want %q, %v", got, again, test.want, test.again)
			}
		})
	}
}

func TestBackOffDoublesFromTenSecondsToFiveMinutes(t *testing.T) {
	for attempt, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second,
		5 * time.Minute, 5 * time.Minute} {
		actual := alive(exited("app", attempt, 1))
		steps, again := plan(newPod(), actual, &memory{}, noon)
		if again != want || (len(steps) > 0) != (want == 0) {
			t.Errorf("attempt %d: %q, next look after %v, want %v", attempt, describe(steps), again, want)
		}
		if steps, _ := plan(newPod(), actual, &memory{}, noon.Add(want)); describe(steps) != fmt.Sprintf("start app#%d", attempt+1) {
			t.Errorf("attempt %d: after %v the plan is %q", attempt, want, describe(steps))
		}
	}
	if got := restartDelay(1000); got != 5*time.Minute {
		t.Errorf("after the thousandth time it waits %v", got)
	}
}

func TestAContainerThatRanForTenMinutesRestartsAtOnce(t *testing.T) {
	for ran, want := range map[time.Duration]time.Duration{10*time.Minute - time.Second: 5 * time.Minute, 10 * time.Minute: 0} {
		c := exited("app", 9, 1)
		c.StartedAt = noon.Add(-ran)
		if _, again := plan(newPod(), alive(c), &memory{}, noon); again != want {
			t.Errorf("one that ran %v waits %v, want %v", ran, again, want)
		}
	}
}

func TestAContainerThatSomebodyRemovedComesBackAtOnce(t *testing.T) {
	shown := corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "docker://x", Image: "hello:1", RestartCount: 4,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon.Add(-time.Minute))}}}}}
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		want   string
	}{
		{"one", newPod(), alive(), "start app#5"},
		{"all of the pod", newPod(), runtime.Pod{}, "start sandbox, start app#5"},
		{"not if the pod never restarts", newPod(policy(corev1.RestartPolicyNever)), alive(), ""},
		{"not if the pod is being deleted", newPod(deletedIn(time.Minute)), runtime.Pod{}, ""},
		{"though an older attempt is there", newPod(), alive(exited("app", 3, 1)), "start app#5"},
		{"not if the next one is there already", newPod(), alive(running("app", 5)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.pod.Status = shown
			steps, again := plan(test.pod, test.actual, &memory{}, noon)
			if got := describe(steps); got != test.want || again != 0 {
				t.Errorf("the plan is %q, next look after %v; want %q", got, again, test.want)
			}
		})
	}
}

func TestInitContainersRunAgainInANewSandbox(t *testing.T) {
	done := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, ContainerID: "docker://" + name, Image: "hello:1",
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "docker://" + name}}}
	}
	pod := newPod(inits("a", "b"))
	pod.Status = corev1.PodStatus{
		InitContainerStatuses: []corev1.ContainerStatus{done("a"), done("b")},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "docker://app", Image: "hello:1",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon)}}}},
	}
	for _, test := range []struct {
		name   string
		actual runtime.Pod
		want   string
	}{
		{"first", runtime.Pod{}, "start sandbox, start a#1"},
		{"second", alive(exited("a", 1, 0)), "start b#1"},
		{"then the rest", alive(exited("b", 1, 0), exited("a", 1, 0)), "start app#1"},
		{"but not if only they were cleared away", alive(running("app", 0)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if steps, _ := plan(pod, test.actual, &memory{}, noon); describe(steps) != test.want {
				t.Errorf("the plan is %q, want %q", describe(steps), test.want)
			}
		})
	}
}

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
	return memory{signalled: map[string]signal{id: {name, noon.Add(-ago)}}}
}

// failedAt is the memory of an app that could not be started at that time before or after noon, for the first time.
func failedAt(image string, at time.Duration) memory {
	return memory{failed: map[string]failure{"app": {image: image, reason: "ErrImagePull", count: 1, retry: noon.Add(at + 10*time.Second)}}}
}

func TestPlanChangesNothingThatItLooksAt(t *testing.T) {
	pod, actual := newPod(inits("a")), alive(exited("app", 1, 1), exited("a", 0, 0))
	podBefore, actualBefore := pod.DeepCopy(), slices.Clone(actual.Containers)
	plan(pod, actual, &memory{}, noon)
	statusOf(pod, actual, &memory{}, "192.0.2.1", noon)
	if !equality.Semantic.DeepEqual(pod, podBefore) || !slices.Equal(actual.Containers, actualBefore) {
		t.Error("the pod or its containers are not what they were")
	}
}
