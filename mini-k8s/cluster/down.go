package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	return c.tell("Removing cluster "+c.Name, func() (string, error) { return "nothing is left", c.remove(c.dir) })
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

// remove takes away what the cluster has made on this machine, the directories last.
func (c *Cluster) remove(dirs ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if c.docker != nil {
		if err := removeDocker(ctx, c.docker, c.Name); err != nil {
			return err // the state tells that there is still something to remove
		}
	}
	for _, dir := range dirs {
		if err := volumes.Remove(dir); err != nil {
			return err
		}
	}
	return nil
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
	dirs, locks, inDocker, err := workersOf(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.dir); errors.Is(err, fs.ErrNotExist) && len(dirs) == 0 {
		fmt.Fprintf(out, "There is no cluster %q here.\n", name)
		return nil
	}
	if err := c.tell("Stopping cluster "+name, func() (string, error) { return "", stop(ctx, append(locks, c.dir)) }); err != nil {
		return err
	}
	if c.release, err = lock(c.dir); err != nil {
		return err
	}
	defer c.close()
	if c.settings, _, err = loadSettings(c.dir); err == nil {
		dirs = append(dirs, c.dir)
	} else if len(dirs) == 0 {
		return err // what is there is a master's, or cannot be read
	}
	if inDocker || c.settings.Runtime == Docker {
		if c.docker, err = ConnectDocker(ctx); err != nil {
			return fmt.Errorf("its containers cannot be removed: %w", err)
		}
	}
	return c.tell("Removing cluster "+name, func() (string, error) { return "nothing is left", c.remove(dirs...) })
}

// stop ends the processes that hold the locks.
func stop(ctx context.Context, locks []string) error {
	for _, dir := range locks {
		if !isRunning(dir) {
			continue
		}
		if err := stopProcess(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// stopProcess asks the process that runs the cluster to take it down, and waits for that.
func stopProcess(ctx context.Context, dir string) error {
	text, err := os.ReadFile(dir + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has just ended
	}
	if err != nil {
		return err
	}
	process, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s.lock does not tell which process runs the cluster", dir)
	}
	if err := syscall.Kill(process, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d (run this as the user who started it): %w", process, err)
	}
	for deadline := time.Now().Add(removeTimeout); isRunning(dir); control.Sleep(ctx, 50*time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.New("it does not stop; kill it and call down again")
		}
	}
	return nil
}
