package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		if imageTag(c.Image) == "latest" {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			setDefault(&from.FieldRef.APIVersion, "v1")
		}
	}
	defaultProbes(c)
	if c.Resources.Limits != nil { // a limit without a request is the request as well
		requests := maps.Clone(c.Resources.Limits)
		maps.Copy(requests, c.Resources.Requests)
		c.Resources.Requests = requests
	}
}

// imageTag returns the tag of an image reference, "latest" if it has none, and "" if it names a digest.
func imageTag(image string) string {
	if strings.Contains(image, "@") {
		return ""
	}
	name := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok {
		return tag
	}
	return "latest"
}

func checkContainer(c *check, container *corev1.Container, path *field.Path) {
	c.name(path.Child("name"), container.Name, validation.IsDNS1123Label)
	image := strings.TrimSpace(container.Image)
	if c.required(path.Child("image"), image != ""); image != "" && image != container.Image {
		c.invalid(path.Child("image"), container.Image, "must not have leading or trailing whitespace")
	}
	oneOf(c, path.Child("imagePullPolicy"), container.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	names := map[string]bool{}
	for i, port := range container.Ports {
		at := path.Child("ports").Index(i)
		c.nameIfSet(at.Child("name"), port.Name, validation.IsValidPortName)
		if port.Name != "" {
			c.unique(at.Child("name"), port.Name, names)
		}
		c.port(at.Child("containerPort"), port.ContainerPort)
		if port.HostPort != 0 {
			c.port(at.Child("hostPort"), port.HostPort)
		}
		if port.HostIP != "" {
			c.add(validation.IsValidIP(at.Child("hostIP"), port.HostIP)...)
		}
		oneOf(c, at.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
	checkEnv(c, container, path)
	checkRights(c, container.SecurityContext, path.Child("securityContext"))
	checkResources(c, container.Resources, path.Child("resources"))
}

// The most that a container may ask for, so that sums stay far from where integers end.
const (
	maxCPU      = 1 << 30 // cores
	maxResource = 1 << 50 // bytes, of memory
)

func checkResources(c *check, r corev1.ResourceRequirements, path *field.Path) {
	checkQuantities(c, r.Limits, path.Child("limits"))
	checkQuantities(c, r.Requests, path.Child("requests"))
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			c.invalid(path.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		}
	}
}

func checkQuantities(c *check, list corev1.ResourceList, path *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at, quantity, most := path.Key(string(name)), list[name], int64(maxResource)
		c.invalid(at, name, validation.IsQualifiedName(string(name))...)
		switch name {
		case corev1.ResourceCPU:
			most = maxCPU
		case corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods:
		default:
			if !strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				c.invalid(at, name, "must be a standard resource type or fully qualified")
			}
		}
		if quantity.Sign() < 0 {
			c.invalid(at, quantity.String(), "must be greater than or equal to 0")
		}
		if quantity.CmpInt64(most) > 0 {
			c.invalid(at, quantity.String(), fmt.Sprint("must be less than or equal to ", most))
		}
	}
}
