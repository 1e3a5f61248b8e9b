package cli

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/master"
	"workshop/mini-k8s/worker/network"

	"github.com/urfave/cli/v2"
)

const (
	// detachedEnv is set for a cluster that has been started in the background, and detachedLine is what it prints last.
	detachedEnv  = "MINI_K8S_DETACHED"
	detachedLine = "It runs in the background; remove it with: "
)

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster", Value: cluster.DefaultName, EnvVars: []string{"MINI_K8S_NAME"}}
}

func runtimeFlag() cli.Flag {
	return &cli.StringFlag{Name: "runtime", Usage: "what runs the pods: docker, or hollow to simulate them", Value: cluster.Docker}
}

func verboseFlag() cli.Flag { return yes("verbose", "v", "log every detail") }

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
			nameFlag(), runtimeFlag(), verboseFlag(),
			&cli.IntFlag{Name: "nodes", Usage: "how many workers", Value: 3},
			text("listen", "", "`ADDRESS` of the API server (default: the first free port from 127.0.0.1:6443)"),
			text("cluster-cidr", "", "`RANGE` of the pods' addresses (default: the first free one from 10.244.0.0/16)"),
			text("service-cidr", "", "`RANGE` of the services' addresses (default: "+master.DefaultServiceCIDR+")"),
			nodeGraceFlag(),
			&cli.BoolFlag{Name: "demo", Usage: "deploy the demo application", Value: true},
			yes("detach", "d", "return when the cluster is ready; it runs on in the background"),
		},
		Action: up,
	}
}

func up(cCtx *cli.Context) error {
	ctx, out, name, detached := cCtx.Context, cCtx.App.Writer, cCtx.String("name"), os.Getenv(detachedEnv) != ""
	if cCtx.Bool("detach") && !detached {
		return detach(cCtx)
	}
	if detached {
		signal.Ignore(syscall.SIGPIPE) // who has started it, and was listening, will go
	}
	var story io.Writer // what happens in the cluster goes to its log, and once it is ready also to the terminal
	fmt.Fprintf(out, "Starting cluster %s\n", name)
	c, err := cluster.Up(ctx, cluster.Options{Name: name, Nodes: cCtx.Int("nodes"), Runtime: cCtx.String("runtime"),
		Listen: cCtx.String("listen"), ClusterCIDR: cCtx.String("cluster-cidr"), ServiceCIDR: cCtx.String("service-cidr"),
		NodeGrace: cCtx.Duration("node-grace"), Demo: cCtx.Bool("demo"), Out: out,
		Log: func(file io.Writer) {
			story = file
			logTo(story, cCtx.Bool("verbose"))
		}})
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(out, "Interrupted. What this run has made is gone.")
		return nil
	}
	if err != nil {
		return err
	}
	tryNext(out, c)
	if detached {
		fmt.Fprintf(out, "%s%s down --name %s\n", detachedLine, os.Args[0], name)
	} else {
		fmt.Fprint(out, "Ctrl-C removes the cluster. This is what happens in it:\n\n")
		log.SetOutput(io.MultiWriter(story, out))
	}
	failure := c.Wait(ctx)
	log.SetOutput(story)
	if failure != nil {
		// What has failed may work again after a restart: nothing is removed.
		return fmt.Errorf("the cluster has stopped: %w\nstart it again with `mini-k8s up --name %s`", failure, name)
	}
	fmt.Fprintln(out)
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
	child.Stdout, child.Stderr = writer, writer
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this terminal
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the cluster in the background: %w", err)
	}
	writer.Close()
	// Whoever gives up waiting gives up the cluster.
	defer context.AfterFunc(cCtx.Context, func() { child.Process.Signal(os.Interrupt) })()
	told, buffer := "", make([]byte, 4096)
	for !strings.Contains(told, detachedLine) || !strings.HasSuffix(told, "\n") {
		n, err := reader.Read(buffer)
		told += string(buffer[:n])
		cCtx.App.Writer.Write(buffer[:n])
		if err != nil { // it has ended, and said why
			child.Wait()
			return cli.Exit("", 1)
		}
	}
	return child.Process.Release()
}

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "Stop a cluster of this machine and remove all that it made",
		Description: `Removes the cluster's containers, networks, packet rules, routes and state, and nothing else. It also cleans
up after a cluster that was killed, and after a worker that has joined the cluster from this machine.

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
		Flags:       []cli.Flag{text("name", "", "`NAME` of the cluster (default: the one that runs)")},
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
