package kubelet

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// servicesFor returns the services that a pod is told of in its environment: those of its namespace, if it wants that.
//
// In Kubernetes: and the one of the API server, in any case. Pods have no credentials for that here.
func servicesFor(pod *corev1.Pod, all []*corev1.Service) (found []*corev1.Service) {
	for _, s := range all {
		if s.Namespace == pod.Namespace && ptr.Deref(pod.Spec.EnableServiceLinks, true) {
			found = append(found, s)
		}
	}
	return found
}

// serviceVariables tells where a service is, in the way of Kubernetes and in the older one of Docker's links. For one that is
// named web: WEB_SERVICE_HOST, WEB_SERVICE_PORT, WEB_PORT=tcp://10.96.0.7:80, WEB_PORT_80_TCP_ADDR and so on.
func serviceVariables(s *corev1.Service) map[string]string {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return nil
	}
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	name := upper(s.Name)
	variables := map[string]string{name + "_SERVICE_HOST": ip}
	for i, p := range s.Spec.Ports {
		port, protocol := strconv.Itoa(int(p.Port)), string(cmp.Or(p.Protocol, corev1.ProtocolTCP))
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			variables[name+"_SERVICE_PORT"], variables[name+"_PORT"] = port, url
		}
		if p.Name != "" {
			variables[name+"_SERVICE_PORT_"+upper(p.Name)] = port
		}
		link := name + "_PORT_" + port + "_" + protocol
		variables[link], variables[link+"_PROTO"] = url, strings.ToLower(protocol)
		variables[link+"_PORT"], variables[link+"_ADDR"] = port, ip
	}
	return variables
}
