package kubelet

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// nodeBench is a node that is being kept in an API server.
type nodeBench struct {
	*mastertest.Bench
	t     *testing.T
	node  *Node
	ready atomic.Bool
}

func newNodeBench(t *testing.T) *nodeBench {
	t.Helper()
	b := &nodeBench{Bench: mastertest.New(t), t: t}
	b.node = NewNode(Config{Node: "node-1", Address: "192.0.2.1", Port: 10250, Client: b.Loops(), Runtime: runtime.NewHollow(runtime.HollowOptions{})},
		func() (bool, string) { return b.ready.Load(), "the network is missing" })
	b.node.Labels = map[string]string{"disk": "fast"}
	return b
}

// condition returns the node's Ready condition, empty if there is none yet.
func (b *nodeBench) condition() corev1.NodeCondition {
	b.t.Helper()
	node, found := mastertest.Find[*corev1.Node](b.t, b.Client, "", "node-1")
	if !found {
		return corev1.NodeCondition{}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func (b *nodeBench) waitReady(want corev1.ConditionStatus) {
	b.t.Helper()
	eventually(b.t, "the node's Ready is "+string(want), func() bool { return b.condition().Status == want })
}

func (b *nodeBench) beReady() {
	b.ready.Store(true)
	b.node.Refresh()
}

func TestNodeRegistersWithWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.waitReady(corev1.ConditionFalse)
		node := mastertest.Get[*corev1.Node](t, b.Client, "", "node-1")
		if node.Labels["disk"] != "fast" || node.Labels[corev1.LabelHostname] != "node-1" || node.Labels[corev1.LabelOSStable] == "" {
			t.Errorf("its labels are %v", node.Labels)
		}
		status := node.Status
		if status.Addresses[0] != (corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}) ||
			status.DaemonEndpoints.KubeletEndpoint.Port != 10250 {
			t.Errorf("it is reached at %v, port %d", status.Addresses, status.DaemonEndpoints.KubeletEndpoint.Port)
		}
		if status.NodeInfo.ContainerRuntimeVersion != "hollow://1" || status.NodeInfo.KubeletVersion != api.KubernetesVersion {
			t.Errorf("it says of itself %+v", status.NodeInfo)
		}
		if status.Capacity.Cpu().Value() < 1 || status.Allocatable.Memory().Value() < 1<<20 || status.Allocatable.Pods().Value() != 110 {
			t.Errorf("it has room for %v", status.Allocatable)
		}
		if c := b.condition(); c.Reason != "KubeletNotReady" || c.Message != "the network is missing" {
			t.Errorf("it is not ready because of %s: %s", c.Reason, c.Message)
		}
	})
}

func TestNodeBecomesReadyWhenToldToLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.waitReady(corev1.ConditionFalse)
		before := b.condition().LastTransitionTime
		time.Sleep(10 * time.Second)
		b.beReady()
		b.waitReady(corev1.ConditionTrue)
		if c := b.condition(); c.Reason != "KubeletReady" || c.LastTransitionTime.Sub(before.Time) < 10*time.Second {
			t.Errorf("the condition is %+v; it was false since %v", c, before)
		}
	})
}

func TestNodeReportsInTheEndThoughTheAPIServerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.waitReady(corev1.ConditionFalse)
		b.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if mastertest.Is(r, http.MethodPut, "/status") {
				return mastertest.Refusal(apierrors.NewInternalError(errors.New("out of order"))), nil
			}
			return do()
		})
		b.beReady()
		time.Sleep(10 * time.Second)
		if c := b.condition(); c.Status != corev1.ConditionFalse {
			t.Fatalf("nothing was refused: %+v", c)
		}
		b.Wire.Intercept(nil)
		b.waitReady(corev1.ConditionTrue)
	})
}

func TestNodeRegistersAgainWhenDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.beReady()
		b.waitReady(corev1.ConditionTrue)
		before := mastertest.Get[*corev1.Node](t, b.Client, "", "node-1").UID
		mastertest.Delete[*corev1.Node](t, b.Client, "", "node-1", "")
		eventually(t, "there is another node of the name, and it is ready", func() bool {
			node, found := mastertest.Find[*corev1.Node](t, b.Client, "", "node-1")
			return found && node.UID != before && b.condition().Status == corev1.ConditionTrue
		})
	})
}

func TestNodeTakesOverAnEntryThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		mastertest.Create(t, b.Client, mastertest.Node("node-1", "1", "1Gi", "1", func(n *corev1.Node) { n.Spec.PodCIDR = "10.244.7.0/24" }))
		b.Start(b.node.Run)
		b.beReady()
		b.waitReady(corev1.ConditionTrue)
		if got := mastertest.Get[*corev1.Node](t, b.Client, "", "node-1"); got.Spec.PodCIDR != "10.244.7.0/24" || got.Status.Allocatable.Pods().Value() != 110 {
			t.Errorf("range %s, room for %v", got.Spec.PodCIDR, got.Status.Allocatable)
		}
	})
}

func TestNodeCorrectsWhatOthersSayOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.beReady()
		b.waitReady(corev1.ConditionTrue)
		mastertest.ChangeStatus(t, b.Client, "", "node-1", func(node *corev1.Node) {
			node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: "DiskOnFire", Status: corev1.ConditionFalse})
			node.Status.Conditions[0].Status, node.Status.Conditions[0].Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
			node.Status.Capacity = nil
		})
		b.waitReady(corev1.ConditionTrue)
		got := mastertest.Get[*corev1.Node](t, b.Client, "", "node-1").Status
		if got.Capacity.Cpu().IsZero() || len(got.Conditions) != 2 {
			t.Errorf("capacity %v, conditions %+v; want its own capacity, and the condition of others kept", got.Capacity, got.Conditions)
		}
	})
}

func TestNodeRenewsItsLeaseAndWritesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		b.beReady()
		b.waitReady(corev1.ConditionTrue)
		synctest.Wait()
		lease := func() *coordinationv1.Lease {
			return mastertest.Get[*coordinationv1.Lease](t, b.Client, corev1.NamespaceNodeLease, "node-1")
		}
		first, writes := lease(), len(b.Wire.Writes())
		if *first.Spec.HolderIdentity != "node-1" || *first.Spec.LeaseDurationSeconds != 20 {
			t.Errorf("the lease says %+v", first.Spec)
		}
		time.Sleep(time.Minute)
		if got := lease().Spec.RenewTime.Sub(first.Spec.RenewTime.Time); got != time.Minute {
			t.Errorf("after a minute the lease is %v newer", got)
		}
		if got := b.Wire.Writes()[writes:]; len(got) != 12 || slices.ContainsFunc(got, func(w string) bool { return !strings.Contains(w, "/leases/node-1") }) {
			t.Errorf("in a minute it wrote %q, want 12 renewals", got)
		}
		mastertest.Delete[*coordinationv1.Lease](t, b.Client, corev1.NamespaceNodeLease, "node-1", "")
		time.Sleep(heartbeat + time.Second)
		if lease().UID == first.UID {
			t.Error("the lease that was deleted is there")
		}
	})
}

func TestPodCIDRWaitsForTheMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newNodeBench(t)
		b.Start(b.node.Run)
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := b.node.PodCIDR(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a range PodCIDR returned %q, %v", got, err)
		}
		given := make(chan struct{})
		time.AfterFunc(time.Minute, func() {
			defer close(given)
			mastertest.Change(t, b.Client, "", "node-1", func(node *corev1.Node) { node.Spec.PodCIDR = "10.244.3.0/24" })
		})
		if got, err := b.node.PodCIDR(t.Context()); got != "10.244.3.0/24" || err != nil {
			t.Errorf("PodCIDR returned %q, %v", got, err)
		}
		<-given // the node may hear of it before the one who gave it
	})
}

func TestNodeFailsWhenItsRuntimeDoesNotAnswer(t *testing.T) {
	b := mastertest.New(t)
	broken := &breakable{Hollow: runtime.NewHollow(runtime.HollowOptions{}), machine: errors.New("the daemon is not there")}
	node := NewNode(Config{Node: "node-1", Client: b.Loops(), Runtime: broken}, func() (bool, string) { return true, "" })
	if err := node.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the daemon is not there") {
		t.Errorf("Run returned %v", err)
	}
}
