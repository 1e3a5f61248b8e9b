package kubelet

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPhase(t *testing.T) {
	always, onFailure, never := corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		want   corev1.PodPhase
	}{
		{"nothing is there", newPod(), runtime.Pod{}, corev1.PodPending},
		{"a sandbox alone", newPod(), alive(), corev1.PodPending},
		{"created is not started", newPod(), alive(created("app", 0)), corev1.PodPending},
		{"one of two started", newPod(containers("app", "log")), alive(running("app", 0)), corev1.PodPending},
		{"both started", newPod(containers("app", "log")), alive(running("app", 0), running("log", 0)), corev1.PodRunning},
		{"an init container runs", newPod(inits("a")), alive(running("a", 0)), corev1.PodPending},
		{"an init container failed and will run again", newPod(inits("a")), alive(exited("a", 0, 1)), corev1.PodPending},
		{"an init container failed for good", newPod(inits("a"), policy(never)), alive(exited("a", 0, 1)), corev1.PodFailed},
		{"init containers are done", newPod(inits("a")), alive(exited("a", 0, 0)), corev1.PodPending},
		{"Always never ends", newPod(policy(always)), alive(exited("app", 0, 0)), corev1.PodRunning},
		{"OnFailure ends with success", newPod(policy(onFailure)), alive(exited("app", 0, 0)), corev1.PodSucceeded},
		{"OnFailure goes on after a failure", newPod(policy(onFailure)), alive(exited("app", 0, 1)), corev1.PodRunning},
		{"Never ends with success", newPod(policy(never)), alive(exited("app", 0, 0)), corev1.PodSucceeded},
		{"Never ends with a failure", newPod(policy(never)), alive(exited("app", 0, 1)), corev1.PodFailed},
		{"one failure of two is one", newPod(policy(never), containers("app", "log")), alive(exited("app", 0, 0), exited("log", 0, 2)), corev1.PodFailed},
		{"while one runs nothing is decided", newPod(policy(never), containers("app", "log")), alive(running("app", 0), exited("log", 0, 2)), corev1.PodRunning},
		{"only the newest attempt counts", newPod(policy(onFailure)), alive(exited("app", 1, 0), exited("app", 0, 1)), corev1.PodSucceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := phaseOf(test.pod, (&memory{}).attemptsOf(test.pod, test.actual, noon)); got != test.want {
				t.Errorf("the phase is %s, want %s", got, test.want)
			}
		})
	}
}

func TestContainerStatus(t *testing.T) {
	failed := func(reason string, count int) memory {
		return memory{failed: map[string]failure{"app": {image: "hello:1", reason: reason, message: "no such thing", count: count}}}
	}
	oom := exited("app", 0, 137)
	oom.OOMKilled = true
	neverStarted := exited("app", 1, 128)
	neverStarted.StartedAt, neverStarted.Message = time.Time{}, "no such program"
	proved := exited("app", 5, 1)
	proved.StartedAt = noon.Add(-time.Hour)
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		actual runtime.Pod
		memory memory
		state  string // of the container: what and why
		last   string // of the attempt before
		count  int32
		ready  bool
	}{
		{"not there yet", newPod(), alive(), memory{}, "waiting ContainerCreating", "", 0, false},
		{"behind init containers", newPod(inits("a")), alive(running("a", 0)), memory{}, "waiting PodInitializing", "", 0, false},
		{"created", newPod(), alive(created("app", 1)), memory{}, "waiting ContainerCreating", "", 1, false},
		{"no image", newPod(), alive(), failed("ErrImagePull", 1), "waiting ErrImagePull", "", 0, false},
		{"still no image", newPod(), alive(), failed("ErrImagePull", 2), "waiting ImagePullBackOff", "", 0, false},
		{"may not pull", newPod(), alive(), failed("ErrImageNeverPull", 5), "waiting ErrImageNeverPull", "", 0, false},
		{"cannot be created", newPod(), alive(), failed("CreateContainerError", 2), "waiting CreateContainerError", "", 0, false},
		{"cannot be run", newPod(), alive(neverStarted), failed("RunContainerError", 2), "waiting RunContainerError", "terminated StartError 128", 1, false},
		{"runs", newPod(), alive(running("app", 0)), memory{}, "running", "", 0, true},
		{"runs again", newPod(), alive(running("app", 2), exited("app", 1, 3)), memory{}, "running", "terminated Error 3", 2, true},
		{"died for the first time", newPod(), alive(exited("app", 0, 1)), memory{}, "terminated Error 1", "terminated Error 1", 0, false},
		{"died again", newPod(), alive(exited("app", 1, 1), exited("app", 0, 7)), memory{}, "waiting CrashLoopBackOff", "terminated Error 1", 1, false},
		{"died after a long life", newPod(), alive(proved), memory{}, "terminated Error 1", "terminated Error 1", 5, false},
		{"ate too much", newPod(policy(corev1.RestartPolicyNever)), alive(oom), memory{}, "terminated OOMKilled 137", "", 0, false},
		{"is done", newPod(policy(corev1.RestartPolicyOnFailure)), alive(exited("app", 2, 0), exited("app", 1, 1)), memory{},
			"terminated Completed 0", "terminated Error 1", 2, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := statusOf(test.pod, test.actual, &test.memory, "192.0.2.1", noon).ContainerStatuses[0]
			if state, last := say(got.State), say(got.LastTerminationState); state != test.state || last != test.last {
				t.Errorf("its state is %q, its last %q; want %q, %q", state, last, test.state, test.last)
			}
			if got.RestartCount != test.count || got.Ready != test.ready || *got.Started != test.ready {
				t.Errorf("restarts %d, ready %v, started %v; want %d, %v", got.RestartCount, got.Ready, *got.Started, test.count, test.ready)
			}
		})
	}
}

func TestWaitingSaysWhatWentWrong(t *testing.T) {
	m := &memory{failed: map[string]failure{"app": {image: "hello:1", reason: "ErrImagePull", message: "no such thing", count: 2}}}
	if got := statusOf(newPod(), alive(), m, "", noon).ContainerStatuses[0].State.Waiting.Message; !strings.Contains(got, "no such thing") {
		t.Errorf("with no image the message is %q", got)
	}
	crashing := alive(exited("app", 2, 1))
	if got := statusOf(newPod(), crashing, &memory{}, "", noon).ContainerStatuses[0].State.Waiting.Message; got != "back-off 20s restarting failed container=app" {
		t.Errorf("in a crash loop the message is %q", got)
	}
}

func TestLastStateIsKnownWhenItsContainerIsGone(t *testing.T) {
	status := func(id string, count int32, state, last corev1.ContainerState) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "docker://" + id, RestartCount: count,
			State: state, LastTerminationState: last}}}
	}
	run := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon)}}
	crash := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 5, ContainerID: "docker://before"}}
	wait := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	for _, test := range []struct {
		name   string
		before corev1.PodStatus
		want   string
	}{
		{"the attempt before was running when it was last seen", status("before", 0, run, corev1.ContainerState{}), "terminated ContainerStatusUnknown 137"},
		{"it had crashed", status("before", 0, crash, corev1.ContainerState{}), "terminated Error 5"},
		{"it was waiting to be restarted", status("before", 0, wait, crash), "terminated Error 5"},
		{"it is the same attempt", status("app-1", 1, run, crash), "terminated Error 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := newPod()
			pod.Status = test.before
			got := statusOf(pod, alive(running("app", 1)), &memory{}, "", noon).ContainerStatuses[0]
			if last := say(got.LastTerminationState); last != test.want {
				t.Errorf("the last state is %q, want %q", last, test.want)
			}
		})
	}
}

func TestALostContainerIsShownAsSuch(t *testing.T) {
	pod := newPod(policy(corev1.RestartPolicyNever))
	pod.Status = statusOf(pod, alive(running("app", 0)), &memory{}, "192.0.2.1", noon)
	got := statusOf(pod, alive(), &memory{}, "192.0.2.1", noon)
	if got.Phase != corev1.PodFailed || say(got.ContainerStatuses[0].State) != "terminated ContainerStatusUnknown 137" {
		t.Errorf("the pod is %s and its container %q", got.Phase, say(got.ContainerStatuses[0].State))
	}
}

func TestStatusTellsAddressesAndStart(t *testing.T) {
	pod := newPod()
	got := statusOf(pod, alive(running("app", 0)), &memory{}, "192.0.2.1", noon)
	if got.PodIP != "10.244.1.7" || got.PodIPs[0].IP != got.PodIP || got.HostIP != "192.0.2.1" || got.HostIPs[0].IP != got.HostIP {
		t.Errorf("addresses: %+v", got)
	}
	if got.StartTime == nil || got.ContainerStatuses[0].ContainerID != "docker://app-0" || got.ContainerStatuses[0].ImageID != "sha256:1" {
		t.Errorf("start %v, container %+v", got.StartTime, got.ContainerStatuses[0])
	}
	early := metav1.NewTime(noon)
	pod.Status.StartTime = &early
	if again := statusOf(pod, dead(), &memory{}, "192.0.2.1", noon); !again.StartTime.Equal(&early) || again.PodIP != "" || again.PodIPs != nil {
		t.Errorf("of a pod with a dead sandbox: start %v, address %q", again.StartTime, again.PodIP)
	}
}

func TestConditions(t *testing.T) {
	for _, test := range []struct {
		name                string
		pod                 *corev1.Pod
		actual              runtime.Pod
		initialized, ready  corev1.ConditionStatus
		initReason, because string
	}{
		{"fresh, with init containers", newPod(inits("a")), runtime.Pod{}, "False", "False", "ContainersNotInitialized", "ContainersNotReady"},
		{"fresh, without", newPod(), runtime.Pod{}, "True", "False", "", "ContainersNotReady"},
		{"running", newPod(inits("a")), alive(running("app", 0), exited("a", 0, 0)), "True", "True", "", ""},
		{"one of two is down", newPod(containers("app", "log")), alive(running("app", 0), exited("log", 0, 1)), "True", "False", "", "ContainersNotReady"},
		{"done", newPod(policy(corev1.RestartPolicyNever)), alive(exited("app", 0, 0)), "True", "False", "PodCompleted", "PodCompleted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := statusOf(test.pod, test.actual, &memory{}, "", noon).Conditions
			for condition, want := range map[corev1.PodConditionType][2]string{
				corev1.PodInitialized:  {string(test.initialized), test.initReason},
				corev1.PodReady:        {string(test.ready), test.because},
				corev1.ContainersReady: {string(test.ready), test.because},
			} {
				if c := find(got, condition); c == nil || string(c.Status) != want[0] || c.Reason != want[1] {
					t.Errorf("%s is %+v, want %v", condition, c, want)
				}
			}
		})
	}
}

func TestATransitionTimeChangesOnlyWithItsCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := newPod()
		since := func(actual runtime.Pod, condition corev1.PodConditionType) time.Time {
			pod.Status = statusOf(pod, actual, &memory{}, "", noon)
			return find(pod.Status.Conditions, condition).LastTransitionTime.Time
		}
		start := since(runtime.Pod{}, corev1.PodReady)
		time.Sleep(time.Minute)
		if got := since(alive(), corev1.PodReady); !got.Equal(start) {
			t.Errorf("not ready since %v, then since %v", start, got)
		}
		if got := since(alive(running("app", 0)), corev1.PodReady); !got.Equal(start.Add(time.Minute)) {
			t.Errorf("ready since %v, want a minute after %v", got, start)
		}
		time.Sleep(time.Minute)
		if got := since(alive(running("app", 0)), corev1.PodReady); !got.Equal(start.Add(time.Minute)) {
			t.Errorf("ready since %v, a minute ago it was a minute after %v", got, start)
		}
		if got := since(alive(), corev1.PodInitialized); !got.Equal(start) {
			t.Errorf("initialized since %v, want %v", got, start)
		}
	})
}

func TestConditionsOfOthersStay(t *testing.T) {
	pod := newPod()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)},
		{Type: "example.com/gate", Status: corev1.ConditionFalse, Reason: "Theirs", LastTransitionTime: metav1.NewTime(noon)}}
	got := statusOf(pod, alive(running("app", 0)), &memory{}, "", noon).Conditions
	if !equality.Semantic.DeepEqual(got[:2], pod.Status.Conditions) {
		t.Errorf("the conditions of others became %+v", got[:2])
	}
	if len(got) != 5 {
		t.Errorf("there are %+v", got)
	}
}
