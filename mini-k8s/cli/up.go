package cli

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/worker/network"

	"github.com/urfave/cli/v2"
)

// progressPipe is the descriptor through which a detached cluster tells the command that started it how it is
// getting on. It ends with detachedLine when the cluster is ready.
const (
	progressPipe = 3
	detachedEnv  = "MINI_K8S_DETACHED"
	detachedLine = "It runs in the background; remove it with: "
)

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster", Value: cluster.DefaultName}
}

func verboseFlag() cli.Flag {
	return &cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log every detail"}
}

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "Start a cluster on this machine",
		Description: `Starts a master and several workers in one process, and the demo application on them. The cluster
stays in the foreground and tells what it does; Ctrl-C removes it and all that it made. After a
kill -9, up goes on with the same pods.

Examples:
   mini-k8s up                            # three workers that run their pods in Docker
   mini-k8s up --nodes 5 --name big       # another cluster beside it
   mini-k8s up --detach                   # return when the cluster is ready; stop it with mini-k8s down
   mini-k8s up --runtime hollow --nodes 100 --demo=false   # simulated pods: no Docker needed`,
		Flags: []cli.Flag{
			nameFlag(), verboseFlag(),
			&cli.IntFlag{Name: "nodes", Usage: "how many workers", Value: 3},
			&cli.StringFlag{Name: "runtime", Usage: "what runs the pods: docker, or hollow to simulate them", Value: cluster.Docker},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the API server (default: the first free port from 127.0.0.1:6443)"},
			&cli.StringFlag{Name: "cluster-cidr", Usage: "`RANGE` of the pods' addresses (default: the first free one from 10.244.0.0/16)"},
			&cli.BoolFlag{Name: "demo", Usage: "deploy the demo application", Value: true},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the cluster is ready; it runs on in the background"},
		},
		Action: up,
	}
}

func up(cCtx *cli.Context) error {
	detached := os.Getenv(detachedEnv) != ""
	if cCtx.Bool("detach") && !detached {
		return detach(cCtx)
	}
	ctx, terminal, name := cCtx.Context, cCtx.App.Writer, cCtx.String("name")
	progress := terminal
	if detached {
		pipe := os.NewFile(progressPipe, "progress")
		defer pipe.Close() // if not before
		progress, terminal = pipe, io.Discard
	}
	if err := os.MkdirAll(cluster.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make the directory for the state: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(cluster.Dir(name), "mini-k8s.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	logTo(file, cCtx.Bool("verbose"))
	fmt.Fprintf(progress, "Starting cluster %s\n", name)
	c, err := cluster.Up(ctx, cluster.Options{Name: name, Nodes: cCtx.Int("nodes"), Runtime: cCtx.String("runtime"),
		Listen: cCtx.String("listen"), ClusterCIDR: cCtx.String("cluster-cidr"), Demo: cCtx.Bool("demo"), Out: progress})
	if info, _ := file.Stat(); err != nil && info != nil && info.Size() == 0 {
		os.Remove(file.Name())       // what was refused leaves nothing
		os.Remove(cluster.Dir(name)) // unless there is more in it
	}
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(progress, "Interrupted. What this run has made is gone.")
		return nil
	case err != nil && detached:
		fmt.Fprintln(progress, "Error:", err) // nobody sees our standard error
		return err
	case err != nil:
		return err
	}
	tryNext(progress, c)
	if detached {
		fmt.Fprintf(progress, "%s%s down --name %s\n", detachedLine, os.Args[0], c.Name)
		progress.(io.Closer).Close()
	} else {
		fmt.Fprint(terminal, "Ctrl-C removes the cluster. This is what happens in it:\n\n")
	}
	logTo(io.MultiWriter(file, terminal), cCtx.Bool("verbose"))
	failure := c.Wait(ctx)
	logTo(file, cCtx.Bool("verbose"))
	if failure != nil {
		// What has failed may work again after a restart: nothing is removed.
		return fmt.Errorf("the cluster has stopped: %w\nstart it again with `mini-k8s up --name %s`", failure, name)
	}
	fmt.Fprintln(terminal)
	return c.Down()
}

// logTo makes the log of this process the story of the cluster: the time, what was decided, and of what.
func logTo(out io.Writer, verbose bool) {
	log.SetOutput(out)
	log.SetFlags(log.Ltime)
	if verbose {
		slog.SetLogLoggerLevel(slog.LevelDebug)
	}
}

// tryNext tells what a newcomer can do now.
func tryNext(out io.Writer, c *cluster.Cluster) {
	fmt.Fprintf(out, `
The cluster is ready. Try this next, in another terminal (no kubectl? %s get pods does, too):

  export KUBECONFIG=%s
  kubectl get pods -o wide
`, os.Args[0], c.Kubeconfig())
	if c.Demo {
		fmt.Fprint(out, `  kubectl scale deployment hello --replicas 12
  kubectl delete pods --all                       # and see how it heals
`)
	}
	if c.Demo && c.Runtime == cluster.Docker {
		fmt.Fprintf(out, `  kubectl get pods --watch                        # and in a third terminal, kill a container:
  docker rm -f $(docker ps -q --filter label=mini-k8s.cluster=%s --filter label=mini-k8s.container | head -1)
`, c.Name)
	}
	if c.Runtime == cluster.Hollow {
		fmt.Fprintln(out, "\nThe pods are hollow: they say that they run, but no container does. All else is real.")
	} else if why := network.Limits(); why != "" {
		fmt.Fprintf(out, "\nNot everything works: %s.\n", why)
	}
	fmt.Fprintln(out)
}

// detach starts the same command in the background and passes on what it tells, until it is ready or has failed.
func detach(cCtx *cli.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	child := exec.Command(self, os.Args[1:]...)
	child.Env = append(os.Environ(), detachedEnv+"=1")
	child.ExtraFiles = []*os.File{writer}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this terminal
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the cluster in the background: %w", err)
	}
	writer.Close()
	// Whoever gives up waiting gives up the cluster.
	defer context.AfterFunc(cCtx.Context, func() { child.Process.Signal(os.Interrupt) })()
	told, err := io.ReadAll(io.TeeReader(reader, cCtx.App.Writer))
	if err == nil && strings.Contains(string(told), detachedLine) {
		return child.Process.Release()
	}
	child.Wait()
	return cli.Exit("", 1) // it has said why
}

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "Stop a cluster of this machine and remove all that it made",
		Description: `Removes the cluster's containers, networks, packet rules and state, and nothing else. It also cleans
up after a cluster that was killed.

Example: mini-k8s down --name big`,
		Flags: []cli.Flag{nameFlag()},
		Action: func(cCtx *cli.Context) error {
			return cluster.Down(cCtx.Context, cCtx.String("name"), cCtx.App.Writer)
		},
	}
}

func envCommand() *cli.Command {
	return &cli.Command{
		Name:        "env",
		Usage:       "Print the shell command that points kubectl to the running cluster",
		Description: `Example: eval "$(mini-k8s env)"`,
		Flags:       []cli.Flag{&cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster (default: the one that runs)"}},
		Action: func(cCtx *cli.Context) error {
			path, err := cluster.Kubeconfig(cCtx.String("name"))
			if err != nil {
				return err
			}
			if path, err = filepath.Abs(path); err != nil {
				return err
			}
			fmt.Fprintf(cCtx.App.Writer, "export KUBECONFIG=%q\n", path)
			return nil
		},
	}
}
