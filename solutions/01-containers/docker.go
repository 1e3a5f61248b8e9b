package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"workshop/mini-k8s/control"
)

// reconnect is how long to wait before an event stream that broke is opened again.
const reconnect = time.Second

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
	// DNS is who resolves names for pods with the policy ClusterFirst; nil for Docker's own way.
	DNS func() *DNS
}

// DNS says where a node's pods ask for names.
type DNS struct{ Server, Domain string }

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
func (d *Docker) EnsureImage(ctx context.Context, name string, policy corev1.PullPolicy) (user string, err error) {
	found, err := d.docker.ImageInspect(ctx, name)
	present := err == nil
	switch {
	case err != nil && !cerrdefs.IsNotFound(err):
		return "", fmt.Errorf("look for image %s: %w", name, err)
	case present && policy != corev1.PullAlways:
		return found.Config.User, nil
	case policy == corev1.PullNever:
		return "", fmt.Errorf("image %s: %w", name, ErrImageNotPresent)
	}
	if err = d.pull(ctx, name); err == nil {
		found, err = d.docker.ImageInspect(ctx, name)
	}
	switch {
	case err != nil && present:
		return "", fmt.Errorf("pull image %s (it is present; the policy IfNotPresent would use it): %w", name, err)
	case err != nil:
		return "", fmt.Errorf("pull image %s: %w", name, err)
	}
	return found.Config.User, nil
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

// Events opens Docker's event stream again when it breaks, which may happen at any time. What happened meanwhile is
// lost: so whenever one is opened all pods are looked at.
func (d *Docker) Events(ctx context.Context) <-chan types.UID {
	out := make(chan types.UID)
	go func() {
		defer close(out)
		for ctx.Err() == nil {
			if err := d.stream(ctx, out); ctx.Err() == nil {
				slog.Warn("lost Docker's event stream, will open it again", "node", d.options.Node, "in", reconnect, "err", err)
				control.Sleep(ctx, reconnect)
			}
		}
	}()
	return out
}

// stream sends every pod and then passes events on until the stream breaks.
func (d *Docker) stream(ctx context.Context, out chan<- types.UID) error {
	ctx, cancel := context.WithCancel(ctx) // ends the client's reader when we return
	defer cancel()
	send := func(labels map[string]string) {
		select {
		case out <- types.UID(labels[LabelUID]):
		case <-ctx.Done():
		}
	}
	filter := d.filter("")
	filter.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionOOM} {
		filter.Add("event", string(action))
	}
	// Docker answers the request a moment before it listens; "since" has it repeat what it missed in that moment.
	since := strconv.FormatInt(time.Now().Unix(), 10)
	messages, errs := d.docker.Events(ctx, events.ListOptions{Filters: filter, Since: since})
	found, err := d.list(ctx, "") // after the stream was opened: what changes later is in the stream
	if err != nil {
		return err
	}
	for _, c := range found {
		send(c.Labels)
	}
	for {
		select {
		case m := <-messages:
			send(m.Actor.Attributes)
		case err := <-errs:
			return err
		}
	}
}
