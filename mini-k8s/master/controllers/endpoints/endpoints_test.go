package endpoints

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(name string, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	for _, change := range changes {
		change(s)
	}
	return s
}

// addPod makes a pod with the address, Ready or not.
func addPod(t *testing.T, bench *mastertest.Bench, name, ip string, ready bool, changes ...func(*corev1.Pod)) {
	t.Helper()
	mastertest.Create(t, bench.Client, mastertest.Pod(name, append(changes, func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.Spec.NodeName = "node-1"
	})...))
	mastertest.ChangeStatus(t, bench.Client, "default", name, func(p *corev1.Pod) {
		p.Status.PodIP, p.Status.Phase = ip, corev1.PodRunning
		if ready {
			mastertest.MakeReady(p)
		}
	})
}

// expect waits until all is quiet, and compares what stands in the Endpoints and in the slices: "ip:port ...", in any order.
func expect(t *testing.T, bench *mastertest.Bench, name, want string) {
	t.Helper()
	mastertest.Settle()
	var inEndpoints, inSlices []string
	if found, ok := mastertest.Find[*corev1.Endpoints](t, bench.Client, "default", name); ok {
		for _, subset := range found.Subsets {
			for _, address := range subset.Addresses {
				for _, port := range subset.Ports {
					inEndpoints = append(inEndpoints, fmt.Sprint(address.IP, ":", port.Port))
				}
			}
		}
	}
	for _, slice := range mastertest.List[*discoveryv1.EndpointSlice](t, bench.Client) {
		if slice.Labels[discoveryv1.LabelServiceName] != name {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			for _, port := range slice.Ports {
				inSlices = append(inSlices, fmt.Sprint(endpoint.Addresses[0], ":", *port.Port))
			}
		}
	}
	for what, got := range map[string][]string{"Endpoints": inEndpoints, "slices": inSlices} {
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("the %s of %s hold %v, want %s", what, name, got, want)
		}
	}
}

func TestOnlyReadyPodsServe(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run)
		mastertest.Create(t, bench.Client, service("web"))
		addPod(t, bench, "a", "10.244.1.2", true)
		addPod(t, bench, "b", "10.244.1.3", false)
		addPod(t, bench, "other", "10.244.1.4", true)
		mastertest.Change(t, bench.Client, "default", "other", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} })
		expect(t, bench, "web", "10.244.1.2:8080")

		mastertest.ChangeStatus(t, bench.Client, "default", "b", mastertest.MakeReady)
		expect(t, bench, "web", "10.244.1.2:8080 10.244.1.3:8080")

		// A pod that is told to stop still runs, for a while, and serves no more.
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "a", metav1.DeletePropagationBackground)
		if pod := mastertest.Get[*corev1.Pod](t, bench.Client, "default", "a"); pod.DeletionTimestamp == nil {
			t.Error("the pod is gone at once")
		}
		expect(t, bench, "web", "10.244.1.3:8080")

		mastertest.Change(t, bench.Client, "default", "other", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} })
		expect(t, bench, "web", "10.244.1.3:8080 10.244.1.4:8080")
		mastertest.Change(t, bench.Client, "default", "web", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "none"} })
		expect(t, bench, "web", "")
	})
}

func TestPortsThatHaveNamesAreThoseOfEachPod(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run)
		serves := func(number int32) func(*corev1.Pod) {
			return func(p *corev1.Pod) {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: number}}
			}
		}
		mastertest.Create(t, bench.Client, service("web", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "main", Port: 80, TargetPort: intstr.FromString("http")}, {Name: "more", Port: 81}}
		}))
		addPod(t, bench, "a", "10.244.1.2", true, serves(8080))
		addPod(t, bench, "b", "10.244.1.3", true, serves(9090))
		addPod(t, bench, "c", "10.244.1.4", true)
		expect(t, bench, "web", "10.244.1.2:8080 10.244.1.2:81 10.244.1.3:81 10.244.1.3:9090 10.244.1.4:81")
		if all := mastertest.List[*discoveryv1.EndpointSlice](t, bench.Client); len(all) != 3 {
			t.Errorf("%d slices for three sets of ports", len(all))
		}
		mastertest.Delete[*corev1.Pod](t, bench.Client, "default", "b", metav1.DeletePropagationBackground)
		expect(t, bench, "web", "10.244.1.2:8080 10.244.1.2:81 10.244.1.4:81")
	})
}

func TestServicesThatAsOthersAreNot(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run)
		addPod(t, bench, "a", "10.244.1.2", false, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "first", "headless" })

		mastertest.Create(t, bench.Client, service("early", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }))
		expect(t, bench, "early", "10.244.1.2:8080")

		mastertest.Create(t, bench.Client, service("elsewhere", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports = corev1.ServiceTypeExternalName, "example.com", nil
		}))
		expect(t, bench, "elsewhere", "")

		mastertest.ChangeStatus(t, bench.Client, "default", "a", mastertest.MakeReady)
		mastertest.Create(t, bench.Client, service("headless", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }))
		expect(t, bench, "headless", "10.244.1.2:8080")
		for _, slice := range mastertest.List[*discoveryv1.EndpointSlice](t, bench.Client) {
			hostname := slice.Endpoints[0].Hostname
			if headless := slice.Labels[discoveryv1.LabelServiceName] == "headless"; headless != (hostname != nil && *hostname == "first") {
				t.Errorf("%s has the hostname %v", slice.Name, hostname)
			}
		}

		// Addresses that somebody writes by hand.
		mastertest.Create(t, bench.Client, service("handmade", func(s *corev1.Service) { s.Spec.Selector = nil }))
		mastertest.Create(t, bench.Client, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "handmade"}, Subsets: []corev1.EndpointSubset{
			{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Port: 5432}}}}})
		expect(t, bench, "handmade", "192.0.2.1:5432")
		mastertest.Change(t, bench.Client, "default", "handmade", func(e *corev1.Endpoints) { e.Subsets[0].Addresses[0].IP = "192.0.2.2" })
		expect(t, bench, "handmade", "192.0.2.2:5432")
	})
}

func TestWhatSomebodySpoilsIsMended(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Start(New(bench.Deps()).Run)
		mastertest.Create(t, bench.Client, service("web"))
		addPod(t, bench, "a", "10.244.1.2", true)
		expect(t, bench, "web", "10.244.1.2:8080")
		mastertest.Change(t, bench.Client, "default", "web", func(e *corev1.Endpoints) { e.Subsets = nil })
		slice := mastertest.List[*discoveryv1.EndpointSlice](t, bench.Client)[0]
		mastertest.Delete[*discoveryv1.EndpointSlice](t, bench.Client, "default", slice.Name, metav1.DeletePropagationBackground)
		expect(t, bench, "web", "10.244.1.2:8080")

		before := len(bench.Wire.Writes())
		mastertest.ChangeStatus(t, bench.Client, "default", "a", func(p *corev1.Pod) { p.Status.Message = "nothing new" })
		mastertest.Settle()
		if writes := bench.Wire.Writes()[before:]; len(writes) > 0 {
			t.Errorf("with nothing to do it wrote %v", writes)
		}
	})
}
