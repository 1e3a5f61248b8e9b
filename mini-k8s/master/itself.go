package master

import (
	"cmp"
	"context"
	"net"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// publishItself writes the service default/kubernetes, which has the first of the cluster IPs, and the API server's address
// behind it, unless that is on the loopback, where nobody else finds it.
//
// In Kubernetes: pkg/controlplane/controller/kubernetesservice, which also puts back what was deleted or changed, at once;
// here the next start does. There each of several masters adds its address.
func (m *Master) publishItself(ctx context.Context) error {
	listen := m.port.Addr().(*net.TCPAddr).AddrPort()
	const name = "https"
	port, protocol := int32(listen.Port()), corev1.ProtocolTCP
	at := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes",
		Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}}
	err := publish(ctx, m, &corev1.Service{ObjectMeta: at, Spec: corev1.ServiceSpec{ClusterIP: m.ServiceCIDR.Addr().Next().String(),
		Ports: []corev1.ServicePort{{Name: name, Port: 443, TargetPort: intstr.FromInt32(port)}}}})
	ip := listen.Addr().Unmap()
	if ip.IsUnspecified() && len(m.Hosts) > 0 {
		ip, _ = netip.ParseAddr(m.Hosts[0])
	}
	if err != nil || !ip.Is4() || ip.IsLoopback() || ip.IsUnspecified() {
		return err
	}
	at.Labels = map[string]string{discoveryv1.LabelServiceName: at.Name}
	return cmp.Or(
		publish(ctx, m, &corev1.Endpoints{ObjectMeta: at, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: ip.String()}}, Ports: []corev1.EndpointPort{{Name: name, Port: port, Protocol: protocol}}}}}),
		publish(ctx, m, &discoveryv1.EndpointSlice{ObjectMeta: at, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip.String()}}},
			Ports:     []discoveryv1.EndpointPort{{Name: new(name), Port: &port, Protocol: &protocol}}}),
	)
}
