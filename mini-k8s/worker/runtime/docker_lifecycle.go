package runtime

// The life of a pod in Docker: the pause container comes first and goes last.

import (
	"context"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// createTimeout is how long Docker has to make a container.
const createTimeout = time.Minute

// create makes a container. Docker goes on with a request whose caller has hung up, so a context that ends does not
// hang up here: once this has returned, no container comes into being that nobody knows of.
func (d *Docker) create(ctx context.Context, config *container.Config, host *container.HostConfig, name string) (id string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	created, err := d.docker.ContainerCreate(ctx, config, host, nil, nil, name)
	return created.ID, err
}

// StartSandbox leaves nothing behind when it fails. The address is empty for a pod on the host's network.
func (d *Docker) StartSandbox(ctx context.Context, pod *corev1.Pod) (Sandbox, error) {
	config, host := d.sandboxConfig(pod)
	id, err := d.create(ctx, config, host, containerName(pod, "POD", 0))
	if err != nil {
		return Sandbox{}, fmt.Errorf("create sandbox of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	sandbox, err := d.startSandbox(ctx, id)
	if err != nil {
		// The context may be what failed, so the clean-up has its own.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: %w", pod.Namespace, pod.Name,
			errors.Join(err, d.RemoveContainer(cleanup, id)))
	}
	return sandbox, nil
}

func (d *Docker) startSandbox(ctx context.Context, id string) (Sandbox, error) {
	if err := d.docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return Sandbox{}, err
	}
	inspected, err := d.docker.ContainerInspect(ctx, id)
	if err != nil {
		return Sandbox{}, err
	}
	sandbox := Sandbox{ID: id, Running: inspected.State.Running, StartedAt: timeOf(inspected.State.StartedAt)}
	for _, endpoint := range inspected.NetworkSettings.Networks {
		sandbox.IP = endpoint.IPAddress
	}
	return sandbox, nil
}

// StartContainer returns an ID together with an error when the container was made but could not start, because its
// program does not exist, for instance. That container stays: Pod shows it as Exited with code 128 and Docker's
// message, so that its failure has a place in the pod's status and counts as an attempt.
func (d *Docker) StartContainer(ctx context.Context, sandbox Sandbox, pod *corev1.Pod, spec ContainerSpec) (string, error) {
	config, host := d.containerConfig(sandbox, pod, spec)
	id, err := d.create(ctx, config, host, containerName(pod, spec.Name, spec.Attempt))
	if err != nil {
		return "", fmt.Errorf("create container %s of pod %s/%s: %w", spec.Name, pod.Namespace, pod.Name, err)
	}
	if err := d.docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return id, fmt.Errorf("start container %s of pod %s/%s: %w", spec.Name, pod.Namespace, pod.Name, err)
	}
	return id, nil
}

// Signal takes it for done when the container is already dead or gone.
func (d *Docker) Signal(ctx context.Context, containerID, signal string) error {
	err := d.docker.ContainerKill(ctx, containerID, signal)
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("send %s to container %.12s: %w", signal, containerID, err)
}

// RemoveContainer takes it for done when somebody else removes the container at the same time.
func (d *Docker) RemoveContainer(ctx context.Context, containerID string) error {
	err := d.docker.ContainerRemove(ctx, containerID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		d.forget(containerID)
		return nil
	}
	return fmt.Errorf("remove container %.12s: %w", containerID, err)
}

// RemovePod keeps the sandbox while a container remains, so that what is left still is a pod.
func (d *Docker) RemovePod(ctx context.Context, uid types.UID) error {
	found, err := d.list(ctx, uid)
	if err != nil {
		return err
	}
	for _, kind := range []string{kindContainer, kindSandbox} {
		var failures []error
		for _, c := range found {
			if c.Labels[LabelKind] == kind {
				failures = append(failures, d.RemoveContainer(ctx, c.ID))
			}
		}
		if err := errors.Join(failures...); err != nil {
			return fmt.Errorf("remove pod %s: %w", uid, err)
		}
	}
	return nil
}
