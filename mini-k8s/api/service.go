package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

var services = behaviour[*corev1.Service]{
	columns: "Name Type Cluster-IP External-IP Port(s) Age Selector*",
	cells:   serviceCells,
	defaults: func(s *corev1.Service) {
		setDefault(&s.Spec.Type, corev1.ServiceTypeClusterIP)
		setDefault(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
		defaultAddresses(&s.Spec)
		for i := range s.Spec.Ports {
			port := &s.Spec.Ports[i]
			setDefault(&port.Protocol, corev1.ProtocolTCP)
			if port.TargetPort.String() == "0" || port.TargetPort.String() == "" {
				port.TargetPort = intstr.FromInt32(port.Port)
			}
		}
	},
	validate: func(c *check, s, old *corev1.Service) {
		checkService(c, &s.Spec, field.NewPath("spec"))
		for i, port := range s.Spec.Ports { // of one that just became a ClusterIP they are still there
			if port.NodePort != 0 && s.Spec.Type == corev1.ServiceTypeClusterIP && (old == nil || old.Spec.Type == s.Spec.Type) {
				c.add(field.Forbidden(field.NewPath("spec", "ports").Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
		}
		checkAddresses(c, &s.Spec, old, field.NewPath("spec"))
	},
	fields: func(s *corev1.Service) map[string]string {
		return map[string]string{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	},
}

func serviceCells(s *corev1.Service) []any {
	external := slices.Clone(s.Spec.ExternalIPs)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		external = []string{s.Spec.ExternalName}
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		text := fmt.Sprint(p.Port)
		if p.NodePort != 0 {
			text += fmt.Sprint(":", p.NodePort)
		}
		ports = append(ports, text+"/"+string(p.Protocol))
	}
	return []any{s.Name, s.Spec.Type, orNone(s.Spec.ClusterIP), orNone(external...), orNone(ports...), age(s.CreationTimestamp),
		orNone(labels.Set(s.Spec.Selector).String())}
}

func checkService(c *check, s *corev1.ServiceSpec, path *field.Path) {
	oneOf(c, path.Child("type"), s.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeExternalName)
	if s.Type == corev1.ServiceTypeExternalName {
		c.name(path.Child("externalName"), strings.TrimSuffix(s.ExternalName, "."), validation.IsDNS1123Subdomain)
	} else {
		c.required(path.Child("ports"), len(s.Ports) > 0 || s.ClusterIP == corev1.ClusterIPNone)
	}
	oneOf(c, path.Child("sessionAffinity"), s.SessionAffinity, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	c.add(metavalidation.ValidateLabels(s.Selector, path.Child("selector"))...)
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, port := range s.Ports {
		at := path.Child("ports").Index(i)
		c.port(at.Child("port"), port.Port)
		if port.Name == "" && len(s.Ports) > 1 {
			c.required(at.Child("name"), false)
		} else {
			c.nameIfSet(at.Child("name"), port.Name, validation.IsDNS1123Label)
			c.unique(at.Child("name"), port.Name, names)
		}
		c.unique(at, fmt.Sprintf("%d/%s", port.Port, port.Protocol), numbers)
		if target := at.Child("targetPort"); port.TargetPort.Type == intstr.Int {
			c.port(target, port.TargetPort.IntVal)
		} else {
			c.name(target, port.TargetPort.StrVal, validation.IsValidPortName)
		}
		oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
}

var endpoints = behaviour[*corev1.Endpoints]{
	defaults: func(e *corev1.Endpoints) {
		for _, subset := range e.Subsets {
			for i := range subset.Ports {
				setDefault(&subset.Ports[i].Protocol, corev1.ProtocolTCP)
			}
		}
	},
	columns: "Name Endpoints Age",
	cells: func(e *corev1.Endpoints) []any {
		var all []string
		for _, subset := range e.Subsets {
			for _, port := range subset.Ports {
				for _, address := range subset.Addresses {
					all = append(all, fmt.Sprintf("%s:%d", address.IP, port.Port))
				}
			}
		}
		return []any{e.Name, firstThree(all), age(e.CreationTimestamp)}
	},
	validate: func(c *check, e, old *corev1.Endpoints) {
		for i, subset := range e.Subsets {
			path := field.NewPath("subsets").Index(i)
			for j, address := range subset.Addresses {
				checkIPv4(c, path.Child("addresses").Index(j).Child("ip"), address.IP)
			}
			for j, port := range subset.Ports {
				c.port(path.Child("ports").Index(j).Child("port"), port.Port)
				oneOf(c, path.Child("ports").Index(j).Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
			}
		}
	},
}

// checkIPv4 refuses what packets cannot be sent to from a pod.
func checkIPv4(c *check, path *field.Path, text string) {
	ip, err := netip.ParseAddr(text)
	if err != nil || !ip.Is4() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() {
		c.invalid(path, text, "must be an IPv4 address of another machine or a pod")
	}
}

var endpointSlices = behaviour[*discoveryv1.EndpointSlice]{
	defaults: func(e *discoveryv1.EndpointSlice) {
		for i := range e.Ports {
			setDefaultPtr(&e.Ports[i].Name, "")
			setDefaultPtr(&e.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	},
	columns: "Name AddressType Ports Endpoints Age",
	cells: func(e *discoveryv1.EndpointSlice) []any {
		var ports, addresses []string
		for _, p := range e.Ports {
			if p.Port != nil {
				ports = append(ports, fmt.Sprint(*p.Port))
			}
		}
		for _, endpoint := range e.Endpoints {
			addresses = append(addresses, endpoint.Addresses...)
		}
		return []any{e.Name, e.AddressType, firstThree(ports), firstThree(addresses), age(e.CreationTimestamp)}
	},
	validate: func(c *check, e, old *discoveryv1.EndpointSlice) {
		oneOf(c, field.NewPath("addressType"), e.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeFQDN)
		if old != nil {
			c.unchanged(field.NewPath("addressType"), e.AddressType, old.AddressType)
		}
		for i, endpoint := range e.Endpoints {
			path := field.NewPath("endpoints").Index(i).Child("addresses")
			c.required(path, len(endpoint.Addresses) > 0)
			for j, address := range endpoint.Addresses {
				if e.AddressType == discoveryv1.AddressTypeIPv4 {
					checkIPv4(c, path.Index(j), address)
				}
			}
		}
		for i, port := range e.Ports {
			if port.Port != nil {
				c.port(field.NewPath("ports").Index(i).Child("port"), *port.Port)
			}
			oneOf(c, field.NewPath("ports").Index(i).Child("protocol"), ptr.Deref(port.Protocol, ""), corev1.ProtocolTCP, corev1.ProtocolUDP)
		}
	},
}

func firstThree(all []string) string {
	if len(all) > 3 {
		return strings.Join(all[:3], ",") + fmt.Sprintf(" + %d more...", len(all)-3)
	}
	return orNone(all...)
}
