package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	corev1 "k8s.io/api/core/v1"
)

// Docker is the runtime of a node whose containers Docker runs. It keeps nothing in memory.
type Docker struct {
	docker  *client.Client
	options Options
}

var _ Runtime = (*Docker)(nil)

// Options of a Docker runtime.
type Options struct {
	// Cluster and Node stand in the labels of all that this runtime makes; it sees nothing else. With no Node it
	// sees the pods of all nodes of the cluster, and cannot start any: that is what taking a cluster down needs.
	Cluster, Node string
	// Network is the Docker network of the pods (package network makes it).
	Network string
}

// NewDocker returns the runtime of one node. The client stays the caller's to close, after the last call.
func NewDocker(docker *client.Client, options Options) *Docker {
	return &Docker{docker: docker, options: options}
}

// Machine tells of the machine that Docker runs on: a virtual one, where the host has no Linux.
func (d *Docker) Machine(ctx context.Context) (Machine, error) {
	info, err := d.docker.Info(ctx)
	if err != nil {
		return Machine{}, fmt.Errorf("ask Docker about its machine: %w", err)
	}
	return Machine{Runtime: "docker://" + info.ServerVersion, OS: info.OperatingSystem, Kernel: info.KernelVersion,
		CPUs: info.NCPU, MemoryBytes: info.MemTotal}, nil
}

// EnsureImage needs no network for an image that is present, unless the policy is Always.
func (d *Docker) EnsureImage(ctx context.Context, name string, policy corev1.PullPolicy) error {
	_, err := d.docker.ImageInspect(ctx, name)
	present := err == nil
	switch {
	case err != nil && !cerrdefs.IsNotFound(err):
		return fmt.Errorf("look for image %s: %w", name, err)
	case present && policy != corev1.PullAlways:
		return nil
	case policy == corev1.PullNever:
		return fmt.Errorf("image %s: %w", name, ErrImageNotPresent)
	}
	if err := d.pull(ctx, name); err != nil && present {
		return fmt.Errorf("pull image %s (it is present; the policy IfNotPresent would use it): %w", name, err)
	} else if err != nil {
		return fmt.Errorf("pull image %s: %w", name, err)
	}
	return nil
}

// pull waits for the end of the pull. Docker answers 200 OK first and tells of a failure at the end of its report.
func (d *Docker) pull(ctx context.Context, name string) error {
	report, err := d.docker.ImagePull(ctx, name, image.PullOptions{})
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
	}
	defer report.Close()
	return jsonmessage.DisplayJSONMessagesStream(report, io.Discard, 0, false, nil)
}
