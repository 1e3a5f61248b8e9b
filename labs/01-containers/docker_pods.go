package runtime

// What is there. One request lists a node's containers with their labels, one more for each tells the rest, and a third
// what it uses.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/apimachinery/pkg/types"

	"workshop/labs/lab"
)

func (d *Docker) Pods(ctx context.Context) ([]Pod, error) { return d.pods(ctx, "") }

func (d *Docker) Pod(ctx context.Context, uid types.UID) (Pod, error) {
	pods, err := d.pods(ctx, uid)
	if err != nil || len(pods) == 0 {
		return Pod{UID: uid}, err
	}
	return pods[0], nil
}

// pods returns all pods of the node, or the one with the UID if that is not empty.
//
//  1. List the containers, running or not: d.list. Their labels tell which pod each belongs to.
//  2. Inspect each. (The list is not enough: it has no times and exit codes, and Docker announces a death before its
//     list knows of it, while an inspection waits until it is settled.) One that is not found any more is left out; any
//     other failure is returned, for a pod of which only a part is seen would be taken for broken.
//  3. Put together what has the same LabelUID: a Pod with UID, Namespace and Name by the labels, its Sandbox (sandboxOf)
//     the container whose LabelKind is kindSandbox, the others its Containers (containerOf), newest first by CreatedAt.
//
//lab:01 3
func (d *Docker) pods(ctx context.Context, uid types.UID) ([]Pod, error) {
	return nil, lab.TODO("01", "Docker.pods")
}

func (d *Docker) list(ctx context.Context, uid types.UID) ([]container.Summary, error) {
	found, err := d.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: d.filter(uid)})
	if err != nil {
		return nil, fmt.Errorf("list containers of node %s: %w", d.options.Node, err)
	}
	return found, nil
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

// sandboxOf describes a pause container. One that does not run has no address, and one whose network was taken away counts
// as dead: its pod cannot get another.
func sandboxOf(in container.InspectResponse) Sandbox {
	sandbox := Sandbox{ID: in.ID, Running: in.State.Running, StartedAt: timeOf(in.State.StartedAt)}
	if sandbox.Running {
		for _, endpoint := range in.NetworkSettings.Networks {
			sandbox.IP = endpoint.IPAddress
		}
		sandbox.Running = sandbox.IP != "" || in.HostConfig.NetworkMode.IsHost()
	}
	return sandbox
}

// containerOf describes a container. In Docker one whose start failed stays "created", with the error.
func containerOf(in container.InspectResponse, labels map[string]string) Container {
	attempt, _ := strconv.Atoi(labels[LabelAttempt]) // written by containerConfig
	c := Container{ID: in.ID, Name: labels[LabelContainer], Image: in.Config.Image, ImageID: in.Image, Attempt: attempt,
		CreatedAt: timeOf(in.Created), StartedAt: timeOf(in.State.StartedAt)}
	switch created := in.State.Status == container.StateCreated; {
	case in.State.Running:
		c.State = Running
	case created && in.State.Error == "":
		c.State = Created
	case created:
		c.State, c.ExitCode, c.Message, c.FinishedAt = Exited, 128, in.State.Error, c.CreatedAt
	default:
		c.State, c.ExitCode, c.Message, c.FinishedAt = Exited, in.State.ExitCode, in.State.Error, timeOf(in.State.FinishedAt)
		c.OOMKilled = in.State.OOMKilled
	}
	return c
}

// timeOf reads Docker's times; its "0001-01-01T00:00:00Z" is Go's zero time.
func timeOf(s string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, s) // what does not parse is unknown, which zero says
	return t
}

// Usage asks for one sample: two, which Docker offers, take a second.
func (d *Docker) Usage(ctx context.Context, containerID string) (Usage, error) {
	var stats container.StatsResponse
	answer, err := d.docker.ContainerStatsOneShot(ctx, containerID)
	if err == nil {
		defer answer.Body.Close()
		err = json.NewDecoder(answer.Body).Decode(&stats)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("measure container %.12s: %w", containerID, err)
	}
	memory, parts := stats.MemoryStats.Usage, stats.MemoryStats.Stats
	// The kernel gives up the pages of files that nobody has read lately; their name depends on its version of control groups.
	memory -= min(memory, cmp.Or(parts["total_inactive_file"], parts["inactive_file"]))
	return Usage{At: stats.Read, CPU: time.Duration(stats.CPUStats.CPUUsage.TotalUsage), MemoryBytes: int64(memory)}, nil
}
