package kubelet

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

func TestANodeRefusesWhatItHasNoRoomFor(t *testing.T) {
	asking := func(cpu, memory string) *corev1.Pod { return newPod(mastertest.Requests(cpu, memory)) }
	room := roomOf(runtime.Machine{CPUs: 2, MemoryBytes: 4 << 30})
	crowd := make([]*corev1.Pod, maxPods)
	for i := range crowd {
		crowd[i] = newPod()
	}
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		others []*corev1.Pod
		want   string
	}{
		{"an empty node", asking("2", "4Gi"), nil, ""},
		{"too many CPUs", asking("2001m", "0"), nil, "OutOfcpu Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000"},
		{"too much memory", asking("0", "2Gi"), []*corev1.Pod{asking("0", "3Gi")}, "OutOfmemory Node didn't have enough resource: memory, requested: 2147483648, used: 3221225472, capacity: 4294967296"},
		{"what is left", asking("500m", "1Gi"), []*corev1.Pod{asking("1", "2Gi"), asking("500m", "1Gi")}, ""},
		{"one pod too many", newPod(), crowd, "OutOfpods Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110"},
		{"who wants nothing finds room where nothing is left", newPod(), []*corev1.Pod{asking("9", "9Gi")}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := refusalOf(test.pod, test.others, room)
			if got := strings.TrimSpace(r.reason + " " + r.message); got != test.want {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

// sized is a runtime on a machine with one CPU.
type sized struct{ *breakable }

func (s sized) Machine(context.Context) (runtime.Machine, error) {
	return runtime.Machine{CPUs: 1, MemoryBytes: 1 << 30}, nil
}

func TestPodsThatAreBoundAtOnceDoNotTakeTheSameRoom(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		r := sized{newBreakable()}
		start := func() (stop func()) {
			return bench.Start(New(Config{Node: "node-1", Address: "192.0.2.1", Client: bench.Loops(), Runtime: r}).Run)
		}
		count := func(want int) {
			t.Helper()
			mastertest.Settle()
			phases := map[corev1.PodPhase]int{}
			for _, pod := range mastertest.List[*corev1.Pod](t, bench.Client) {
				phases[pod.Status.Phase]++
				if pod.Status.Phase == corev1.PodFailed && (pod.Status.Reason != "OutOfcpu" || len(pod.Status.ContainerStatuses) > 0) {
					t.Errorf("pod %s is %+v", pod.Name, pod.Status)
				}
			}
			if phases[corev1.PodRunning] != want || phases[corev1.PodPending] > 0 {
				t.Errorf("there are %v", phases)
			}
		}
		for i := range 8 {
			mastertest.Create(t, bench.Client, mastertest.Pod(fmt.Sprint("web-", i), mastertest.Requests("300m", "0"), func(p *corev1.Pod) { p.Spec.NodeName = "node-1" }))
		}
		stop := start()
		count(3)
		stop()
		stop = start() // the next one lets in whom this one has
		count(3)
		for _, pod := range mastertest.List[*corev1.Pod](t, bench.Client) {
			if pod.Status.Phase == corev1.PodRunning {
				mastertest.Delete[*corev1.Pod](t, bench.Client, "default", pod.Name, "")
				break
			}
		}
		mastertest.Settle()
		mastertest.Create(t, bench.Client, mastertest.Pod("next", mastertest.Requests("300m", "0"), func(p *corev1.Pod) { p.Spec.NodeName = "node-1" }))
		count(3)
		stop()
	})
}
