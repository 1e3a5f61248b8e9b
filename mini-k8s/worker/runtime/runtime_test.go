package runtime

// The suite that every runtime passes. It uses the image hello and its arguments, which both runtimes understand.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"workshop/mini-k8s/images"
)

func testRuntime(t *testing.T, r Runtime) {
	for name, test := range map[string]func(*testing.T, Runtime){
		"ANewSandboxRunsAndHasAnAddress":           testNewSandbox,
		"APodOnTheHostsNetworkHasNoAddress":        testHostNetwork,
		"AnUnknownPodIsEmpty":                      testUnknownPod,
		"AContainerRunsUntilItIsSignalled":         testSignal,
		"AContainerThatEndsShowsItsExitCode":       testExitCode,
		"TheNewestAttemptComesFirst":               testAttempts,
		"StartAndDeathAreEvents":                   testEvents,
		"EventsEndWithTheContext":                  testEventsEnd,
		"WhatIsDeadOrGoneCanBeSignalledAndRemoved": testIdempotence,
		"RemovingAPodLeavesNothing":                testRemovePod,
		"PullPolicyNeverWantsThePresentImage":      testPullPolicies,
	} {
		t.Run(name, func(t *testing.T) { test(t, r) })
	}
}

func testNewSandbox(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	before := time.Now().Add(-time.Minute)
	started := mustStartSandbox(t, r, pod)
	if !started.Running || started.IP == "" || started.StartedAt.Before(before) {
		t.Errorf("StartSandbox returned %+v; want it running, with an address and a time", started)
	}
	held := mustPod(t, r, pod.UID)
	if held.Sandbox == nil || *held.Sandbox != started {
		t.Errorf("Pod shows the sandbox %+v, StartSandbox returned %+v", held.Sandbox, started)
	}
	if held.UID != pod.UID || held.Name != pod.Name || held.Namespace != pod.Namespace {
		t.Errorf("Pod shows %s %s/%s, want %s %s/%s", held.UID, held.Namespace, held.Name, pod.UID, pod.Namespace, pod.Name)
	}
	pods, err := r.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, p := range pods {
		if p.UID == pod.UID {
			found++
		}
	}
	if found != 1 {
		t.Errorf("Pods has the pod %d times: %+v", found, pods)
	}
}

func testHostNetwork(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	pod.Spec.HostNetwork = true
	if sandbox := mustStartSandbox(t, r, pod); sandbox.IP != "" || !sandbox.Running {
		t.Errorf("StartSandbox returned %+v; want it running without an address", sandbox)
	}
}

func testUnknownPod(t *testing.T, r Runtime) {
	held := mustPod(t, r, "nobody")
	if held.Sandbox != nil || len(held.Containers) != 0 {
		t.Errorf("Pod of an unknown UID is %+v", held)
	}
}

func testSignal(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	sandbox := mustStartSandbox(t, r, pod)
	for signal, code := range map[string]int{"SIGTERM": 0, "SIGKILL": 137} {
		id := mustStart(t, r, sandbox, pod, "web-"+string(signal[3]), 0)
		c := mustContainer(t, r, pod.UID, id)
		if c.State != Running || c.StartedAt.IsZero() || c.CreatedAt.IsZero() || !c.FinishedAt.IsZero() {
			t.Errorf("after its start the container is %+v", c)
		}
		if c.Image != images.HelloV1.Name || c.ImageID == "" {
			t.Errorf("the container's image is %q, its image ID %q", c.Image, c.ImageID)
		}
		eventually(t, "the program is ready for signals", func() bool {
			var out bytes.Buffer
			if err := r.Logs(t.Context(), id, LogOptions{}, &out); err != nil {
				t.Fatal(err)
			}
			return out.Len() > 0
		})
		if err := r.Signal(t.Context(), id, signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the container ends after "+signal, func() bool {
			return mustContainer(t, r, pod.UID, id).State == Exited
		})
		if c = mustContainer(t, r, pod.UID, id); c.ExitCode != code || c.FinishedAt.IsZero() {
			t.Errorf("after %s the container is %+v, want code %d", signal, c, code)
		}
	}
}

func testExitCode(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	id := mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0, "exit", "3")
	eventually(t, "the container ends", func() bool { return mustContainer(t, r, pod.UID, id).State == Exited })
	if c := mustContainer(t, r, pod.UID, id); c.ExitCode != 3 || c.OOMKilled || c.FinishedAt.IsZero() {
		t.Errorf("the container is %+v, want exit code 3", c)
	}
}

func testAttempts(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	sandbox := mustStartSandbox(t, r, pod)
	for attempt := range 3 {
		mustStart(t, r, sandbox, pod, "web", attempt, "exit", "1")
	}
	var got []string
	for _, c := range mustPod(t, r, pod.UID).Containers {
		got = append(got, fmt.Sprint(c.Name, c.Attempt))
	}
	if fmt.Sprint(got) != "[web2 web1 web0]" {
		t.Errorf("the containers are %v, want web2, web1, web0", got)
	}
}

func testEvents(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	events := r.Events(t.Context())
	sandbox := mustStartSandbox(t, r, pod)
	waitEvent(t, events, pod.UID)
	id := mustStart(t, r, sandbox, pod, "web", 0, "sleep")
	waitEvent(t, events, pod.UID)
	if err := r.Signal(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	for mustContainer(t, r, pod.UID, id).State != Exited {
		waitEvent(t, events, pod.UID)
	}
}

func testEventsEnd(t *testing.T, r Runtime) {
	ctx, cancel := context.WithCancel(t.Context())
	events := r.Events(ctx)
	cancel()
	eventually(t, "the channel is closed", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})
}

func testIdempotence(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	id := mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0, "exit", "0")
	eventually(t, "the container ends", func() bool { return mustContainer(t, r, pod.UID, id).State == Exited })
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"signal the dead", func() error { return r.Signal(t.Context(), id, "SIGTERM") }},
		{"remove", func() error { return r.RemoveContainer(t.Context(), id) }},
		{"remove again", func() error { return r.RemoveContainer(t.Context(), id) }},
		{"signal the gone", func() error { return r.Signal(t.Context(), id, "SIGKILL") }},
		{"remove the pod", func() error { return r.RemovePod(t.Context(), pod.UID) }},
		{"remove the pod again", func() error { return r.RemovePod(t.Context(), pod.UID) }},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

func testRemovePod(t *testing.T, r Runtime) {
	pod := newPod(t, r)
	sandbox := mustStartSandbox(t, r, pod)
	mustStart(t, r, sandbox, pod, "web", 0)
	mustStart(t, r, sandbox, pod, "helper", 0, "sleep")
	if err := r.RemovePod(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if held := mustPod(t, r, pod.UID); held.Sandbox != nil || len(held.Containers) != 0 {
		t.Errorf("after RemovePod there is %+v", held)
	}
	mustStartSandbox(t, r, pod) // its name and address are free again
}

func testPullPolicies(t *testing.T, r Runtime) {
	const missing = "localhost:1/does-not-exist:v1"
	for _, policy := range []corev1.PullPolicy{corev1.PullIfNotPresent, corev1.PullNever} {
		if _, err := r.EnsureImage(t.Context(), images.HelloV1.Name, policy); err != nil {
			t.Errorf("policy %s for a present image: %v", policy, err)
		}
		_, err := r.EnsureImage(t.Context(), missing, policy)
		if err == nil || errors.Is(err, ErrImageNotPresent) != (policy == corev1.PullNever) {
			t.Errorf("policy %s for a missing image: %v", policy, err)
		}
	}
}

// patience is how long a test waits for what must come; on a busy machine Docker takes seconds.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

func waitEvent(t *testing.T, events <-chan types.UID, uid types.UID) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-events:
			if got == uid {
				return
			}
		case <-deadline:
			t.Fatalf("no event of pod %s came", uid)
		}
	}
}

// newPod returns a pod that is removed at the end of the test.
func newPod(t testing.TB, r Runtime) *corev1.Pod {
	uid := types.UID(fmt.Sprintf("uid-%d", time.Now().UnixNano()))
	t.Cleanup(func() {
		if err := r.RemovePod(context.WithoutCancel(t.Context()), uid); err != nil {
			t.Error(err)
		}
	})
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: uid}}
}

func mustStartSandbox(t testing.TB, r Runtime, pod *corev1.Pod) Sandbox {
	t.Helper()
	sandbox, err := r.StartSandbox(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	return sandbox
}

func mustStart(t testing.TB, r Runtime, sandbox Sandbox, pod *corev1.Pod, name string, attempt int, args ...string) string {
	t.Helper()
	id, err := r.StartContainer(t.Context(), sandbox, pod,
		ContainerSpec{Name: name, Image: images.HelloV1.Name, Attempt: attempt, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustPod(t testing.TB, r Runtime, uid types.UID) Pod {
	t.Helper()
	pod, err := r.Pod(t.Context(), uid)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func mustContainer(t testing.TB, r Runtime, uid types.UID, id string) Container {
	t.Helper()
	for _, c := range mustPod(t, r, uid).Containers {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("pod %s has no container %s", uid, id)
	return Container{}
}
