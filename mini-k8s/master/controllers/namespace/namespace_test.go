package namespace

import (
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fill makes a namespace with something of several kinds in it, among that a pod that runs on a node.
func fill(t *testing.T, bench *mastertest.Bench, name string) {
	t.Helper()
	mastertest.Create(t, bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	in := metav1.ObjectMeta{Namespace: name, Name: "thing"}
	mastertest.Create(t, bench.Client, mastertest.Pod("running", func(p *corev1.Pod) { p.Namespace, p.Spec.NodeName = name, "node-1" }))
	mastertest.Create(t, bench.Client, mastertest.Pod("waiting", func(p *corev1.Pod) { p.Namespace = name }))
	mastertest.Create(t, bench.Client, &corev1.ConfigMap{ObjectMeta: in})
	mastertest.Create(t, bench.Client, &corev1.Secret{ObjectMeta: in})
	rs := mastertest.ReplicaSet("thing", 1)
	rs.Namespace = name
	mastertest.Create(t, bench.Client, rs)
}

func TestNamespaceIsEmptiedAndGoesAfterItsLastPodHas(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		fill(t, bench, "shop")
		fill(t, bench, "other")
		mastertest.Settle()
		mastertest.Delete[*corev1.Namespace](t, bench.Client, "", "shop", "")
		time.Sleep(20 * time.Second)
		ns := mastertest.Get[*corev1.Namespace](t, bench.Client, "", "shop")
		if ns.Status.Phase != corev1.NamespaceTerminating {
			t.Errorf("while a pod stops, the namespace is %s", ns.Status.Phase)
		}
		pod := mastertest.Get[*corev1.Pod](t, bench.Client, "shop", "running")
		if pod.DeletionTimestamp == nil || *pod.DeletionGracePeriodSeconds != corev1.DefaultTerminationGracePeriodSeconds {
			t.Errorf("the pod's deletion: %v, %v s", pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds)
		}
		if deletes := bench.Wire.Writes("POST"); len(deletes) != 5+2 {
			t.Errorf("writes while it waits: %v, want one for each object, and for each of its furniture", deletes)
		}
		if _, err := client.Of[*corev1.ConfigMap](bench.Client).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "late"}}); !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Errorf("something new in it: %v", err)
		}
		if _, err := client.Of[*corev1.Pod](bench.Client).Delete(t.Context(), "shop", "running", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		mastertest.Settle()
		if _, ok := mastertest.Find[*corev1.Namespace](t, bench.Client, "", "shop"); ok {
			t.Error("the namespace is empty and still there")
		}
		if n := len(mastertest.List[*corev1.Pod](t, bench.Client)) + len(mastertest.List[*appsv1.ReplicaSet](t, bench.Client)); n != 3 {
			t.Errorf("%d pods and ReplicaSets, want the 3 of the other namespace", n)
		}
	})
}

func TestNamespaceStaysWhileSomethingInItIsKept(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		mastertest.Create(t, bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		mastertest.Create(t, bench.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kept", Finalizers: []string{"test/keep"}}})
		mastertest.Delete[*corev1.Namespace](t, bench.Client, "", "shop", "")
		time.Sleep(20 * time.Second)
		mastertest.Get[*corev1.Namespace](t, bench.Client, "", "shop")
		mastertest.Change(t, bench.Client, "shop", "kept", func(m *corev1.ConfigMap) { m.Finalizers = nil })
		mastertest.Settle()
		if _, ok := mastertest.Find[*corev1.Namespace](t, bench.Client, "", "shop"); ok {
			t.Error("the namespace is empty and still there")
		}
	})
}
