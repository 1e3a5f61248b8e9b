package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/network"
	"workshop/mini-k8s/worker/runtime"

	docker "github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

const removeAtATime = 16

// ConnectDocker returns a client of the Docker daemon, if there is one that answers and is new enough.
func ConnectDocker(ctx context.Context) (*docker.Client, error) {
	const way = "start it (`make docker` installs and starts one on Debian and Ubuntu), or run simulated pods with --runtime hollow"
	d, err := docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("connect to Docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ping, err := d.Ping(ctx)
	if err != nil {
		d.Close()
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			return nil, fmt.Errorf("Docker is there, but you may not use it: run this with sudo, or join the group docker (%w)", err)
		}
		return nil, fmt.Errorf("Docker does not answer: %s (%w)", way, err)
	}
	d.NegotiateAPIVersionPing(ping) // now: the client's event stream reads the version while another call may find it out
	return d, nil
}

// openDocker connects to Docker, and refuses a name that is taken there: Docker is the machine's, the state is the
// user's. c.docker stays nil then, so that nothing of the others is removed.
func (c *Cluster) openDocker(ctx context.Context) error {
	if c.Runtime == Hollow {
		return nil
	}
	d, err := ConnectDocker(ctx)
	if err != nil {
		return err
	}
	if !c.existed {
		others, err := network.Exists(ctx, d, c.Name)
		if others {
			err = fmt.Errorf("Docker has networks of a cluster %[1]q whose state is not in %[2]s: choose another --name, or remove it as the "+
				"user who started it (and with the same $MINI_K8S_HOME). If its state is lost, remove it with\n"+
				"  docker rm -f $(docker ps -aq --filter label=mini-k8s.cluster=%[1]s)\n"+
				"  docker network rm $(docker network ls -q --filter label=mini-k8s.cluster=%[1]s)", c.Name, c.dir)
		}
		if err != nil {
			d.Close()
			return err
		}
	}
	c.docker = d
	return nil
}

// removeDocker removes the containers, networks and packet rules of a cluster. A container that Docker is removing
// already, because somebody else has asked for that, still holds its network: so it looks until there is none.
func removeDocker(ctx context.Context, d *docker.Client, name string) error {
	pods := runtime.NewDocker(d, runtime.Options{Cluster: name})
	for {
		all, err := pods.Pods(ctx)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return network.Remove(ctx, d, name)
		}
		var group errgroup.Group
		group.SetLimit(removeAtATime)
		for _, pod := range all {
			group.Go(func() error { return pods.RemovePod(ctx, pod.UID) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		control.Sleep(ctx, 10*time.Millisecond)
	}
}
