package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/network"
	"workshop/mini-k8s/worker/runtime"

	docker "github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

const (
	haltTimeout   = 30 * time.Second
	removeTimeout = 2 * time.Minute
	removeAtATime = 16
)

// Wait returns when the context ends or the cluster does, which it does only when a part of it has failed.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-c.running:
		c.running <- err
		return err
	}
}

// Down stops the cluster and removes all that it made.
func (c *Cluster) Down() error {
	defer c.release()
	defer c.disconnect()
	c.halt()
	return c.progress.step("Removing cluster "+c.Name, func() (string, error) { return "nothing is left", c.remove() })
}

// halt ends all components; the containers stay.
func (c *Cluster) halt() {
	if c.stop == nil {
		return
	}
	c.stop()
	timeout, cancel := context.WithTimeout(context.Background(), haltTimeout)
	defer cancel()
	c.Wait(timeout) // why it ended is known to who called
}

// disconnect ends what is left of the connection to Docker.
func (c *Cluster) disconnect() {
	if c.docker != nil {
		c.docker.Close()
	}
}

// remove takes away what the cluster has made on this machine.
func (c *Cluster) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	var err error
	if c.docker != nil {
		err = removeDocker(ctx, c.docker, c.Name)
	}
	if err != nil {
		return err // the state tells that there is still something to remove
	}
	return removeState(c.dir)
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

// Down stops the cluster of the name, in whatever process it runs, and removes all that it made. It also cleans up
// after one that was killed.
func Down(ctx context.Context, name string, out io.Writer) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("--name %q: use up to 20 of a-z, 0-9 and -, not at the ends", name)
	}
	dir := Dir(name)
	p := &progress{out: out}
	wasRunning := isRunning(dir)
	if wasRunning {
		process, err := runner(dir)
		if err != nil {
			return err
		}
		err = p.step("Stopping and removing cluster "+name, func() (string, error) {
			if err := process.Signal(syscall.SIGTERM); err != nil {
				return "", fmt.Errorf("stop process %d (run this as the user who started it): %w", process.Pid, err)
			}
			return "nothing is left", waitUntil(ctx, removeTimeout, func() bool { return !isRunning(dir) })
		})
		if err != nil {
			return err
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if !wasRunning {
			fmt.Fprintf(out, "There is no cluster %q here.\n", name)
		}
		return nil
	}
	s, _, err := loadSettings(dir)
	if err != nil {
		return err
	}
	c := &Cluster{Options: Options{Name: name}, dir: dir, progress: p}
	if s.Runtime == Docker {
		if c.docker, err = ConnectDocker(ctx); err != nil {
			return fmt.Errorf("its containers cannot be removed: %w", err)
		}
	}
	if c.release, err = lock(dir); err != nil {
		c.disconnect()
		return err
	}
	return c.Down()
}

func waitUntil(ctx context.Context, timeout time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			return errors.New("it does not stop; kill it and call down again")
		}
		control.Sleep(ctx, 50*time.Millisecond)
	}
	return nil
}
