package endpoints

// Which pods serve a Service, and at which ports. All here is pure.

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
)

// subsetsOf returns the addresses of a Service, together with those that have the same ports. They are of one subset
// unless a port has a name that means another number in some pods.
func subsetsOf(service *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	byPorts := map[string]*corev1.EndpointSubset{}
	for _, pod := range pods {
		if !selects(service, pod) || pod.Status.PodIP == "" || pod.DeletionTimestamp != nil || api.PodFinished(pod) {
			continue
		}
		if !usable(pod) && !service.Spec.PublishNotReadyAddresses {
			continue
		}
		if ip := net.ParseIP(pod.Status.PodIP); ip.IsLoopback() {
			continue // of a pod on the network of a node that others do not reach: to them it would mean themselves
		}
		ports := portsOf(service, pod)
		if len(ports) == 0 && len(service.Spec.Ports) > 0 {
			continue // it has none of the ports that the Service wants
		}
		subset := byPorts[shortHash(ports)]
		if subset == nil {
			subset = &corev1.EndpointSubset{Ports: ports}
			byPorts[shortHash(ports)] = subset
		}
		address := addressOf(pod)
		if pod.Spec.Subdomain != service.Name {
			address.Hostname = "" // DNS names a pod within the service that it says it is of
		}
		subset.Addresses = append(subset.Addresses, address)
	}
	var subsets []corev1.EndpointSubset
	for _, subset := range byPorts {
		slices.SortFunc(subset.Addresses, func(a, b corev1.EndpointAddress) int { return strings.Compare(a.IP, b.IP) })
		subsets = append(subsets, *subset)
	}
	slices.SortFunc(subsets, func(a, b corev1.EndpointSubset) int { return strings.Compare(shortHash(a.Ports), shortHash(b.Ports)) })
	return subsets
}

// usable reports whether a pod can be sent requests.
func usable(pod *corev1.Pod) bool {
	return api.PodReady(pod) && pod.DeletionTimestamp == nil && !api.PodFinished(pod)
}

// addressOf returns what of a pod stands in the endpoints of its services. Not its revision: it would change for nothing.
func addressOf(pod *corev1.Pod) corev1.EndpointAddress {
	address := corev1.EndpointAddress{IP: pod.Status.PodIP, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if pod.Spec.NodeName != "" {
		address.NodeName = &pod.Spec.NodeName
	}
	if pod.Spec.Subdomain != "" {
		address.Hostname = cmp.Or(pod.Spec.Hostname, pod.Name)
	}
	return address
}

// portsOf returns where in the pod the ports of a Service lead. One whose name the pod does not know leads nowhere.
func portsOf(service *corev1.Service, pod *corev1.Pod) (ports []corev1.EndpointPort) {
	for _, port := range service.Spec.Ports {
		if number, ok := targetOf(port, pod); ok {
			ports = append(ports, corev1.EndpointPort{Name: port.Name, Port: number, Protocol: port.Protocol, AppProtocol: port.AppProtocol})
		}
	}
	return ports
}

func targetOf(port corev1.ServicePort, pod *corev1.Pod) (number int32, found bool) {
	if port.TargetPort.Type == intstr.Int {
		return cmp.Or(port.TargetPort.IntVal, port.Port), true
	}
	for _, container := range pod.Spec.Containers {
		for _, named := range container.Ports {
			if named.Name == port.TargetPort.StrVal && named.Protocol == port.Protocol {
				return named.ContainerPort, true
			}
		}
	}
	return 0, false
}

// shortHash tells sets of ports apart.
func shortHash(ports []corev1.EndpointPort) string {
	hash := fnv.New32a()
	for _, port := range ports {
		fmt.Fprint(hash, port.Name, " ", port.Port, " ", port.Protocol, "\n")
	}
	return rand.SafeEncodeString(fmt.Sprint(hash.Sum32()))
}
