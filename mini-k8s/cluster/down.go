package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/volumes"
)

const (
	haltTimeout   = 30 * time.Second
	removeTimeout = 2 * time.Minute
)

// Wait returns when the context ends or the cluster does, which it does only when a part of it has failed.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.ended:
		return c.failure
	}
}

// Down stops the cluster and removes all that it made.
func (c *Cluster) Down() error {
	defer c.close()
	c.halt()
	return c.tell("Removing cluster "+c.Name, func() (string, error) { return "nothing is left", c.remove() })
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

// remove takes away what the cluster has made on this machine.
func (c *Cluster) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if c.docker != nil {
		if err := removeDocker(ctx, c.docker, c.Name); err != nil {
			return err // the state tells that there is still something to remove
		}
	}
	return volumes.Remove(c.dir)
}

// close gives up the connection to Docker and the name.
func (c *Cluster) close() {
	if c.docker != nil {
		c.docker.Close()
	}
	c.release()
}

// Down stops the cluster of the name, in whatever process it runs, and removes all that it made. It also cleans up
// after one that was killed, and after workers that have joined the cluster from this machine.
func Down(ctx context.Context, name string, out io.Writer) error {
	if err := checkName(name); err != nil {
		return err
	}
	c := &Cluster{Options: Options{Name: name, Out: out}, dir: Dir(name)}
	wasRunning := isRunning(c.dir)
	if wasRunning {
		err := c.tell("Stopping and removing cluster "+name, func() (string, error) { return "nothing is left", stopProcess(ctx, c.dir) })
		if err != nil {
			return err
		}
	}
	workers, inDocker, err := workersOf(name)
	state := c.dir
	if err == nil && len(workers) > 0 {
		state = filepath.Join(c.dir, "cluster.json") // without it the directory is a master's
		err = c.tell("Removing the workers of "+name, func() (string, error) { return "nothing is left", c.removeWorkers(ctx, workers, inDocker) })
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		if !wasRunning && len(workers) == 0 {
			fmt.Fprintf(out, "There is no cluster %q here.\n", name)
		}
		return nil
	}
	if c.release, err = lock(c.dir); err != nil {
		return err
	}
	if c.settings, _, err = loadSettings(c.dir); err == nil && c.settings.Runtime == Docker {
		if c.docker, err = ConnectDocker(ctx); err != nil {
			err = fmt.Errorf("its containers cannot be removed: %w", err)
		}
	}
	if err != nil {
		c.release()
		return err
	}
	return c.Down()
}

// stopProcess asks the process that runs the cluster to take it down, and waits for that.
func stopProcess(ctx context.Context, dir string) error {
	text, err := os.ReadFile(dir + ".lock")
	if err != nil {
		return err
	}
	process, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s.lock does not tell which process runs the cluster", dir)
	}
	if err := syscall.Kill(process, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d (run this as the user who started it): %w", process, err)
	}
	for deadline := time.Now().Add(removeTimeout); isRunning(dir); control.Sleep(ctx, 50*time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.New("it does not stop; kill it and call down again")
		}
	}
	return nil
}
