package runtime

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// Logs mixes standard output and standard error in the order in which Docker got them, as `kubectl logs` does.
func (d *Docker) Logs(ctx context.Context, containerID string, options LogOptions, out io.Writer) error {
	inspected, err := d.docker.ContainerInspect(ctx, containerID)
	if err != nil {
		return fmt.Errorf("read the log of container %.12s: %w", containerID, err)
	}
	stream, err := d.docker.ContainerLogs(ctx, containerID, dockerLogOptions(options))
	if err != nil {
		return fmt.Errorf("read the log of container %.12s: %w", containerID, err)
	}
	defer stream.Close()

	// With a terminal there is one raw stream. Otherwise Docker puts a header before each piece that says which of
	// the two it belongs to.
	if inspected.Config.Tty {
		_, err = io.Copy(out, stream)
	} else {
		_, err = stdcopy.StdCopy(out, out, stream)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of container %.12s: %w", containerID, err)
	}
	return nil
}

func dockerLogOptions(options LogOptions) container.LogsOptions {
	out := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: options.Follow, Timestamps: options.Timestamps}
	if options.Tail != nil {
		out.Tail = strconv.FormatInt(*options.Tail, 10)
	}
	if !options.Since.IsZero() {
		out.Since = options.Since.Format(time.RFC3339Nano)
	}
	return out
}
