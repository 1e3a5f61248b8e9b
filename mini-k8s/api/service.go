package api

import (
	"fmt"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var services = behaviour[*corev1.Service]{
	columns: "Name Type Cluster-IP External-IP Port(s) Age Selector*",
	cells:   serviceCells,
	defaults: func(s *corev1.Service) {
		setDefault(&s.Spec.Type, corev1.ServiceTypeClusterIP)
		setDefault(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
		for i := range s.Spec.Ports {
			port := &s.Spec.Ports[i]
			setDefault(&port.Protocol, corev1.ProtocolTCP)
			setDefault(&port.TargetPort, intstr.FromInt32(port.Port))
			if port.TargetPort == intstr.FromString("") {
				port.TargetPort = intstr.FromInt32(port.Port)
			}
		}
	},
	validate: func(s, old *corev1.Service) field.ErrorList { return validateService(&s.Spec, field.NewPath("spec")) },
	fields: func(s *corev1.Service) map[string]string {
		return map[string]string{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	},
}

func serviceCells(s *corev1.Service) []any {
	external := append([]string{}, s.Spec.ExternalIPs...)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		external = []string{s.Spec.ExternalName}
	}
	var ports, selector []string
	for _, p := range s.Spec.Ports {
		text := strconv.Itoa(int(p.Port))
		if p.NodePort != 0 {
			text += ":" + strconv.Itoa(int(p.NodePort))
		}
		ports = append(ports, text+"/"+string(p.Protocol))
	}
	for _, key := range sortedKeys(s.Spec.Selector) {
		selector = append(selector, key+"="+s.Spec.Selector[key])
	}
	return []any{s.Name, s.Spec.Type, orNone(s.Spec.ClusterIP), orNone(external...), orNone(ports...), age(s.CreationTimestamp), orNone(selector...)}
}

func validateService(s *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("type"), s.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeExternalName)
	if s.Type == corev1.ServiceTypeExternalName {
		if s.ExternalName == "" {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		}
	} else if len(s.Ports) == 0 && s.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	names := map[string]bool{}
	for i, port := range s.Ports {
		at := path.Child("ports").Index(i)
		for _, why := range validation.IsValidPortNum(int(port.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), port.Port, why))
		}
		if port.Name == "" && len(s.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if names[port.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
		}
		names[port.Name] = true
		errs = append(errs, oneOf(at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
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
				ports = append(ports, strconv.Itoa(int(*p.Port)))
			}
		}
		for _, endpoint := range e.Endpoints {
			addresses = append(addresses, endpoint.Addresses...)
		}
		return []any{e.Name, e.AddressType, firstThree(ports), firstThree(addresses), age(e.CreationTimestamp)}
	},
}

var autoscalers = behaviour[*autoscalingv2.HorizontalPodAutoscaler]{
	columns: "Name Reference Targets MinPods MaxPods Replicas Age",
	cells: func(h *autoscalingv2.HorizontalPodAutoscaler) []any {
		reference := h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		return []any{h.Name, reference, autoscalerTargets(h), replicas(h.Spec.MinReplicas), h.Spec.MaxReplicas,
			h.Status.CurrentReplicas, age(h.CreationTimestamp)}
	},
	defaults: func(h *autoscalingv2.HorizontalPodAutoscaler) { setDefaultPtr(&h.Spec.MinReplicas, 1) },
	validate: func(h, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
		var errs field.ErrorList
		path := field.NewPath("spec")
		if h.Spec.ScaleTargetRef.Name == "" {
			errs = append(errs, field.Required(path.Child("scaleTargetRef", "name"), ""))
		}
		if h.Spec.MinReplicas != nil && *h.Spec.MinReplicas < 1 {
			errs = append(errs, field.Invalid(path.Child("minReplicas"), *h.Spec.MinReplicas, "must be greater than or equal to 1"))
		}
		if h.Spec.MaxReplicas < replicas(h.Spec.MinReplicas) {
			errs = append(errs, field.Invalid(path.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
		}
		return errs
	},
}

// autoscalerTargets returns the current and the wanted value of each metric: "cpu: 12%/50%".
func autoscalerTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	current := map[corev1.ResourceName]string{}
	for _, m := range h.Status.CurrentMetrics {
		if m.Resource != nil && m.Resource.Current.AverageUtilization != nil {
			current[m.Resource.Name] = fmt.Sprintf("%d%%", *m.Resource.Current.AverageUtilization)
		}
	}
	var all []string
	for _, m := range h.Spec.Metrics {
		if m.Resource != nil && m.Resource.Target.AverageUtilization != nil {
			now, ok := current[m.Resource.Name]
			if !ok {
				now = "<unknown>"
			}
			all = append(all, fmt.Sprintf("%s: %s/%d%%", m.Resource.Name, now, *m.Resource.Target.AverageUtilization))
		}
	}
	return strings.ReplaceAll(orNone(all...), ",", ", ")
}

func firstThree(all []string) string {
	if len(all) > 3 {
		return strings.Join(all[:3], ",") + fmt.Sprintf(" + %d more...", len(all)-3)
	}
	return orNone(all...)
}
