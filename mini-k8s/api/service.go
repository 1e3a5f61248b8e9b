package api

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var services = behaviour[*corev1.Service]{
	columns: "Name Type Cluster-IP External-IP Port(s) Age Selector*",
	cells:   serviceCells,
	update: func(c *check, s, old *corev1.Service) {
		if had := old.Spec.ClusterIP; s.Spec.Type != corev1.ServiceTypeExternalName && had != "" && s.Spec.ClusterIP != had {
			c.invalid(field.NewPath("spec", "clusterIPs").Index(0), s.Spec.ClusterIPs, "may not change once set")
		}
	},
	fields: "spec.clusterIP spec.type",
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

func defaultTargetPort(port *corev1.ServicePort) {
	if port.TargetPort.String() == "0" || port.TargetPort.String() == "" {
		port.TargetPort = intstr.FromInt32(port.Port)
	}
}

func checkService(c *check, s *corev1.ServiceSpec, at *field.Path) {
	c.add(metavalidation.ValidateLabels(s.Selector, at.Child("selector"))...)
	checkAddresses(c, s, at)
	names, numbers, onNodes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, port := range s.Ports {
		at := at.Child("ports").Index(i)
		c.required(at.Child("name"), port.Name != "" || len(s.Ports) == 1)
		c.unique(at.Child("name"), port.Name, names)
		c.unique(at, fmt.Sprintf("%d/%s", port.Port, port.Protocol), numbers)
		if port.NodePort == 0 {
			continue
		}
		if s.Type == corev1.ServiceTypeClusterIP {
			c.add(field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		} else { // TCP and UDP may share one
			c.unique(at.Child("nodePort"), fmt.Sprintf("%d/%s", port.NodePort, port.Protocol), onNodes)
		}
	}
}

var endpoints = behaviour[*corev1.Endpoints]{
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
}

var endpointSlices = behaviour[*discoveryv1.EndpointSlice]{
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
	update: func(c *check, e, old *discoveryv1.EndpointSlice) {
		c.unchanged(field.NewPath("addressType"), e.AddressType, old.AddressType)
	},
}

func checkSlice(c *check, e *discoveryv1.EndpointSlice, at *field.Path) {
	for i, endpoint := range e.Endpoints {
		for j, address := range endpoint.Addresses {
			if e.AddressType == discoveryv1.AddressTypeIPv4 {
				c.invalid(at.Child("endpoints").Index(i).Child("addresses").Index(j), address, isOtherIPv4(address)...)
			}
		}
	}
}

func firstThree(all []string) string {
	if len(all) > 3 {
		return strings.Join(all[:3], ",") + fmt.Sprintf(" + %d more...", len(all)-3)
	}
	return orNone(all...)
}
