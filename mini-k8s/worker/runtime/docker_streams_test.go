package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDockerExecutesCommands(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	sandbox := mustStartSandbox(t, r, pod)
	id := mustStart(t, r, sandbox, pod, "web", 0)
	for _, row := range []struct {
		command        string
		stdin          string
		tty            bool
		stdout, stderr string
		code           int
	}{
		{"/hello log 1", "", false, "line 1\n", "error line 1\n", 0},
		{"/hello log 1", "", true, "line 1\r\nerror line 1\r\n", "", 0},
		{"/hello exit 7", "", false, "", "", 7},
		{"/hello cat", "hi", false, "hi", "2 bytes\n", 0},
	} {
		t.Run(row.command, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			streams := Streams{Stdout: &stdout, TTY: row.tty}
			if !row.tty {
				streams.Stderr = &stderr
			}
			if row.stdin != "" {
				streams.Stdin = io.NopCloser(strings.NewReader(row.stdin))
			}
			code, err := r.Exec(t.Context(), id, strings.Fields(row.command), streams)
			if err != nil || code != row.code || stdout.String() != row.stdout || stderr.String() != row.stderr {
				t.Errorf("code %d (%v), writes %q and %q", code, err, &stdout, &stderr)
			}
		})
	}
	if _, err := r.Exec(t.Context(), "none", []string{"/hello"}, Streams{}); err == nil || !strings.Contains(err.Error(), `execute ["/hello"] in container none`) {
		t.Errorf("in a container that does not exist: %v", err)
	}
	if _, err := r.Dial(t.Context(), sandbox, 81); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("at a port where nobody listens: %v", err)
	}
}

func TestDockerLetsAClientGoWhoseContextEnds(t *testing.T) {
	r := newDocker(t, dockerOrSkip(t))
	pod := newPod(t, r)
	id := mustStart(t, r, mustStartSandbox(t, r, pod), pod, "web", 0)
	for name, talk := range map[string]func(context.Context, Streams) error{
		"exec": func(ctx context.Context, streams Streams) error {
			_, err := r.Exec(ctx, id, []string{"/hello", "cat"}, streams)
			return err
		},
		"attach": func(ctx context.Context, streams Streams) error { return r.Attach(ctx, id, streams) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			stdin, other := net.Pipe() // whose other side says nothing
			defer other.Close()
			if err := talk(ctx, Streams{Stdin: stdin, Stdout: io.Discard, Stderr: io.Discard}); err == nil {
				t.Error("it ended as if the program had")
			}
			if _, err := stdin.Read(nil); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("its input is still open: %v", err)
			}
		})
	}
	if c := mustContainer(t, r, pod.UID, id); c.State != Running {
		t.Errorf("the container is %+v", c)
	}
}
