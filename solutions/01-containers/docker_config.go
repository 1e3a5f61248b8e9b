package runtime

// What a pod becomes in Docker's words. All here is pure: from a pod's spec to the bodies of Docker's requests.

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"workshop/mini-k8s/images"
)

// The labels on every container. They are all that a runtime knows after a restart.
const (
	LabelCluster   = "mini-k8s.cluster"
	LabelNode      = "mini-k8s.node"
	LabelKind      = "mini-k8s.kind" // sandbox or container
	LabelNamespace = "mini-k8s.pod.namespace"
	LabelPod       = "mini-k8s.pod.name"
	LabelUID       = "mini-k8s.pod.uid"
	LabelContainer = "mini-k8s.container"
	LabelAttempt   = "mini-k8s.attempt"

	kindSandbox   = "sandbox"
	kindContainer = "container"
)

// Docker keeps so much of a container's output; Kubernetes' kubelet does by default as well.
var logRotation = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "5"}}

func (d *Docker) labels(pod *corev1.Pod, kind string) map[string]string {
	return map[string]string{
		LabelCluster:   d.options.Cluster,
		LabelNode:      d.options.Node,
		LabelKind:      kind,
		LabelNamespace: pod.Namespace,
		LabelPod:       pod.Name,
		LabelUID:       string(pod.UID),
	}
}

// containerName is for people who read `docker ps`. Docker's DNS answers container names to every container on the
// network; with the UID in it no pod meets such a name by accident.
func containerName(pod *corev1.Pod, name string, attempt int) string {
	return fmt.Sprintf("mini-k8s_%s_%s_%s_%s_%d", name, pod.Name, pod.Namespace, pod.UID, attempt)
}

// sandboxConfig describes the pause container. Hostname, ports and DNS go here: Docker refuses them on a container that
// joins the network of another. A program that does nothing but wait needs no filter for its system calls, and to load
// one takes 5 % of the time in which a pod starts.
func (d *Docker) sandboxConfig(pod *corev1.Pod) (*container.Config, *container.HostConfig) {
	config := &container.Config{Image: images.Pause.Name, Labels: d.labels(pod, kindSandbox)}
	host := &container.HostConfig{LogConfig: logRotation, NetworkMode: "host", SecurityOpt: []string{"seccomp=unconfined"}}
	if !pod.Spec.HostNetwork {
		hostname := cmp.Or(pod.Spec.Hostname, pod.Name)
		config.Hostname = hostname[:min(len(hostname), 63)] // as Linux and DNS want it
		config.ExposedPorts, host.PortBindings = hostPorts(pod)
		host.NetworkMode = container.NetworkMode(d.options.Network)
		d.resolve(pod, host)
	}
	return config, host
}

// resolve says whom a pod asks for names. Docker's own server, which the pod sees, passes on what it does not know. A name
// with fewer than five dots is looked for in the pod's namespace and in the cluster first.
func (d *Docker) resolve(pod *corev1.Pod, host *container.HostConfig) {
	if d.options.DNS == nil || pod.Spec.DNSPolicy == corev1.DNSDefault {
		return
	}
	if dns := d.options.DNS(); dns != nil {
		host.DNS, host.DNSOptions = []string{dns.Server}, []string{"ndots:5"}
		host.DNSSearch = []string{pod.Namespace + ".svc." + dns.Domain, "svc." + dns.Domain, dns.Domain}
	}
}

// hostPorts returns what is to be reached through the node's own address.
func hostPorts(pod *corev1.Pod) (nat.PortSet, nat.PortMap) {
	exposed, bindings := nat.PortSet{}, nat.PortMap{}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			protocol := strings.ToLower(string(cmp.Or(p.Protocol, corev1.ProtocolTCP)))
			port := nat.Port(fmt.Sprintf("%d/%s", p.ContainerPort, protocol))
			exposed[port] = struct{}{}
			bindings[port] = append(bindings[port], nat.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(int(p.HostPort))})
		}
	}
	return exposed, bindings
}

// containerConfig describes a container of a pod in Docker's words.
//
//  1. It runs the spec's image. The spec's command takes the place of the image's ENTRYPOINT and its arguments that of the
//     image's CMD; working directory, environment, terminal and open standard input are as the spec says.
//  2. It carries labels(pod, kindContainer) and two more: LabelContainer, its name in the pod, and LabelAttempt, as a
//     decimal number.
//  3. It has no network of its own, but joins the sandbox's: the network mode "container:" and the sandbox's ID.
//  4. Its log is kept as logRotation says, and it gets what resources(spec.Resources) returns.
//  5. No hostname and no ports: they are the sandbox's. No restart policy: whether and when a container runs again is the
//     kubelet's decision.
//  6. What the spec says of mounts and rights, furnish(config, host, spec) sets.
//
//lab:01 1
func (d *Docker) containerConfig(sandbox Sandbox, pod *corev1.Pod, spec ContainerSpec) (*container.Config, *container.HostConfig) {
	labels := d.labels(pod, kindContainer)
	labels[LabelContainer] = spec.Name
	labels[LabelAttempt] = strconv.Itoa(spec.Attempt)
	config := &container.Config{
		Image:      spec.Image,
		Entrypoint: spec.Command,
		Cmd:        spec.Args,
		WorkingDir: spec.WorkingDir,
		Env:        spec.Env,
		Tty:        spec.TTY,
		OpenStdin:  spec.Stdin,
		StdinOnce:  spec.StdinOnce,
		Labels:     labels,
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode("container:" + sandbox.ID),
		LogConfig:   logRotation,
		Resources:   resources(spec.Resources),
	}
	furnish(config, host, spec)
	return config, host
}

// furnish sets what a container gets of the machine: mounts, user, groups and rights, as the spec says.
func furnish(config *container.Config, host *container.HostConfig, spec ContainerSpec) {
	for _, m := range spec.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	config.User, host.GroupAdd = spec.User, spec.Groups
	rights := ptr.Deref(spec.Rights, corev1.SecurityContext{})
	host.Privileged, host.ReadonlyRootfs = ptr.Deref(rights.Privileged, false), ptr.Deref(rights.ReadOnlyRootFilesystem, false)
	capabilities := ptr.Deref(rights.Capabilities, corev1.Capabilities{})
	for _, name := range capabilities.Add {
		host.CapAdd = append(host.CapAdd, string(name))
	}
	for _, name := range capabilities.Drop {
		host.CapDrop = append(host.CapDrop, string(name))
	}
	if !ptr.Deref(rights.AllowPrivilegeEscalation, true) {
		host.SecurityOpt = []string{"no-new-privileges"}
	}
}

// resources turns requests and limits into those of Linux control groups: shares say who gets how much when there
// is too little, a quota how much there is at the most. The quota is not given as Docker's NanoCPUs because Docker
// refuses a limit beyond the machine's CPUs, which Kubernetes allows.
func resources(r corev1.ResourceRequirements) container.Resources {
	const period = 100_000 // microseconds
	var out container.Resources
	if cpu := r.Requests.Cpu().MilliValue(); cpu > 0 {
		out.CPUShares = max(2, cpu*1024/1000)
	}
	if cpu := r.Limits.Cpu().MilliValue(); cpu > 0 {
		out.CPUPeriod, out.CPUQuota = period, max(1000, cpu*period/1000)
	}
	if memory := r.Limits.Memory().Value(); memory > 0 {
		out.Memory, out.MemorySwap = memory, memory // the same: no swap beyond it
	}
	return out
}
