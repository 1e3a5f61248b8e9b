package namespace

import (
	"maps"
	"testing"
	"time"

	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const certificate = "-----BEGIN CERTIFICATE-----"

// furnished checks that a namespace has what every one has.
func furnished(t *testing.T, bench *mastertest.Bench, name string) {
	t.Helper()
	mastertest.Get[*corev1.ServiceAccount](t, bench.Client, name, "default")
	if got := mastertest.Get[*corev1.ConfigMap](t, bench.Client, name, "kube-root-ca.crt").Data; !maps.Equal(got, map[string]string{"ca.crt": certificate}) {
		t.Errorf("namespace %s has the certificate %v", name, got)
	}
}

func TestEveryNamespaceIsFurnished(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		mastertest.Create(t, bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "before"}})
		stop := bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		mastertest.Create(t, bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "later"}})
		mastertest.Settle()
		for _, ns := range mastertest.List[*corev1.Namespace](t, bench.Client) {
			furnished(t, bench, ns.Name)
		}
		writes := len(bench.Wire.Writes())
		if writes != 2*6 {
			t.Errorf("%d writes for 6 namespaces: %v", writes, bench.Wire.Writes())
		}
		stop()
		bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		time.Sleep(time.Hour)
		if more := bench.Wire.Writes()[writes:]; len(more) > 0 {
			t.Errorf("writes with nothing to do: %v", more)
		}
	})
}

func TestFurnitureThatIsTakenOrChangedIsPutBack(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		mastertest.Settle()
		for _, row := range []struct {
			name   string
			change func()
		}{
			{"account deleted", func() { mastertest.Delete[*corev1.ServiceAccount](t, bench.Client, "default", "default", "") }},
			{"certificate deleted", func() { mastertest.Delete[*corev1.ConfigMap](t, bench.Client, "default", "kube-root-ca.crt", "") }},
			{"certificate changed", func() {
				mastertest.Change(t, bench.Client, "default", "kube-root-ca.crt", func(m *corev1.ConfigMap) { m.Data["ca.crt"] = "forged" })
			}},
			{"something added", func() {
				mastertest.Change(t, bench.Client, "default", "kube-root-ca.crt", func(m *corev1.ConfigMap) { m.Data["more"] = "x" })
			}},
		} {
			before := len(bench.Wire.Writes())
			row.change()
			mastertest.Settle()
			furnished(t, bench, "default")
			if writes := bench.Wire.Writes()[before:]; len(writes) != 1 {
				t.Errorf("%s: writes %v, want one", row.name, writes)
			}
		}
		mastertest.Change(t, bench.Client, "default", "kube-root-ca.crt", func(m *corev1.ConfigMap) { m.Labels = map[string]string{"mine": "yes"} })
		mastertest.Settle()
		if got := mastertest.Get[*corev1.ConfigMap](t, bench.Client, "default", "kube-root-ca.crt").Labels; got["mine"] != "yes" {
			t.Errorf("labels of others are lost: %v", got)
		}
	})
}

func TestNamespaceThatEndsIsNotFurnishedAnew(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps(), []byte(certificate)).Run)
		mastertest.Create(t, bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		mastertest.Create(t, bench.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kept", Finalizers: []string{"test/keep"}}})
		mastertest.Settle()
		before := len(bench.Wire.Writes("DELETE"))
		mastertest.Delete[*corev1.Namespace](t, bench.Client, "", "shop", "")
		time.Sleep(time.Minute)
		if _, ok := mastertest.Find[*corev1.ServiceAccount](t, bench.Client, "shop", "default"); ok {
			t.Error("the account is still or again there")
		}
		if writes := bench.Wire.Writes("DELETE")[before:]; len(writes) > 0 {
			t.Errorf("writes into a namespace that ends: %v", writes)
		}
		mastertest.Change(t, bench.Client, "shop", "kept", func(m *corev1.ConfigMap) { m.Finalizers = nil })
		mastertest.Settle()
		if _, ok := mastertest.Find[*corev1.Namespace](t, bench.Client, "", "shop"); ok {
			t.Error("the namespace is still there")
		}
	})
}
