package runtime

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestHollow(t *testing.T) {
	testRuntime(t, NewHollow(HollowOptions{}))
}

func TestHollowContainerDiesWhenATestSaysSo(t *testing.T) {
	h := NewHollow(HollowOptions{})
	pod := newPod(t, h)
	id := mustStart(t, h, mustStartSandbox(t, h, pod), pod, "web", 0)
	if !h.Exit(pod.UID, "web", 7) {
		t.Error("Exit found no container that runs")
	}
	if c := mustContainer(t, h, pod.UID, id); c.State != Exited || c.ExitCode != 7 {
		t.Errorf("the container is %+v", c)
	}
	if h.Exit(pod.UID, "web", 7) {
		t.Error("Exit found a container that runs in a pod of the dead")
	}
}

func TestHollowSandboxThatDiedStartsNoContainers(t *testing.T) {
	h := NewHollow(HollowOptions{})
	pod := newPod(t, h)
	sandbox := mustStartSandbox(t, h, pod)
	h.KillSandbox(pod.UID)
	if held := mustPod(t, h, pod.UID).Sandbox; held.Running || held.IP != "" {
		t.Errorf("the dead sandbox is %+v", held)
	}
	if _, err := h.StartContainer(t.Context(), sandbox, pod, ContainerSpec{Name: "web"}); err == nil {
		t.Error("a container started in a dead sandbox")
	}
}

func TestHollowPodsRunNoPrograms(t *testing.T) {
	h := NewHollow(HollowOptions{})
	sandbox := mustStartSandbox(t, h, newPod(t, h))
	_, executes := h.Exec(t.Context(), "id", []string{"ls"}, Streams{})
	_, dials := h.Dial(t.Context(), sandbox, 80)
	for _, err := range []error{executes, dials, h.Attach(t.Context(), "id", Streams{})} {
		if err == nil || err.Error() != "hollow pods run no programs" {
			t.Error(err)
		}
	}
}

func TestHollowInitContainersEndAndSidecarsStay(t *testing.T) {
	h := NewHollow(HollowOptions{})
	pod := newPod(t, h)
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = []corev1.Container{{Name: "init"}, {Name: "sidecar", RestartPolicy: &always}}
	sandbox := mustStartSandbox(t, h, pod)
	for name, want := range map[string]State{"init": Exited, "sidecar": Running} {
		if c := mustContainer(t, h, pod.UID, mustStart(t, h, sandbox, pod, name, 0)); c.State != want || c.ExitCode != 0 {
			t.Errorf("%s is %+v", name, c)
		}
	}
}

func TestHollowGivesEachAddressOfItsRangeOnce(t *testing.T) {
	h := NewHollow(HollowOptions{PodCIDR: func() string { return "10.1.2.0/29" }})
	start := func(uid types.UID) string {
		pod := &corev1.Pod{}
		pod.UID = uid
		sandbox, err := h.StartSandbox(t.Context(), pod)
		if err != nil {
			return "full"
		}
		return sandbox.IP
	}
	got := []string{start("a"), start("b"), start("c"), start("d"), start("e"), start("f")}
	h.RemovePod(t.Context(), "b")
	got = append(got, start("g"))
	if want := "[10.1.2.2 10.1.2.3 10.1.2.4 10.1.2.5 10.1.2.6 full 10.1.2.3]"; fmt.Sprint(got) != want {
		t.Errorf("the addresses are %v, want %s", got, want)
	}
}

func TestHollowWithoutAPodRangeStartsNoSandbox(t *testing.T) {
	h := NewHollow(HollowOptions{PodCIDR: func() string { return "" }})
	if _, err := h.StartSandbox(t.Context(), newPod(t, h)); err == nil {
		t.Error("a sandbox started on a node that has no range yet")
	}
}

func TestHollowHoldsAHundredNodesOfTenPodsAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 100 {
		h := NewHollow(HollowOptions{})
		events := h.Events(t.Context())
		all.Go(func() {
			for i := range 10 {
				pod := &corev1.Pod{}
				pod.UID = types.UID(fmt.Sprint(i))
				sandbox, err := h.StartSandbox(t.Context(), pod)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := h.StartContainer(t.Context(), sandbox, pod, ContainerSpec{Name: "web"}); err != nil {
					t.Error(err)
				}
			}
			for seen := map[types.UID]bool{}; len(seen) < 10; {
				seen[<-events] = true
			}
		})
	}
	all.Wait()
}
