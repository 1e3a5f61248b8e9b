package proxy

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

var testConfig = Config{Table: "mini-k8s-test-services", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16")}

func service(name, ip string, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	for _, change := range changes {
		change(s)
	}
	return s
}

// slice is of addresses at one port of a service; its name is the part of the port's behind a colon.
func slice(of string, port int32, addresses ...string) *discoveryv1.EndpointSlice {
	of, portName, _ := strings.Cut(of, ":")
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: of + portName, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(portName), Port: ptr.To(port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for _, address := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	return s
}

func nodePort(number int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, number }
}

func sticky(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }

var situations = []struct {
	name     string
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
}{
	{name: "nothing"},
	{"one service with two endpoints", []*corev1.Service{service("web", "10.96.0.10")},
		[]*discoveryv1.EndpointSlice{slice("web", 8080, "10.244.1.3", "10.244.1.2")}},
	{"no endpoints", []*corev1.Service{service("web", "10.96.0.10", nodePort(30080))}, nil},
	{"a node port", []*corev1.Service{service("web", "10.96.0.10", nodePort(30080))},
		[]*discoveryv1.EndpointSlice{slice("web", 8080, "10.244.1.2")}},
	{"one client one endpoint", []*corev1.Service{service("web", "10.96.0.10", sticky, nodePort(30080))},
		[]*discoveryv1.EndpointSlice{slice("web", 8080, "10.244.1.2", "10.244.2.2")}},
	{"ports with names and two protocols", []*corev1.Service{service("dns", "10.96.0.53", func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "tcp", Port: 53, Protocol: corev1.ProtocolTCP}}
	})}, []*discoveryv1.EndpointSlice{slice("dns:tcp", 5353, "10.244.1.2"), func() *discoveryv1.EndpointSlice {
		s := slice("dns:udp", 5354, "10.244.1.2")
		s.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
		return s
	}()}},
	{"headless and elsewhere", []*corev1.Service{service("headless", corev1.ClusterIPNone), service("elsewhere", "")},
		[]*discoveryv1.EndpointSlice{slice("headless", 8080, "10.244.1.2")}},
	{"endpoints that are not ready or doubled", []*corev1.Service{service("web", "10.96.0.10")}, []*discoveryv1.EndpointSlice{
		slice("web", 8080, "10.244.1.2", "2001:db8::1"), slice("web", 8080, "10.244.1.2"), func() *discoveryv1.EndpointSlice {
			s := slice("web", 8080, "10.244.1.9")
			s.Endpoints[0].Conditions.Ready = ptr.To(false)
			return s
		}()}},
}

func TestRulesArePurelyAFunctionOfServicesAndEndpoints(t *testing.T) {
	for _, row := range situations {
		t.Run(row.name, func(t *testing.T) {
			got := testConfig.update(nil, rulesOf(row.services, row.slices))
			path := filepath.Join("testdata", strings.ReplaceAll(row.name, " ", "-")+".nft")
			if *updateGolden {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || got != string(want) {
				t.Errorf("got\n%s\nwant (%v)\n%s", got, err, want)
			}
		})
	}
}

func TestOnlyWhatChangesIsWritten(t *testing.T) {
	of := func(addresses ...string) rules {
		return rulesOf([]*corev1.Service{service("web", "10.96.0.10"), service("more", "10.96.0.11"), service("two", "10.96.0.12")},
			[]*discoveryv1.EndpointSlice{slice("web", 8080, addresses...), slice("more", 8080, "10.244.1.9"), slice("two", 8080, "10.244.1.8", "10.244.1.9")})
	}
	short := strings.NewReplacer("element ip mini-k8s-test-services ", "", "{\n\t", "", ",\n\t", ", ", "\n}", "")
	for _, row := range []struct {
		name     string
		old, new rules
		want     string
	}{
		{"nothing", of("10.244.1.2"), of("10.244.1.2"), ""},
		{"an endpoint in the place of another", of("10.244.1.2"), of("10.244.1.3"), `delete endpoints 10.96.0.10 . tcp . 80 . 0 : 10.244.1.2 . 8080
add endpoints 10.96.0.10 . tcp . 80 . 0 : 10.244.1.3 . 8080
add hairpins 10.244.1.3 . 10.244.1.3
`},
		{"one more", of("10.244.1.2"), of("10.244.1.2", "10.244.1.3"), `delete services 10.96.0.10 . tcp . 80 : goto pick-1
add endpoints 10.96.0.10 . tcp . 80 . 1 : 10.244.1.3 . 8080
add hairpins 10.244.1.3 . 10.244.1.3
add services 10.96.0.10 . tcp . 80 : goto pick-2
`},
		{"the last one goes", of("10.244.1.2"), of(), `delete endpoints 10.96.0.10 . tcp . 80 . 0 : 10.244.1.2 . 8080
delete services 10.96.0.10 . tcp . 80 : goto pick-1
`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := short.Replace(testConfig.update(row.old, row.new))
			if got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
	if got := testConfig.update(of("10.244.1.2"), of("10.244.1.2", "10.244.1.3", "10.244.1.4")); !strings.HasPrefix(got, "table ip") || !strings.Contains(got, "chain pick-3") {
		t.Errorf("a chain that was not there: %s", got)
	}
}
