package kubelet

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func service(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	s.Namespace, s.Name = namespace, name
	return s
}

func TestServiceVariablesAreThoseOfKubernetes(t *testing.T) {
	s := service("shop", "web-site", "10.96.0.7", corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP})
	var got []string
	variables := serviceVariables(s)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		got = append(got, name+"="+variables[name])
	}
	want := `WEB_SITE_PORT=tcp://10.96.0.7:80
WEB_SITE_PORT_53_UDP=udp://10.96.0.7:53
WEB_SITE_PORT_53_UDP_ADDR=10.96.0.7
WEB_SITE_PORT_53_UDP_PORT=53
WEB_SITE_PORT_53_UDP_PROTO=udp
WEB_SITE_PORT_80_TCP=tcp://10.96.0.7:80
WEB_SITE_PORT_80_TCP_ADDR=10.96.0.7
WEB_SITE_PORT_80_TCP_PORT=80
WEB_SITE_PORT_80_TCP_PROTO=tcp
WEB_SITE_SERVICE_HOST=10.96.0.7
WEB_SITE_SERVICE_PORT=80
WEB_SITE_SERVICE_PORT_DNS_UDP=53
WEB_SITE_SERVICE_PORT_HTTP=80`
	if all := strings.Join(got, "\n"); all != want {
		t.Errorf("the variables are\n%s\nwant\n%s", all, want)
	}
	for _, none := range []*corev1.Service{service("shop", "headless", "None", corev1.ServicePort{Port: 80}), service("shop", "elsewhere", "")} {
		if got := serviceVariables(none); len(got) > 0 {
			t.Errorf("service %s has the variables %v", none.Name, got)
		}
	}
}

func TestPodsAreToldOfTheServicesOfTheirNamespaceAndTheAPIServer(t *testing.T) {
	all := []*corev1.Service{service("shop", "web", "10.96.0.7"), service("other", "db", "10.96.0.8"), service("default", "web", "10.96.0.9")}
	for _, row := range []struct {
		name string
		pod  func(*corev1.Pod)
		want string
	}{
		{"as it is", func(*corev1.Pod) {}, "default/web"},
		{"in another namespace", func(p *corev1.Pod) { p.Namespace = "shop" }, "shop/web"},
		{"without links", func(p *corev1.Pod) { p.Namespace, p.Spec.EnableServiceLinks = "shop", new(bool) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, s := range servicesFor(newPod(row.pod), all) {
				got = append(got, s.Namespace+"/"+s.Name)
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("it is told of %v, want %s", got, row.want)
			}
		})
	}
}
