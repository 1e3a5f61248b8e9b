package node

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestNodeGetsTheRangeOfItsNumberIfItCanBeHad(t *testing.T) {
	for _, row := range []struct {
		name    string
		cluster string
		bits    int
		taken   []string
		node    string
		want    string // "" for none
	}{
		{"its own number", "10.244.0.0/16", 24, nil, "node-7", "10.244.7.0/24"},
		{"the largest", "10.244.0.0/16", 24, nil, "node-255", "10.244.255.0/24"},
		{"a number that there is not", "10.244.0.0/16", 24, nil, "node-256", "10.244.1.0/24"},
		{"a number beyond all counting", "10.244.0.0/16", 24, nil, "node-99999999999999999999", "10.244.1.0/24"},
		{"zero is not given", "10.244.0.0/16", 24, nil, "node-0", "10.244.1.0/24"},
		{"no number", "10.244.0.0/16", 24, nil, "laptop", "10.244.1.0/24"},
		{"leading zeros", "10.244.0.0/16", 24, nil, "node-007", "10.244.7.0/24"},
		{"its own is taken", "10.244.0.0/16", 24, []string{"10.244.7.0/24", "10.244.1.0/24"}, "node-7", "10.244.2.0/24"},
		{"smaller parts", "10.0.0.0/8", 20, nil, "n17", "10.1.16.0/20"},
		{"a cluster range written sloppily", "10.244.3.4/16", 24, nil, "node-2", "10.244.2.0/24"},
		{"all taken", "10.244.0.0/22", 24, []string{"10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"}, "node-1", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			taken := map[string]bool{"": true}
			for _, r := range row.taken {
				taken[r] = true
			}
			got, err := freeRange(netip.MustParsePrefix(row.cluster), row.bits, taken, numberOf(row.node))
			if row.want == "" {
				if err == nil || !strings.Contains(err.Error(), row.cluster) {
					t.Errorf("got %s, %v; want an error that names the cluster's range", got, err)
				}
			} else if err != nil || got.String() != row.want {
				t.Errorf("got %s, %v, want %s", got, err, row.want)
			}
		})
	}
}

func start(bench *mastertest.Bench, cidr string) {
	bench.Start(New(bench.Deps(), Config{ClusterCIDR: netip.MustParsePrefix(cidr), NodeBits: 24}).Run)
}

func join(t *testing.T, bench *mastertest.Bench, name string) {
	t.Helper()
	mastertest.Join(t, bench.Client, mastertest.Node(name, "1", "1Gi", "10"))
}

func TestNoTwoNodesHaveTheSameRangeAndEachKeepsItsOwn(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(mastertest.Once(
			func(r *http.Request) bool { return mastertest.Is(r, "PUT", "/nodes/worker-a") },
			mastertest.Refuse(apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "worker-a", errors.New("faster")))))
		start(bench, "10.244.0.0/16")
		for _, names := range [][]string{{"node-1", "node-2", "node-9"}, {"worker-a", "worker-b", "x1", "y1"}} { // who asks first has the choice
			for _, name := range names {
				join(t, bench, name)
			}
			mastertest.Settle()
		}
		ranges := map[string]string{}
		given := func() map[string]string {
			byNode := map[string]string{}
			for _, n := range mastertest.List[*corev1.Node](t, bench.Client) {
				byNode[n.Name] = n.Spec.PodCIDR
				if len(n.Spec.PodCIDRs) != 1 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR {
					t.Errorf("%s has podCIDRs %v", n.Name, n.Spec.PodCIDRs)
				}
			}
			return byNode
		}
		before := given()
		for name, r := range before {
			if r == "" || ranges[r] != "" {
				t.Errorf("%s and %s have the range %q", name, ranges[r], r)
			}
			ranges[r] = name
		}
		if before["node-1"] != "10.244.1.0/24" || before["node-9"] != "10.244.9.0/24" {
			t.Errorf("ranges: %v", before)
		}
		mastertest.Delete[*corev1.Node](t, bench.Client, "", "node-9", "")
		mastertest.Settle()
		join(t, bench, "z9")
		mastertest.Settle()
		after := given()
		if after["z9"] != "10.244.9.0/24" {
			t.Errorf("the range of a node that is gone was not given again: %v", after)
		}
		for name, r := range before {
			if name != "node-9" && after[name] != r {
				t.Errorf("%s had %s, now has %s", name, r, after[name])
			}
		}
	})
}

func TestRangeIsGivenOnceHoweverLateTheWatchTells(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "nodes") {
				mastertest.Lag(response, func() time.Duration { return 300 * time.Millisecond })
			}
			return response, err
		})
		join(t, bench, "alice")
		join(t, bench, "bob")
		start(bench, "10.244.0.0/16")
		time.Sleep(10 * time.Second)
		a, b := mastertest.Get[*corev1.Node](t, bench.Client, "", "alice").Spec.PodCIDR, mastertest.Get[*corev1.Node](t, bench.Client, "", "bob").Spec.PodCIDR
		if a == "" || b == "" || a == b {
			t.Errorf("alice has %q, bob has %q", a, b)
		}
	})
}

func TestNodeWithoutRangeIsToldWhyAndGetsOneWhenOneIsFree(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, "10.244.0.0/23") // one beside the one that is left out
		join(t, bench, "node-1")
		mastertest.Settle()
		join(t, bench, "node-2")
		mastertest.Settle()
		if n := mastertest.Get[*corev1.Node](t, bench.Client, "", "node-2"); n.Spec.PodCIDR != "" {
			t.Errorf("node-2 has %s", n.Spec.PodCIDR)
		}
		if e := mastertest.Events(t, bench.Client, "node-2"); len(e) != 1 || e[0].Reason != "CIDRNotAvailable" || !strings.Contains(e[0].Message, "--cluster-cidr") {
			t.Errorf("events: %v", e)
		}
		mastertest.Delete[*corev1.Node](t, bench.Client, "", "node-1", "")
		time.Sleep(time.Minute)
		if n := mastertest.Get[*corev1.Node](t, bench.Client, "", "node-2"); n.Spec.PodCIDR != "10.244.1.0/24" {
			t.Errorf("node-2 has %q", n.Spec.PodCIDR)
		}
	})
}

// renew writes a node's lease, as its kubelet does.
func renew(t *testing.T, bench *mastertest.Bench, node string) {
	t.Helper()
	now := metav1.NowMicro()
	if _, ok := mastertest.Find[*coordinationv1.Lease](t, bench.Client, corev1.NamespaceNodeLease, node); ok {
		mastertest.Change(t, bench.Client, corev1.NamespaceNodeLease, node, func(l *coordinationv1.Lease) { l.Spec.RenewTime = &now })
		return
	}
	mastertest.Create(t, bench.Client, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node},
		Spec: coordinationv1.LeaseSpec{RenewTime: &now}})
}

// state returns what the API server says of a node: "Ready True", "Ready Unknown, unreachable".
func state(t *testing.T, bench *mastertest.Bench, name string) string {
	t.Helper()
	n := mastertest.Get[*corev1.Node](t, bench.Client, "", name)
	text := fmt.Sprint(n.Status.Conditions[0].Type, " ", n.Status.Conditions[0].Status)
	for _, taint := range n.Spec.Taints {
		text += fmt.Sprint(", ", strings.TrimPrefix(taint.Key, "node.kubernetes.io/"), " ", taint.Effect)
	}
	return text
}

func TestSilentNodeIsNotReadyAndTaintedUntilItSpeaksAgain(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, "10.244.0.0/16")
		expect := func(node, want string) {
			t.Helper()
			if got := state(t, bench, node); got != want {
				t.Errorf("%s is %q, want %q", node, got, want)
			}
		}
		join(t, bench, "loud")
		join(t, bench, "silent")
		mastertest.Change(t, bench.Client, "", "silent", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "own", Effect: "NoSchedule"}} })
		renew(t, bench, "silent")
		speak := func(during time.Duration, nodes ...string) {
			for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(5 * time.Second) {
				for _, node := range nodes {
					renew(t, bench, node)
				}
			}
		}
		speak(time.Minute, "loud", "silent")
		expect("silent", "Ready True, own NoSchedule")
		writes := len(bench.Wire.Writes())
		speak(10*time.Second, "loud") // it last spoke 15 seconds ago
		expect("silent", "Ready True, own NoSchedule")
		speak(time.Minute, "loud")
		expect("silent", "Ready Unknown, own NoSchedule, unreachable NoSchedule, unreachable NoExecute")
		expect("loud", "Ready True")
		if e := mastertest.Events(t, bench.Client, "silent"); len(e) != 1 || e[0].Reason != "NodeNotReady" || e[0].Count != 1 {
			t.Errorf("events: %v", e)
		}
		if got := bench.Wire.Writes("/events")[writes:]; len(got) > 2 {
			t.Errorf("one silence was written down in %d writes: %v", len(got), got)
		}
		speak(15*time.Second, "loud", "silent")
		expect("silent", "Ready Unknown, own NoSchedule") // its kubelet is the one to say that it is ready
	})
}

func TestNodeIsJudgedByTheTimeOfItsLease(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := bench.Deps()
		c := New(deps, Config{ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeBits: 24, Grace: 10 * time.Second})
		join(t, bench, "node-1")
		renew(t, bench, "node-1")
		spoke := time.Now()
		look := func(after time.Duration) time.Duration {
			t.Helper()
			mastertest.Settle()
			_, again, err := c.judge(t.Context(), mastertest.Get[*corev1.Node](t, bench.Client, "", "node-1"), spoke.Add(after))
			if err != nil {
				t.Fatal(err)
			}
			return again
		}
		for _, row := range []struct {
			after, again time.Duration
			want         string
		}{
			{4 * time.Second, 6 * time.Second, "Ready True"},
			{10*time.Second - 1, 1, "Ready True"},
			{10 * time.Second, 2500 * time.Millisecond, "Ready Unknown, unreachable NoSchedule"},
			{time.Hour, 2500 * time.Millisecond, "Ready Unknown, unreachable NoSchedule"},
			{time.Second, 9 * time.Second, "Ready Unknown"},
		} {
			if again := look(row.after); again != row.again {
				t.Errorf("after %v: looks again in %v, want %v", row.after, again, row.again)
			}
			if got := state(t, bench, "node-1"); got != row.want {
				t.Errorf("after %v: %q, want %q", row.after, got, row.want)
			}
			mastertest.Settle()
			writes := len(bench.Wire.Writes())
			if look(row.after); len(bench.Wire.Writes()) > writes {
				t.Errorf("after %v: a second look wrote %v", row.after, bench.Wire.Writes()[writes:])
			}
		}
	})
}

func TestNewNodeIsNotJudgedByALeaseOfOld(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		renew(t, bench, "node-1")
		time.Sleep(time.Hour)
		start(bench, "10.244.0.0/16")
		join(t, bench, "node-1")
		mastertest.Settle()
		if got := state(t, bench, "node-1"); got != "Ready True" {
			t.Errorf("a node that has just come is %q", got)
		}
		time.Sleep(time.Minute)
		if got := state(t, bench, "node-1"); got != "Ready Unknown, unreachable NoSchedule" {
			t.Errorf("a node that never spoke is %q", got)
		}
	})
}

func TestNodeThatIsGoneIsNobodysConcern(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, "10.244.0.0/16")
		join(t, bench, "node-1")
		mastertest.Settle()
		mastertest.Delete[*corev1.Node](t, bench.Client, "", "node-1", "")
		writes := len(bench.Wire.Writes())
		time.Sleep(time.Hour)
		if got := bench.Wire.Writes()[writes:]; len(got) > 0 {
			t.Errorf("writes: %v", got)
		}
		if nodes, err := client.Of[*corev1.Node](bench.Client).List(t.Context(), client.Selection{}); err != nil || len(nodes.Items) != 0 {
			t.Errorf("nodes: %v, %v", nodes.Items, err)
		}
	})
}
