package runtime

// The life of a pod in Docker: the pause container comes first and goes last.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// dockerTimeout is how long Docker has for what must not be interrupted.
const dockerTimeout = time.Minute

// StartSandbox creates and starts the pause container of a pod.
//
//  1. Create it as sandboxConfig says and start it.
//  2. Inspect it for its address, which is empty on the host's network.
//  3. If any of that fails, remove it again, even when it is the context that ended: nothing must be left behind.
func (d *Docker) StartSandbox(ctx context.Context, pod *corev1.Pod) (Sandbox, error) {
	config, host := d.sandboxConfig(pod)
	id, err := d.create(ctx, config, host, containerName(pod, "POD", 0))
	if err != nil {
		return Sandbox{}, fmt.Errorf("create sandbox of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	var started container.InspectResponse
	if err = d.docker.ContainerStart(ctx, id, container.StartOptions{}); err == nil {
		started, err = d.docker.ContainerInspect(ctx, id)
	}
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerTimeout)
		defer cancel()
		return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: %w", pod.Namespace, pod.Name,
			errors.Join(err, d.RemoveContainer(cleanup, id)))
	}
	return sandboxOf(started), nil
}

// create makes a container. Docker goes on with a request whose caller has hung up, so a context that ends does not
// hang up here: once this has returned, no container comes into being that nobody knows of.
func (d *Docker) create(ctx context.Context, config *container.Config, host *container.HostConfig, name string) (id string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerTimeout)
	defer cancel()
	created, err := d.docker.ContainerCreate(ctx, config, host, nil, nil, name)
	return created.ID, err
}

// StartContainer creates a container as containerConfig says and starts it.
//
// It returns an ID together with an error when the container was made but could not start, because its program does
// not exist, for instance. That container stays: Pod shows it as Exited with code 128 and Docker's message, so that
// its failure has a place in the pod's status and counts as an attempt.
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

// Signal takes it for done when the container is already dead (Docker: a conflict) or gone.
func (d *Docker) Signal(ctx context.Context, containerID, signal string) error {
	err := d.docker.ContainerKill(ctx, containerID, signal)
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("send %s to container %.12s: %w", signal, containerID, err)
}

// RemoveContainer removes a container even if it runs. It takes it for done when somebody else removes the container
// at the same time (Docker: a conflict) or has done so.
func (d *Docker) RemoveContainer(ctx context.Context, containerID string) error {
	err := d.docker.ContainerRemove(ctx, containerID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("remove container %.12s: %w", containerID, err)
}

// RemovePod removes what carries the pod's UID.
//
//  1. Remove all containers (label LabelKind: kindContainer), going on after a failure.
//  2. If one remains, keep the sandbox, so that what is left still is a pod; return the failures.
//  3. Remove the sandbox (kindSandbox).
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

// Logs mixes standard output and standard error in the order in which Docker got them, as `kubectl logs` does.
//
//  1. With a terminal (Config.Tty) Docker sends one raw stream.
//  2. Otherwise it puts a header before each piece that says which of the two it belongs to; stdcopy takes it off.
//  3. That the context ended is no failure: the reader has seen enough.
func (d *Docker) Logs(ctx context.Context, containerID string, options LogOptions, out io.Writer) error {
	wanted := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: options.Follow, Timestamps: options.Timestamps}
	if options.Tail != nil {
		wanted.Tail = strconv.FormatInt(*options.Tail, 10)
	}
	if !options.Since.IsZero() {
		wanted.Since = options.Since.Format(time.RFC3339Nano)
	}
	err := d.copyLogs(ctx, containerID, wanted, out)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of container %.12s: %w", containerID, err)
	}
	return nil
}

func (d *Docker) copyLogs(ctx context.Context, containerID string, options container.LogsOptions, out io.Writer) error {
	inspected, err := d.docker.ContainerInspect(ctx, containerID)
	if err != nil {
		return err
	}
	stream, err := d.docker.ContainerLogs(ctx, containerID, options)
	if err != nil {
		return err
	}
	defer stream.Close()
	if inspected.Config.Tty {
		_, err = io.Copy(out, stream)
	} else {
		_, err = stdcopy.StdCopy(out, out, stream)
	}
	return err
}
