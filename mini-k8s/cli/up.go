package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/worker/network"

	"github.com/urfave/cli/v2"
)

// progressPipe is the descriptor through which a detached cluster tells the command that started it how it is
// getting on, and the line that says that it is ready.
const (
	progressPipe = 3
	detachedEnv  = "MINI_K8S_DETACHED"
	readyLine    = "\x00ready\n"
)

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster", Value: cluster.DefaultName}
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
			nameFlag(),
			&cli.IntFlag{Name: "nodes", Usage: "how many workers", Value: 3},
			&cli.StringFlag{Name: "runtime", Usage: "what runs the pods: docker, or hollow to simulate them", Value: cluster.Docker},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the API server (default: the first free port from 127.0.0.1:6443)"},
			&cli.StringFlag{Name: "cluster-cidr", Usage: "`RANGE` of the pods' addresses (default: the first free one from 10.244.0.0/16)"},
			&cli.BoolFlag{Name: "demo", Usage: "deploy the demo application", Value: true},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the cluster is ready; it runs on in the background"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log every detail"},
		},
		Action: up,
	}
}

func up(cCtx *cli.Context) error {
	if cCtx.Bool("detach") && os.Getenv(detachedEnv) == "" {
		return detach(cCtx)
	}
	out, ready := cCtx.App.Writer, func() {}
	if os.Getenv(detachedEnv) != "" {
		pipe := os.NewFile(progressPipe, "progress")
		out, ready = pipe, func() { io.WriteString(pipe, readyLine); pipe.Close() }
	}
	options := cluster.Options{Name: cCtx.String("name"), Nodes: cCtx.Int("nodes"), Runtime: cCtx.String("runtime"),
		Listen: cCtx.String("listen"), ClusterCIDR: cCtx.String("cluster-cidr"), Demo: cCtx.Bool("demo"), Out: out}
	log, err := openLog(cluster.Dir(options.Name), cCtx.Bool("verbose"))
	if err != nil {
		return err
	}
	ctx := cCtx.Context
	fmt.Fprintf(out, "Starting cluster %s\n", options.Name)
	c, err := cluster.Up(ctx, options)
	if err != nil {
		if os.Getenv(detachedEnv) != "" {
			fmt.Fprintf(out, "Error: %v\n", err) // the caller reads the pipe, not our standard error
		}
		if ctx.Err() != nil {
			fmt.Fprintln(out, "Interrupted: nothing is left.")
			return nil
		}
		return err
	}
	tryNext(out, c, os.Getenv(detachedEnv) != "")
	ready()
	log.show(cCtx.App.Writer)
	failure := c.Wait(ctx)
	log.show(nil)
	if failure != nil {
		// What has failed may work again after a restart: nothing is removed.
		return fmt.Errorf("the cluster has stopped: %w\nstart it again with `mini-k8s up --name %s`", failure, options.Name)
	}
	fmt.Fprintln(cCtx.App.Writer)
	return c.Down()
}

// tryNext tells what a newcomer can do now.
func tryNext(out io.Writer, c *cluster.Cluster, detached bool) {
	self := os.Args[0]
	where := "The cluster is ready. Try this next, in another terminal"
	if detached {
		where = "The cluster is ready and runs in the background. Try this next"
	}
	fmt.Fprintf(out, "\n%s:\n\n", where)
	fmt.Fprintf(out, "  export KUBECONFIG=%s\n", c.Kubeconfig())
	fmt.Fprintln(out, `  kubectl get nodes -o wide
  kubectl get pods -o wide`)
	if c.Demo {
		fmt.Fprintln(out, `  kubectl logs deployment/hello               # what one of the pods says
  kubectl scale deployment hello --replicas 12
  kubectl get events --sort-by=.lastTimestamp`)
		if c.Runtime == cluster.Docker {
			fmt.Fprintf(out, `
Break something and watch it heal:

  kubectl get pods --watch
  docker rm -f $(docker ps -q --filter label=mini-k8s.cluster=%s --filter label=mini-k8s.container | head -1)
`, c.Name)
		}
	}
	if c.Runtime == cluster.Hollow {
		fmt.Fprintln(out, "\nThe pods are hollow: they say that they run, but no container does. All else is real.")
	} else if why := network.Limits(); why != "" {
		fmt.Fprintf(out, "\nNot everything works: %s.\n", why)
	}
	if detached {
		fmt.Fprintf(out, "\nStop and remove it with: %s down --name %s\n", self, c.Name)
		return
	}
	fmt.Fprintf(out, "\nNo kubectl? %s get pods does, too. Ctrl-C removes the cluster.\nThis is what happens in it:\n\n", self)
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
	stop := context.AfterFunc(cCtx.Context, func() { child.Process.Signal(os.Interrupt) })
	defer stop()
	told := &tail{out: cCtx.App.Writer}
	io.Copy(told, reader)
	if told.ready {
		return child.Process.Release()
	}
	child.Wait()
	return cli.Exit("", 1) // it has said why
}

// tail passes on what it is told, but for the line that says that all is ready.
type tail struct {
	out   io.Writer
	ready bool
}

func (t *tail) Write(data []byte) (int, error) {
	if text, ok := cutSuffix(data, readyLine); ok {
		t.ready = true
		_, err := t.out.Write(text)
		return len(data), err
	}
	return t.out.Write(data)
}

func cutSuffix(data []byte, suffix string) ([]byte, bool) {
	if n := len(data) - len(suffix); n >= 0 && string(data[n:]) == suffix {
		return data[:n], true
	}
	return data, false
}

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "Stop a cluster of this machine and remove all that it made",
		Description: `Removes the cluster's containers, networks, packet rules and state, and nothing else. It also cleans
up after a cluster that was killed.

Examples:
   mini-k8s down
   mini-k8s down --name big`,
		Flags: []cli.Flag{nameFlag()},
		Action: func(cCtx *cli.Context) error {
			return cluster.Down(cCtx.Context, cCtx.String("name"), cCtx.App.Writer)
		},
	}
}

func envCommand() *cli.Command {
	return &cli.Command{
		Name:  "env",
		Usage: "Print the shell command that points kubectl to the running cluster",
		Description: `Examples:
   eval "$(mini-k8s env)"
   eval "$(mini-k8s env --name big)"`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster (default: the one that runs)"}},
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
