package runtime

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"workshop/mini-k8s/control"
)

// maxExecOutput is how much is kept of what a program writes that was run with Exec.
const maxExecOutput = 10 << 10

// Exec runs a program in a container that runs. Docker has no way to end one: when the context ends first the program
// goes on, and nobody listens to it.
func (d *Docker) Exec(ctx context.Context, containerID string, command []string) (exitCode int, output []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("run %q in container %.12s: %w", command, containerID, err)
		}
	}()
	created, err := d.docker.ContainerExecCreate(ctx, containerID, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, nil, err
	}
	attached, err := d.docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, nil, err
	}
	defer context.AfterFunc(ctx, attached.Close)() // ends the copying
	defer attached.Close()
	var out firstBytes
	if _, err = stdcopy.StdCopy(&out, &out, attached.Reader); ctx.Err() != nil {
		return 0, out.Bytes(), ctx.Err()
	} else if err != nil {
		return 0, out.Bytes(), err
	}
	for { // a program may close its output long before it ends
		inspected, err := d.docker.ContainerExecInspect(ctx, created.ID)
		if err != nil || !inspected.Running {
			return inspected.ExitCode, out.Bytes(), err
		}
		control.Sleep(ctx, 10*time.Millisecond)
	}
}

// firstBytes keeps the first maxExecOutput of what is written to it.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(data []byte) (int, error) {
	f.Buffer.Write(data[:min(len(data), maxExecOutput-f.Len())])
	return len(data), nil
}
