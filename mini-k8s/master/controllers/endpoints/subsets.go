package endpoints

// Which pods serve a Service, and at which ports. All here is pure.

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
)

// subsetsOf returns the addresses of those of a Service's pods that serve it, together with those that have the same ports.
// They are of one subset unless a port has a name that means another number in some pods.
func subsetsOf(service *corev1.Service, pods []*corev1.Pod) (subsets []corev1.EndpointSubset) {
	byPorts := map[string]*corev1.EndpointSubset{}
	for _, pod := range pods {
		ports := portsOf(service, pod)
		if !serves(service, pod) || len(ports) == 0 && len(service.Spec.Ports) > 0 { // it may have none of the ports that are wanted
			continue
		}
		hash := shortHash(ports)
		if byPorts[hash] == nil {
			byPorts[hash] = &corev1.EndpointSubset{Ports: ports}
		}
		byPorts[hash].Addresses = append(byPorts[hash].Addresses, addressOf(service, pod))
	}
	for _, hash := range slices.Sorted(maps.Keys(byPorts)) {
		slices.SortFunc(byPorts[hash].Addresses, func(a, b corev1.EndpointAddress) int { return strings.Compare(a.IP, b.IP) })
		subsets = append(subsets, *byPorts[hash])
	}
	return subsets
}

// serves reports whether a pod can be sent requests. One on the network of a node that others do not reach cannot: its
// loopback address would mean to them themselves.
func serves(service *corev1.Service, pod *corev1.Pod) bool {
	ip := net.ParseIP(pod.Status.PodIP)
	return ip != nil && !ip.IsLoopback() && pod.DeletionTimestamp == nil && !api.PodFinished(pod) &&
		(api.PodReady(pod) || service.Spec.PublishNotReadyAddresses)
}

// addressOf returns what of a pod stands in the endpoints of a Service. Not its revision: it would change for nothing.
func addressOf(service *corev1.Service, pod *corev1.Pod) corev1.EndpointAddress {
	address := corev1.EndpointAddress{IP: pod.Status.PodIP, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if pod.Spec.NodeName != "" {
		address.NodeName = &pod.Spec.NodeName
	}
	if pod.Spec.Subdomain == service.Name { // DNS names a pod within the service that it says it is of
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
