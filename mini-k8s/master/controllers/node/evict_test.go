package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func tolerating(key string, seconds *int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds})
		if seconds != nil {
			p.Spec.Tolerations[len(p.Spec.Tolerations)-1].Effect = corev1.TaintEffectNoExecute
		}
	}
}

func TestPodStaysForAsLongAsItToleratesAllTaints(t *testing.T) {
	now := time.Now()
	taint := func(key string, effect corev1.TaintEffect, ago time.Duration) corev1.Taint {
		return corev1.Taint{Key: key, Effect: effect, TimeAdded: &metav1.Time{Time: now.Add(-ago)}}
	}
	a, b := taint("a", "NoExecute", 10*time.Second), taint("b", "NoExecute", 0)
	for _, row := range []struct {
		name   string
		pod    *corev1.Pod
		taints []corev1.Taint
		want   string
	}{
		{"no taints", mastertest.Pod("p"), nil, "for ever"},
		{"a taint for new pods only", mastertest.Pod("p"), []corev1.Taint{taint("a", "NoSchedule", 0)}, "for ever"},
		{"not tolerated", mastertest.Pod("p"), []corev1.Taint{a}, "0s"},
		{"tolerated for ever", mastertest.Pod("p", tolerating("a", nil)), []corev1.Taint{a}, "for ever"},
		{"all is tolerated", mastertest.Pod("p", tolerating("", nil)), []corev1.Taint{a, b}, "for ever"},
		{"for a while, from when the taint was found", mastertest.Pod("p", tolerating("a", ptr.To(int64(30)))), []corev1.Taint{a}, "20s"},
		{"not at all", mastertest.Pod("p", tolerating("a", ptr.To(int64(0)))), []corev1.Taint{b, a}, "-10s"},
		{"the shortest of two tolerations", mastertest.Pod("p", tolerating("a", ptr.To(int64(30))), tolerating("a", ptr.To(int64(15)))), []corev1.Taint{a}, "5s"},
		{"the shortest of two taints", mastertest.Pod("p", tolerating("a", ptr.To(int64(30))), tolerating("b", ptr.To(int64(30)))), []corev1.Taint{b, a}, "20s"},
		{"one of two taints is not tolerated", mastertest.Pod("p", tolerating("a", nil)), []corev1.Taint{a, b}, "0s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := "for ever"
			if left := mayStay(row.pod, row.taints, now); left != forEver {
				got = fmt.Sprint(left)
			}
			if got != row.want {
				t.Errorf("it may stay %s, want %s", got, row.want)
			}
		})
	}
}

// machines are nodes of which some speak.
type machines struct {
	t     *testing.T
	bench *mastertest.Bench
	names []string
}

// startMachines runs the loop over so many nodes, each with a pod that is ready and has the name of its node.
func startMachines(t *testing.T, bench *mastertest.Bench, count int) *machines {
	start(bench, "10.244.0.0/16")
	m := &machines{t: t, bench: bench}
	for i := range count {
		name := fmt.Sprint("node-", i+1)
		join(t, bench, name)
		m.names = append(m.names, name)
		m.put(name)
	}
	return m
}

func (m *machines) put(name string, changes ...func(*corev1.Pod)) {
	m.t.Helper()
	p := mastertest.Pod(name, changes...)
	p.Spec.NodeName = "node-" + strings.Split(name, "-")[1]
	mastertest.Create(m.t, m.bench.Client, p)
	mastertest.ChangeStatus(m.t, m.bench.Client, "default", name, mastertest.MakeReady)
}

// speak lets all nodes but the silent ones renew their leases for so long.
func (m *machines) speak(during time.Duration, silent ...string) {
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(5 * time.Second) {
		for _, name := range m.names {
			if !slices.Contains(silent, name) {
				renew(m.t, m.bench, name)
			}
		}
	}
	mastertest.Settle()
}

// pods returns all of them, with what is the matter with them.
func (m *machines) pods() string {
	var all []string
	for _, p := range mastertest.List[*corev1.Pod](m.t, m.bench.Client) {
		text := p.Name
		if !api.PodReady(p) {
			text += " unready"
		}
		if p.DeletionTimestamp != nil {
			text += " leaving"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (m *machines) expect(want string) {
	m.t.Helper()
	if got := m.pods(); got != want {
		m.t.Errorf("pods: %s; want %s", got, want)
	}
}

func TestPodsLeaveASilentNodeWhenTheyHaveToleratedItForLongEnough(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 3)
		m.put("node-3-patient", tolerating("node.kubernetes.io/unreachable", nil))
		m.put("node-3-hasty", tolerating("node.kubernetes.io/unreachable", ptr.To(int64(5))))
		m.speak(time.Minute)
		m.expect("node-1, node-2, node-3, node-3-hasty, node-3-patient")
		m.speak(25*time.Second, "node-3") // 20 of them are the grace
		m.expect("node-1, node-2, node-3 unready, node-3-hasty unready leaving, node-3-patient unready")
		m.speak(5*time.Second, "node-3")
		m.expect("node-1, node-2, node-3 unready, node-3-hasty unready leaving, node-3-patient unready")
		m.speak(15*time.Second, "node-3")
		m.expect("node-1, node-2, node-3 unready leaving, node-3-hasty unready leaving, node-3-patient unready")
		if e := mastertest.Events(t, bench.Client, "node-3-hasty"); len(e) != 1 || e[0].Reason != "TaintManagerEviction" {
			t.Errorf("events: %v", e)
		}
		writes := len(bench.Wire.Writes("/pods"))
		m.speak(time.Hour, "node-3")
		if got := bench.Wire.Writes("/pods")[writes:]; len(got) > 0 {
			t.Errorf("writes to pods in an hour of silence: %v", got)
		}
		// What its kubelet says when it is back is not doubted again, though the taint is there a moment longer.
		mastertest.ChangeStatus(t, bench.Client, "default", "node-3-patient", mastertest.MakeReady)
		m.speak(time.Minute)
		m.expect("node-1, node-2, node-3 unready leaving, node-3-hasty unready leaving, node-3-patient")
		if got := state(t, bench, "node-3"); strings.Contains(got, "unreachable") {
			t.Errorf("node-3 is %q", got)
		}
	})
}

func TestNodeThatSpeaksAgainInTimeKeepsItsPods(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 3)
		m.speak(40*time.Second, "node-3")
		m.speak(10 * time.Minute)
		if got := m.pods(); strings.Contains(got, "leaving") {
			t.Errorf("pods: %s", got)
		}
	})
}

func TestNobodyIsEvictedWhenMostNodesVanishAtOnce(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 5)
		m.speak(time.Minute)
		m.speak(10*time.Second, "node-5")
		m.speak(10*time.Minute, "node-5", "node-4", "node-3") // they go one after the other, but before the first is given up
		m.expect("node-1, node-2, node-3, node-4, node-5 unready")
		m.speak(20*time.Second, "node-5") // then all but the first are heard again
		m.expect("node-1, node-2, node-3, node-4, node-5 unready")
		m.speak(30*time.Second, "node-5")
		m.expect("node-1, node-2, node-3, node-4, node-5 unready leaving")
	})
}

func TestNobodyIsEvictedWhenAllNodesVanish(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 1)
		m.speak(10*time.Minute, "node-1")
		m.expect("node-1")
		if got := state(t, bench, "node-1"); got != "Ready Unknown, unreachable NoSchedule" {
			t.Errorf("node-1 is %q", got)
		}
	})
}

func TestPodsOfANodeThatIsGoneAreGivenUp(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 2)
		m.speak(time.Minute)
		mastertest.Delete[*corev1.Node](t, bench.Client, "", "node-2", "")
		m.speak(20*time.Second, "node-2")
		m.expect("node-1, node-2") // its kubelet may make it anew
		join(t, bench, "node-2")
		m.speak(time.Minute)
		m.expect("node-1, node-2")
		mastertest.Delete[*corev1.Node](t, bench.Client, "", "node-2", "")
		m.speak(45*time.Second, "node-2")
		m.expect("node-1")
	})
}

func TestTaintByHandDrivesPodsAwayAtOnce(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		m := startMachines(t, bench, 2)
		m.put("node-2-tolerant", tolerating("maintenance", ptr.To(int64(60))))
		m.speak(10 * time.Second)
		mastertest.Change(t, bench.Client, "", "node-2", func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "maintenance", Effect: corev1.TaintEffectNoExecute})
		})
		m.speak(50 * time.Second)
		m.expect("node-1, node-2 leaving, node-2-tolerant")
		m.speak(15 * time.Second)
		m.expect("node-1, node-2 leaving, node-2-tolerant leaving")
	})
}
