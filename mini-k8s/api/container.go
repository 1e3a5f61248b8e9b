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

func checkContainer(c *check, container *corev1.Container, at *field.Path) {
	names, places := map[string]bool{}, map[string]bool{}
	for i, port := range container.Ports {
		c.unique(at.Child("ports").Index(i).Child("name"), port.Name, names)
	}
	for i, m := range container.VolumeMounts {
		c.unique(at.Child("volumeMounts").Index(i).Child("mountPath"), m.MountPath, places)
	}
	for name, p := range map[string]*corev1.Probe{"startupProbe": container.StartupProbe, "livenessProbe": container.LivenessProbe} {
		if p != nil && p.SuccessThreshold != 1 {
			c.invalid(at.Child(name, "successThreshold"), p.SuccessThreshold, "must be 1")
		}
	}
	if p := container.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		c.invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
}

// checkInitContainer refuses what makes sense only for one that goes on.
func checkInitContainer(c *check, container *corev1.Container, path *field.Path) {
	if container.RestartPolicy != nil {
		oneOf(c, path.Child("restartPolicy"), *container.RestartPolicy, corev1.ContainerRestartPolicyAlways)
		return
	}
	for name, set := range map[string]bool{"lifecycle": container.Lifecycle != nil, "startupProbe": container.StartupProbe != nil,
		"livenessProbe": container.LivenessProbe != nil, "readinessProbe": container.ReadinessProbe != nil} {
		if set {
			c.add(field.Forbidden(path.Child(name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
}

// The most that a container may ask for, so that sums stay far from where integers end.
const (
	maxCPU      = 1 << 30 // cores
	maxResource = 1 << 50 // bytes, of memory
)

func checkResources(c *check, r *corev1.ResourceRequirements, at *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			c.invalid(at.Child("requests"), request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
		}
	}
}

func checkQuantities(c *check, list *corev1.ResourceList, at *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(*list)) {
		at, quantity, most := at.Key(string(name)), (*list)[name], int64(maxResource)
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
