// Package endpoints tells, for every Service, at which addresses it is served: those of the Ready pods that its selector
// matches. The proxies and the DNS servers of all nodes read it in EndpointSlices; people read the same in Endpoints.
//
// Invariants:
//  1. An address is there only while its pod is Ready and not being deleted: a pod that is told to stop leaves its
//     services before it leaves. (A Service with publishNotReadyAddresses asks for all that have an address.)
//  2. The Endpoints of a Service without a selector are somebody else's: they are read, never written.
//  3. The order of addresses and ports says nothing and stays the same, so that the same state is the same object.
//
// In Kubernetes: pkg/controller/endpoint, /endpointslice and /endpointslicemirroring. There a slice has at most 100
// addresses, of which it also tells which are not ready or terminating (KEP-752, KEP-1672); here it has all of one port.
package endpoints

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

const (
	workers = 4
	name    = "endpoints-controller"
)

var controllerKind = corev1.SchemeGroupVersion.WithKind("Service")

// Controller runs the loop.
type Controller struct {
	*control.Loop
	services  *control.Objects[*corev1.Service]
	pods      *control.Objects[*corev1.Pod]
	endpoints *control.Objects[*corev1.Endpoints]
	slices    *control.Objects[*discoveryv1.EndpointSlice]
}

// New returns a controller that does nothing until Run.
func New(deps control.Deps) *Controller {
	deps = deps.As(name)
	c := &Controller{services: control.Of[*corev1.Service](deps), pods: control.Of[*corev1.Pod](deps),
		endpoints: control.Of[*corev1.Endpoints](deps), slices: control.Of[*discoveryv1.EndpointSlice](deps)}
	c.Loop = control.NewLoop(deps, workers, c.reconcile)
	control.Watch(c.Loop, c.services, control.Itself)
	control.Watch(c.Loop, c.endpoints, control.Itself) // they have the name of their service
	control.Watch(c.Loop, c.slices, serviceOf)
	control.Watch(c.Loop, c.pods, c.servicesOf)
	return c
}

// servicesOf returns the services whose selector matches a pod.
func (c *Controller) servicesOf(pod *corev1.Pod) (keys []string) {
	for _, service := range c.services.ByIndex("namespace", pod.Namespace) {
		if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			keys = append(keys, control.Key(service))
		}
	}
	return keys
}

// serviceOf returns the Service that a slice of ours belongs to.
func serviceOf(slice *discoveryv1.EndpointSlice) []string {
	if slice.Labels[discoveryv1.LabelManagedBy] != name {
		return nil
	}
	return []string{control.JoinKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])}
}

// reconcile brings the Endpoints and the slices of one Service up to date. What a Service leaves behind is the garbage
// collector's, who goes by their owner.
func (c *Controller) reconcile(ctx context.Context, key string) error {
	service, ok := c.services.Get(key)
	if !ok || service.DeletionTimestamp != nil {
		return nil
	}
	var subsets []corev1.EndpointSubset
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName: // is a name for something elsewhere
	case len(service.Spec.Selector) > 0:
		subsets = subsetsOf(service, c.pods.Selected(service.Namespace, labels.SelectorFromSet(service.Spec.Selector)))
		wanted := &corev1.Endpoints{ObjectMeta: metadata(service, service.Name), Subsets: subsets}
		if err := c.endpoints.Ensure(ctx, wanted, func(e *corev1.Endpoints) { e.Subsets = subsets }); err != nil {
			return err
		}
	default:
		if handmade, ok := c.endpoints.Get(key); ok {
			subsets = handmade.Subsets
		}
	}
	wanted := map[string]bool{}
	for _, slice := range slicesOf(service, subsets) {
		wanted[slice.Name] = true
		err := c.slices.Ensure(ctx, slice, func(s *discoveryv1.EndpointSlice) {
			s.Labels, s.Endpoints, s.Ports = slice.Labels, slice.Endpoints, slice.Ports
		})
		if err != nil {
			return err
		}
	}
	for _, slice := range c.slices.Controlled(service.UID) {
		if !wanted[slice.Name] {
			if err := c.slices.Delete(ctx, slice); err != nil {
				return err
			}
		}
	}
	return nil
}

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
	address := corev1.EndpointAddress{IP: pod.Status.PodIP,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
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

// slicesOf returns a slice for each subset. Its name tells its ports, so that pods which come and go change a slice and
// make no other one.
func slicesOf(service *corev1.Service, subsets []corev1.EndpointSubset) (all []*discoveryv1.EndpointSlice) {
	for _, subset := range subsets {
		slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
		slice.ObjectMeta = metadata(service, service.Name+"-"+shortHash(subset.Ports))
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: name}
		if service.Spec.ClusterIP == corev1.ClusterIPNone {
			slice.Labels[corev1.IsHeadlessService] = ""
		}
		for _, port := range subset.Ports {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
				Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol, AppProtocol: port.AppProtocol})
		}
		for _, address := range subset.Addresses {
			endpoint := discoveryv1.Endpoint{Addresses: []string{address.IP}, NodeName: address.NodeName, TargetRef: address.TargetRef,
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)}}
			if address.Hostname != "" {
				endpoint.Hostname = &address.Hostname
			}
			slice.Endpoints = append(slice.Endpoints, endpoint)
		}
		all = append(all, slice)
	}
	return all
}

// metadata is that of an object which belongs to the Service and goes with it.
func metadata(service *corev1.Service, objectName string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: service.Namespace, Name: objectName,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, controllerKind)},
	}
}
