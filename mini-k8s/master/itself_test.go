package master

import (
	"testing"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startIn makes a master over the state of a directory, and returns what it has published: nothing runs yet.
func startIn(t *testing.T, config Config) *client.Client {
	t.Helper()
	m, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m.Client("admin", "test")
}

func TestMasterPublishesItselfAtEveryStart(t *testing.T) {
	config := Config{Name: "test", Dir: t.TempDir(), Listen: "127.0.0.1:0"}
	m, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	admin := m.Client("admin", "test")
	services := client.Of[*corev1.Service](admin)
	first, err := services.Get(t.Context(), "default", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	if first.Spec.ClusterIP != "10.96.0.1" || first.Spec.Ports[0].Port != 443 {
		t.Errorf("%+v", first.Spec)
	}
	web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
	if web, err = services.Create(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Delete(t.Context(), "default", "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.close()

	config.Listen, config.Hosts = "0.0.0.0:0", []string{"192.0.2.1"}
	admin = startIn(t, config)
	services = client.Of[*corev1.Service](admin)
	again, err := services.Get(t.Context(), "default", "kubernetes")
	if err != nil || again.Spec.ClusterIP != "10.96.0.1" || again.UID == first.UID {
		t.Fatalf("after it was deleted: %v %v", again, err)
	}
	same, err := services.Get(t.Context(), "default", "web")
	if err != nil || same.Spec.ClusterIP != web.Spec.ClusterIP || same.Spec.Ports[0].NodePort != web.Spec.Ports[0].NodePort {
		t.Errorf("%v after %v: %v", same, web, err)
	}
	web = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}, Spec: same.Spec}
	if _, err := services.Create(t.Context(), web); !apierrors.IsInvalid(err) {
		t.Errorf("a second service with the addresses of the first: %v", err)
	}
	endpoints, err := client.Of[*corev1.Endpoints](admin).Get(t.Context(), "default", "kubernetes")
	port := again.Spec.Ports[0].TargetPort.IntVal
	if err != nil || endpoints.Subsets[0].Addresses[0].IP != "192.0.2.1" || endpoints.Subsets[0].Ports[0].Port != port {
		t.Errorf("%+v %v", endpoints, err)
	}
	slice, err := client.Of[*discoveryv1.EndpointSlice](admin).Get(t.Context(), "default", "kubernetes")
	if err != nil || slice.Endpoints[0].Addresses[0] != "192.0.2.1" || *slice.Ports[0].Port != port || slice.Labels[discoveryv1.LabelServiceName] != "kubernetes" {
		t.Errorf("%+v %v", slice, err)
	}
	info, err := ReadClusterInfo(t.Context(), admin)
	if want := (ClusterInfo{"test", DefaultClusterCIDR, DefaultServiceCIDR}); err != nil || info != want {
		t.Errorf("%v %v, want %v", info, err, want)
	}
}
