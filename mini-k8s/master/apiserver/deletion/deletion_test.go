package deletion

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func running() *corev1.Pod { return &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1"}} }

func grace(seconds int64) metav1.DeleteOptions {
	return metav1.DeleteOptions{GracePeriodSeconds: &seconds}
}

func TestDeletionIsDoneWhenNothingKeepsTheObject(t *testing.T) {
	pod := running()
	if Done(pod) {
		t.Error("a pod that nobody deletes may go")
	}
	for _, step := range []struct {
		options metav1.DeleteOptions
		want    int64
		done    bool
	}{{grace(20), 20, false}, {grace(5), 5, false}, {grace(60), 5, false}, {grace(0), 0, true}} {
		if err := Begin(pod, step.options); err != nil {
			t.Fatal(err)
		}
		if *pod.DeletionGracePeriodSeconds != step.want || Done(pod) != step.done {
			t.Errorf("asked for %d seconds: has %d, done %v", *step.options.GracePeriodSeconds, *pod.DeletionGracePeriodSeconds, Done(pod))
		}
	}
	if pod.Finalizers = []string{"test/keep"}; Done(pod) {
		t.Error("it may go, though a finalizer keeps it")
	}
}

func TestNamespaceStaysUntilItIsFinalized(t *testing.T) {
	ns := &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	if err := Begin(ns, metav1.DeleteOptions{}); err != nil || Done(ns) || ns.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("%v, done %v, it is %s", err, Done(ns), ns.Status.Phase)
	}
	if ns.Spec.Finalizers = nil; !Done(ns) {
		t.Error("it is finalized, and stays")
	}
}
