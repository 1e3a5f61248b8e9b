package runtime

// What is there. One list request tells of all containers of a node, with their labels, state and address; times,
// exit codes and errors take a request per container, made once for each state that it goes through.

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/apimachinery/pkg/types"
)

// Pods also forgets the details of the containers that are no more.
func (d *Docker) Pods(ctx context.Context) ([]Pod, error) {
	found, err := d.list(ctx, "")
	if err != nil {
		return nil, err
	}
	d.forgetAllBut(found)
	return d.group(ctx, found)
}

func (d *Docker) Pod(ctx context.Context, uid types.UID) (Pod, error) {
	found, err := d.list(ctx, uid)
	if err != nil {
		return Pod{}, err
	}
	pods, err := d.group(ctx, found)
	if err != nil || len(pods) == 0 {
		return Pod{UID: uid}, err
	}
	return pods[0], nil
}

// filter selects what is this node's: of all pods, or of one if the UID is not empty.
func (d *Docker) filter(uid types.UID) filters.Args {
	args := filters.NewArgs(filters.Arg("label", LabelCluster+"="+d.options.Cluster), filters.Arg("label", LabelUID))
	if d.options.Node != "" {
		args.Add("label", LabelNode+"="+d.options.Node)
	}
	if uid != "" {
		args.Add("label", LabelUID+"="+string(uid))
	}
	return args
}

func (d *Docker) list(ctx context.Context, uid types.UID) ([]container.Summary, error) {
	found, err := d.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: d.filter(uid)})
	if err != nil {
		return nil, fmt.Errorf("list containers of node %s: %w", d.options.Node, err)
	}
	return found, nil
}

// group puts containers together to pods.
func (d *Docker) group(ctx context.Context, found []container.Summary) ([]Pod, error) {
	var pods []Pod
	index := map[types.UID]int{}
	for _, summary := range found {
		known, err := d.details(ctx, summary)
		if cerrdefs.IsNotFound(err) {
			continue // removed since the list
		}
		if err != nil {
			return nil, err
		}
		uid := types.UID(summary.Labels[LabelUID])
		i, ok := index[uid]
		if !ok {
			i = len(pods)
			index[uid] = i
			pods = append(pods, Pod{UID: uid, Namespace: summary.Labels[LabelNamespace], Name: summary.Labels[LabelPod]})
		}
		if summary.Labels[LabelKind] == kindSandbox {
			pods[i].Sandbox = sandboxOf(summary, known)
		} else {
			pods[i].Containers = append(pods[i].Containers, containerOf(summary, known))
		}
	}
	for _, pod := range pods {
		slices.SortStableFunc(pod.Containers, func(a, b Container) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Attempt, a.Attempt))
		})
	}
	return pods, nil
}

func sandboxOf(summary container.Summary, known details) *Sandbox {
	sandbox := &Sandbox{ID: summary.ID, Running: known.state == container.StateRunning, StartedAt: known.startedAt}
	if summary.NetworkSettings != nil {
		for _, endpoint := range summary.NetworkSettings.Networks {
			sandbox.IP = endpoint.IPAddress
		}
	}
	return sandbox
}

func containerOf(summary container.Summary, known details) Container {
	attempt, _ := strconv.Atoi(summary.Labels[LabelAttempt]) // written by containerConfig
	c := Container{ID: summary.ID, Name: summary.Labels[LabelContainer], Image: known.image, ImageID: summary.ImageID,
		Attempt: attempt, CreatedAt: known.createdAt, StartedAt: known.startedAt}
	switch state := known.state; {
	case state == container.StateCreated && known.message != "": // its start failed
		c.State, c.ExitCode, c.Message, c.FinishedAt = Exited, 128, known.message, known.createdAt
	case state == container.StateCreated:
		c.State = Created
	case state == container.StateExited, state == container.StateDead, state == container.StateRemoving:
		c.State, c.ExitCode, c.OOMKilled, c.Message, c.FinishedAt = Exited, known.exitCode, known.oomKilled, known.message, known.finishedAt
	default: // running or paused
		c.State = Running
	}
	return c
}

// details are what only an inspection tells. They hold until the list tells of another state, or an event of
// anything: Docker announces a death before its list knows of it, while an inspection waits until it is settled.
type details struct {
	state                            string
	image                            string
	createdAt, startedAt, finishedAt time.Time
	exitCode                         int
	oomKilled                        bool
	message                          string
}

func (d *Docker) details(ctx context.Context, summary container.Summary) (details, error) {
	d.mu.Lock()
	known, ok := d.known[summary.ID]
	d.mu.Unlock()
	if ok && known.state == summary.State {
		return known, nil
	}
	inspected, err := d.docker.ContainerInspect(ctx, summary.ID)
	if err != nil {
		return details{}, fmt.Errorf("inspect container %.12s: %w", summary.ID, err)
	}
	state := inspected.State
	known = details{state: state.Status, image: inspected.Config.Image, createdAt: timeOf(inspected.Created),
		startedAt: timeOf(state.StartedAt), finishedAt: timeOf(state.FinishedAt),
		exitCode: state.ExitCode, oomKilled: state.OOMKilled, message: state.Error}
	// A created container may get an error and stay created, and OOMKilled may be set a moment after the state: only
	// the settled states are kept.
	if state.Status == container.StateRunning || state.Status == container.StateExited {
		d.mu.Lock()
		d.known[summary.ID] = known
		d.mu.Unlock()
	}
	return known, nil
}

func (d *Docker) forget(containerID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, containerID)
}

func (d *Docker) forgetAllBut(found []container.Summary) {
	present := map[string]bool{}
	for _, summary := range found {
		present[summary.ID] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.known {
		if !present[id] {
			delete(d.known, id)
		}
	}
}

// timeOf reads Docker's times; its "0001-01-01T00:00:00Z" is Go's zero time.
func timeOf(s string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, s) // what does not parse is unknown, which zero says
	return t
}
