package kubelet

import (
	"slices"
	"testing"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestInitContainersGoFirstOneByOne(t *testing.T) {
	onFailure, never := corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		memory memory
		want   string // steps, comma-separated
		again  time.Duration
	}{
		{"the first init container goes first", newPod(inits("a", "b")), runtime.Pod{}, memory{}, "start sandbox, start a#0", 0},
		{"while one runs nothing else starts", newPod(inits("a", "b")), alive(running("a", 0)), memory{}, "", 0},
		{"then the second", newPod(inits("a", "b")), alive(exited("a", 0, 0)), memory{}, "start b#0", 0},
		{"then the pod's own", newPod(inits("a", "b")), alive(exited("b", 0, 0), exited("a", 0, 0)), memory{}, "start app#0", 0},
		{"one that failed runs again", newPod(inits("a")), alive(exited("a", 0, 1)), memory{}, "start a#1", 0},
		{"and waits after the second time", newPod(inits("a")), alive(exited("a", 1, 1)), memory{}, "", 10 * time.Second},
		{"an init container of a pod that never restarts fails it", newPod(inits("a"), policy(never)), alive(exited("a", 0, 1)), memory{}, "", 0},
		{"with OnFailure one that is done stays done", newPod(inits("a"), policy(onFailure)), alive(exited("a", 0, 0)), memory{}, "start app#0", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			steps, again := plan(test.pod, test.actual, &test.memory, noon)
			if got := describe(steps); got != test.want || again != test.again {
				t.Errorf("the plan is %q, next look after %v; want %q, %v", got, again, test.want, test.again)
			}
		})
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

func TestPlanChangesNothingThatItLooksAt(t *testing.T) {
	pod, actual := newPod(inits("a")), alive(exited("app", 1, 1), exited("a", 0, 0))
	podBefore, actualBefore := pod.DeepCopy(), slices.Clone(actual.Containers)
	plan(pod, actual, &memory{}, noon)
	statusOf(pod, actual, &memory{}, "192.0.2.1", noon)
	if !equality.Semantic.DeepEqual(pod, podBefore) || !slices.Equal(actual.Containers, actualBefore) {
		t.Error("the pod or its containers are not what they were")
	}
}
