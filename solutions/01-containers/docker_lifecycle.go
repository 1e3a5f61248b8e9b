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
//  1. Create it with d.create, as sandboxConfig says, under the name containerName(pod, "POD", 0).
//  2. Start it, and inspect it: only a container that runs has an address. sandboxOf turns that into a Sandbox.
//  3. If anything fails after it was created, remove it again, even when it is the context that ended: nothing must be
//     left behind, for the next try makes another one. A removal that fails as well is told together with that.
//
// An error says what was tried and of which pod, namespace/name, and wraps its cause.
//
//lab:01 2
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

// StartContainer creates a container and starts it.
//
//  1. Create it with d.create, as containerConfig says, under the name containerName(pod, spec.Name, spec.Attempt). If
//     that fails there is no container, and no ID.
//  2. Start it. If that fails, because its program does not exist, for instance, return its ID together with the error.
//     The container stays: Pod shows it as Exited with code 128 and Docker's message, so that its failure has a place in
//     the pod's status and counts as an attempt.
//
// An error says what was tried, of which container and which pod, and wraps its cause.
//
//lab:01 2
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

// Signal sends a signal to a container's program and does not wait for its effect. It takes it for done when the container
// is already dead (Docker: a conflict) or gone (not found): what the signal was for has come about. Any other error is
// returned, with what was tried.
//
//lab:01 4
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
//  1. List it: d.list(ctx, uid).
//  2. Remove all containers (label LabelKind: kindContainer), going on after a failure.
//  3. If one could not be removed, keep the sandbox, so that what is left still is a pod; return the failures, joined.
//  4. Remove the sandbox (kindSandbox).
//
// If there is nothing, all is well.
//
//lab:01 4
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

// Logs mixes standard output and standard error in the order in which Docker got them, as `kubectl logs` does. That the
// context ended is no failure: the reader has seen enough.
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

// copyLogs copies what Docker has of a container's output, as the options say, until the stream ends.
//
//  1. Inspect the container, to see whether it has a terminal (Config.Tty).
//  2. Open the stream with the options as they are. Whoever opens it closes it, on every way out: else a connection to
//     Docker stays open for each log that was read.
//  3. With a terminal the stream is the output itself. Without one Docker puts a header of eight bytes before each piece
//     that says whether it is standard output or standard error, and how long it is; stdcopy.StdCopy takes them off.
//     Both go to out.
//
//lab:01 5
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
