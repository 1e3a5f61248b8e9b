package master_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/controllers/deployment"
	"workshop/mini-k8s/master/controllers/garbage"
	"workshop/mini-k8s/master/controllers/namespace"
	"workshop/mini-k8s/master/controllers/node"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/master/scheduler"
	"workshop/mini-k8s/worker/kubelet"
	"workshop/mini-k8s/worker/runtime"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startAll runs every loop of the control plane, and nodes with hollow pods, and returns when they have joined.
func startAll(bench *mastertest.Bench, nodes ...string) (stops map[string]func()) {
	deps := bench.Deps()
	bench.Start(scheduler.New(deps).Run)
	bench.Start(replicaset.New(deps).Run)
	bench.Start(deployment.New(deps).Run)
	bench.Start(node.New(deps, node.Config{ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeBits: 24}).Run)
	bench.Start(garbage.New(deps).Run)
	bench.Start(namespace.New(deps, []byte("certificate")).Run)
	stops = map[string]func(){}
	for i, name := range nodes {
		config := kubelet.Config{Node: name, Address: "127.0.0.1", Port: int32(10250 + i), Client: bench.Loops(), Runtime: runtime.NewHollow(runtime.HollowOptions{})}
		entry := kubelet.NewNode(config, func() (bool, string) { return true, "" })
		stops[name] = bench.Start(func(ctx context.Context) error {
			return control.Run(ctx, control.Component{Name: "node", Run: entry.Run}, control.Component{Name: "kubelet", Run: kubelet.New(config).Run})
		})
	}
	mastertest.Settle()
	return stops
}

func available(t *testing.T, bench *mastertest.Bench) int32 {
	t.Helper()
	return mastertest.Get[*appsv1.Deployment](t, bench.Client, "default", "web").Status.AvailableReplicas
}

func TestClusterWithNothingToDoWritesNothingButHeartbeats(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		startAll(bench, "node-1", "node-2", "node-3")
		mastertest.Create(t, bench.Client, mastertest.Deployment("web", 10, "hello:1"))
		mastertest.Eventually(t, "10 pods are available", func() bool { return available(t, bench) == 10 })
		mastertest.Settle()
		before, all := len(bench.Wire.Writes("/leases/")), len(bench.Wire.Writes())
		const minutes = 10
		time.Sleep(minutes * time.Minute)
		synctest.Wait()
		if writes := bench.Wire.Writes("/leases/")[before:]; len(writes) > 0 {
			t.Errorf("writes beside the heartbeats: %v", writes)
		}
		if beats, want := len(bench.Wire.Writes())-all, 3*minutes*12; beats < want-3 || beats > want+3 {
			t.Errorf("%d heartbeats in %d minutes, want %d", beats, minutes, want)
		}
	})
}

func TestDeploymentLivesAndDiesWithTheWholeControlPlane(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		stops := startAll(bench, "node-1", "node-2", "node-3")
		mastertest.Settle() // or else the pods go to the nodes that are there first
		mastertest.Create(t, bench.Client, mastertest.Deployment("web", 9, "hello:1"))
		mastertest.Settle()
		perNode := map[string]int{}
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
			perNode[p.Spec.NodeName]++
		}
		if perNode["node-1"] != 3 || perNode["node-2"] != 3 || perNode["node-3"] != 3 {
			t.Errorf("pods by node: %v", perNode)
		}
		stops["node-3"]()
		time.Sleep(time.Minute)
		mastertest.Change(t, bench.Client, "default", "web", func(d *appsv1.Deployment) { *d.Spec.Replicas = 13 })
		mastertest.Settle()
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
			perNode[p.Spec.NodeName]++
		}
		if perNode["node-3"] != 6 { // the 3 of before, counted twice
			t.Errorf("a silent node got new pods: %v", perNode)
		}
		mastertest.Delete[*appsv1.Deployment](t, bench.Client, "default", "web", metav1.DeletePropagationForeground)
		time.Sleep(2 * time.Minute)
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
			if p.Spec.NodeName != "node-3" || p.DeletionTimestamp == nil {
				t.Errorf("%s on %s is left", p.Name, p.Spec.NodeName)
			}
		}
		if _, ok := mastertest.Find[*appsv1.Deployment](t, bench.Client, "default", "web"); !ok {
			t.Error("the Deployment went though a node has not stopped its pods")
		}
	})
}
