package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The addresses of a service: which it has, and what a change may do to them. That no two services have the same one is
// for the API server to see to.

// HasClusterIP reports whether a service is reached under an address of its own. One that is headless, or a name for
// something outside, has none.
func HasClusterIP(s *corev1.ServiceSpec) bool {
	return s.Type != corev1.ServiceTypeExternalName && s.ClusterIP != corev1.ClusterIPNone
}

// HasNodePorts reports whether a service is reached on a port of every node.
func HasNodePorts(s *corev1.ServiceSpec) bool { return s.Type == corev1.ServiceTypeNodePort }

// KeepAddresses leaves a service the addresses that it had and that the client does not mention: manifests seldom do. It
// takes away those that a service of the new type does not have.
func KeepAddresses(s, old *corev1.ServiceSpec) {
	if equal(s.ClusterIPs, old.ClusterIPs) { // if the client has changed one of the two, it is the other
		s.ClusterIPs = nil
	}
	if s.Type != corev1.ServiceTypeExternalName {
		setDefault(&s.ClusterIP, old.ClusterIP)
		if s.ExternalName == old.ExternalName {
			s.ExternalName = ""
		}
	} else if old.Type != corev1.ServiceTypeExternalName {
		s.IPFamilies, s.IPFamilyPolicy = nil, nil
		if s.ClusterIP == old.ClusterIP {
			s.ClusterIP = ""
		}
	}
	had, used := map[string]int32{}, map[int32]bool{}
	for _, port := range old.Ports {
		had[port.Name] = port.NodePort
	}
	for _, port := range s.Ports {
		used[port.NodePort] = true
	}
	for i := range s.Ports {
		switch port := &s.Ports[i]; {
		case HasNodePorts(s) && port.NodePort == 0 && !used[had[port.Name]]:
			port.NodePort = had[port.Name]
		case !HasNodePorts(s) && HasNodePorts(old) && port.NodePort == had[port.Name]:
			port.NodePort = 0
		}
	}
}

func defaultAddresses(s *corev1.ServiceSpec) {
	if s.Type == corev1.ServiceTypeExternalName {
		return
	}
	if s.ClusterIP != "" && len(s.ClusterIPs) == 0 {
		s.ClusterIPs = []string{s.ClusterIP}
	}
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	setDefaultPtr(&s.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
}

func checkAddresses(c *check, s *corev1.ServiceSpec, at *field.Path) {
	ips, first := at.Child("clusterIPs"), at.Child("clusterIPs").Index(0)
	switch {
	case s.Type == corev1.ServiceTypeExternalName && (s.ClusterIP != "" || len(s.ClusterIPs) > 0):
		c.add(field.Forbidden(ips, "may not be set for ExternalName services"))
	case s.Type == corev1.ServiceTypeExternalName && s.ExternalName == "":
		c.required(at.Child("externalName"), false)
	case s.Type == corev1.ServiceTypeExternalName:
		c.invalid(at.Child("externalName"), s.ExternalName, validation.IsDNS1123Subdomain(strings.TrimSuffix(s.ExternalName, "."))...)
	case len(s.Ports) == 0 && s.ClusterIP != corev1.ClusterIPNone:
		c.required(at.Child("ports"), false)
	case s.ClusterIP == "" && len(s.ClusterIPs) > 0:
		c.invalid(ips, s.ClusterIPs, "must be empty when `clusterIP` is not specified")
	case s.ClusterIP == "":
	case s.ClusterIPs[0] != s.ClusterIP:
		c.invalid(ips, s.ClusterIPs, "first value must match `clusterIP`")
	case len(s.ClusterIPs) > 1:
		c.invalid(ips, s.ClusterIPs, "this cluster is not configured for dual-stack services: use one address")
	case s.ClusterIP != corev1.ClusterIPNone:
		c.add(validation.IsValidIP(first, s.ClusterIP)...)
	case HasNodePorts(s):
		c.invalid(first, s.ClusterIP, "may not be set to 'None' for NodePort services")
	}
}
