package kubelet

// What a container's program is told: its command, its arguments and its environment. All here is pure.

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// surroundings are what a container may refer to that does not stand in its pod's spec.
type surroundings struct {
	podIP, hostIP string
	room          corev1.ResourceList // of the node: the limit of what has none
	services      []*corev1.Service
	read          volumes.Reader
}

// specOf returns what the runtime is to start, all but its files and rights. In the command and its arguments $(NAME) is
// replaced by the variable of that name.
func specOf(pod *corev1.Pod, c *corev1.Container, attempt int, around surroundings) (runtime.ContainerSpec, map[string]string, error) {
	spec := runtime.ContainerSpec{Name: c.Name, Image: c.Image, Attempt: attempt, WorkingDir: c.WorkingDir, Resources: c.Resources,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce}
	variables, err := environment(pod, c, around)
	if err != nil {
		return spec, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		spec.Env = append(spec.Env, name+"="+variables[name])
	}
	for _, word := range c.Command {
		spec.Command = append(spec.Command, expand(word, variables))
	}
	for _, word := range c.Args {
		spec.Args = append(spec.Args, expand(word, variables))
	}
	return spec, variables, nil
}

// environment returns the variables: those that tell of services, then those of envFrom, then those of env. Each takes the
// place of one before it that has its name, and in a value $(NAME) is replaced by the one of that name that stands before.
func environment(pod *corev1.Pod, c *corev1.Container, around surroundings) (map[string]string, error) {
	variables := map[string]string{}
	for _, s := range around.services {
		maps.Copy(variables, serviceVariables(s))
	}
	for _, from := range c.EnvFrom {
		kind, ref := volumes.ConfigMap, from.ConfigMapRef
		if from.SecretRef != nil {
			kind, ref = volumes.Secret, (*corev1.ConfigMapEnvSource)(from.SecretRef)
		}
		content, err := around.read(kind, ref.Name, ptr.Deref(ref.Optional, false))
		if err != nil {
			return nil, err
		}
		for key, value := range content {
			if bytes.IndexByte(value, 0) < 0 { // no variable can hold that
				variables[from.Prefix+key] = string(value)
			}
		}
	}
	for _, v := range c.Env {
		value, err := valueOf(pod, c, v, variables, around)
		if err == nil {
			variables[v.Name] = value
		} else if !errors.Is(err, errLeftOut) {
			return nil, err
		}
	}
	return variables, nil
}

// errLeftOut is returned for a variable that may be missing, and is.
var errLeftOut = errors.New("the variable is optional and has no value")

func valueOf(pod *corev1.Pod, c *corev1.Container, v corev1.EnvVar, before map[string]string, around surroundings) (value string, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, before), nil
	case from.ConfigMapKeyRef != nil:
		return keyOf(pod, volumes.ConfigMap, from.ConfigMapKeyRef, around.read)
	case from.SecretKeyRef != nil:
		return keyOf(pod, volumes.Secret, (*corev1.ConfigMapKeySelector)(from.SecretKeyRef), around.read)
	case from.ResourceFieldRef != nil:
		value = resourceOf(pod, c, from.ResourceFieldRef, around.room)
	case from.FieldRef != nil:
		value, err = fieldOf(pod, from.FieldRef.FieldPath, around.podIP, around.hostIP)
	}
	if err != nil {
		return "", fmt.Errorf("env %s: %w", v.Name, err)
	}
	return value, nil
}

// keyOf returns what a ConfigMap or Secret has under the key.
func keyOf(pod *corev1.Pod, kind string, ref *corev1.ConfigMapKeySelector, read volumes.Reader) (string, error) {
	optional := ptr.Deref(ref.Optional, false)
	content, err := read(kind, ref.Name, optional)
	value, found := content[ref.Key]
	switch {
	case err != nil || found:
		return string(value), err
	case optional:
		return "", errLeftOut
	}
	return "", fmt.Errorf("couldn't find key %s in %s %s/%s", ref.Key, kind, pod.Namespace, ref.Name)
}

// resourceOf returns a request or limit, in units of the divisor and rounded up. What has no limit is limited by the node.
func resourceOf(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, room corev1.ResourceList) string {
	c = cmp.Or(containerNamed(pod, ref.ContainerName), c)
	kind, name, _ := strings.Cut(ref.Resource, ".")
	quantity := c.Resources.Requests[corev1.ResourceName(name)]
	if kind == "limits" {
		limit, limited := c.Resources.Limits[corev1.ResourceName(name)]
		if quantity = limit; !limited {
			quantity = room[corev1.ResourceName(name)]
		}
	}
	amount, unit := quantity.Value(), max(1, ref.Divisor.Value())
	if ref.Divisor.MilliValue() == 1 { // of CPU: thousandths
		amount = quantity.MilliValue()
	}
	return strconv.FormatInt((amount+unit-1)/unit, 10)
}

// fieldOf returns what a fieldRef may ask for.
func fieldOf(pod *corev1.Pod, path, podIP, hostIP string) (string, error) {
	fields := map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "metadata.uid": string(pod.UID),
		"spec.nodeName": pod.Spec.NodeName, "spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.podIP": podIP, "status.podIPs": podIP, "status.hostIP": hostIP, "status.hostIPs": hostIP,
	}
	if value, ok := fields[path]; ok {
		return value, nil
	}
	for prefix, set := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix); ok && strings.HasSuffix(key, "']") {
			return set[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("fieldRef: %q cannot be referred to", path)
}

var reference = regexp.MustCompile(`\$\$|\$\(([^)]*)\)`)

// expand replaces $(NAME) where the name is known, and $$ by a single one.
func expand(text string, known map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, ok := known[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}

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
