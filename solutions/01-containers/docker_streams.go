package runtime

// Talking to programs: to a new one in a container that runs, to the one that the container was made for, and to a port.

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"workshop/mini-k8s/control"
)

// Exec leaves it to Docker what becomes of a command whose client has left: it goes on. That there is no such command is
// told as a shell would, on the output and with code 126 or 127.
func (d *Docker) Exec(ctx context.Context, containerID string, command []string, streams Streams) (int, error) {
	code, err := d.exec(ctx, containerID, command, streams)
	if err != nil {
		err = fmt.Errorf("execute %q in container %.12s: %w", command, containerID, err)
	}
	return code, err
}

func (d *Docker) exec(ctx context.Context, containerID string, command []string, streams Streams) (int, error) {
	created, err := d.docker.ContainerExecCreate(ctx, containerID, container.ExecOptions{Cmd: command, Tty: streams.TTY,
		AttachStdin: streams.Stdin != nil, AttachStdout: streams.Stdout != nil, AttachStderr: streams.Stderr != nil})
	if err != nil {
		return 0, err
	}
	conn, err := d.docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{Tty: streams.TTY})
	if err != nil {
		return 0, err
	}
	err = talk(ctx, conn, streams.TTY, streams, func(ctx context.Context, size container.ResizeOptions) error {
		return d.docker.ContainerExecResize(ctx, created.ID, size)
	})
	// A command can close its output before it ends.
	for wait := 5 * time.Millisecond; err == nil; wait = min(2*wait, time.Second) {
		var now container.ExecInspect
		if now, err = d.docker.ContainerExecInspect(ctx, created.ID); err == nil && !now.Running {
			return now.ExitCode, nil
		}
		control.Sleep(ctx, wait)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return 0, err
}

func (d *Docker) Attach(ctx context.Context, containerID string, streams Streams) error {
	inspected, err := d.docker.ContainerInspect(ctx, containerID)
	var conn types.HijackedResponse
	if err == nil {
		conn, err = d.docker.ContainerAttach(ctx, containerID, container.AttachOptions{Stream: true,
			Stdin: streams.Stdin != nil, Stdout: streams.Stdout != nil, Stderr: streams.Stderr != nil})
	}
	if err == nil {
		err = talk(ctx, conn, inspected.Config.Tty, streams, func(ctx context.Context, size container.ResizeOptions) error {
			return d.docker.ContainerResize(ctx, containerID, size)
		})
	}
	if err != nil {
		return fmt.Errorf("attach to container %.12s: %w", containerID, err)
	}
	return nil
}

// talk copies in both directions until the program's output ends or the context does, and closes the connection.
func talk(ctx context.Context, conn types.HijackedResponse, tty bool, streams Streams, resize func(context.Context, container.ResizeOptions) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	others.Go(func() {
		<-ctx.Done()
		conn.Close()
		if streams.Stdin != nil {
			streams.Stdin.Close()
		}
	})
	others.Go(func() { follow(ctx, streams.Sizes, resize) })
	if streams.Stdin != nil {
		others.Go(func() {
			io.Copy(conn.Conn, streams.Stdin) // a program need not read it
			conn.CloseWrite()
		})
	}
	stdout, stderr := cmp.Or(streams.Stdout, io.Discard), cmp.Or(streams.Stderr, io.Discard)
	if tty {
		_, err = io.Copy(stdout, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, conn.Reader)
	}
	return err
}

// follow gives a terminal its sizes. The first may come before the program has started: Docker refuses it then.
func follow(ctx context.Context, sizes <-chan Size, resize func(context.Context, container.ResizeOptions) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, open := <-sizes:
			if !open {
				return
			}
			for try := range 10 {
				if resize(ctx, container.ResizeOptions{Width: uint(size.Width), Height: uint(size.Height)}) == nil {
					break
				}
				control.Sleep(ctx, time.Duration(try+1)*10*time.Millisecond)
			}
		}
	}
}

// Dial goes to the pod's own address, so it reaches what listens there or on all addresses, not what listens on the pod's
// loopback only. Where Docker runs in a virtual machine (Docker Desktop) it reaches no pod but those with hostNetwork.
func (d *Docker) Dial(ctx context.Context, sandbox Sandbox, port uint16) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	return dialer.DialContext(ctx, "tcp", net.JoinHostPort(cmp.Or(sandbox.IP, "127.0.0.1"), strconv.Itoa(int(port))))
}
