// Command mini-k8s is a whole small Kubernetes in one binary: a master, a worker, and the commands to use them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/cli"
	"workshop/mini-k8s/cmdline"

	urfave "github.com/urfave/cli/v2"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// A master that has little to do should be small: it collects when the heap has grown by half, not by all.
		debug.SetGCPercent(50)
	}
	app := &urfave.App{
		Name:  "mini-k8s",
		Usage: "a Kubernetes that one person can read",
		Description: `Start a cluster on this machine and look at it:

   mini-k8s up
   mini-k8s get pods -o wide

Any kubectl works as well: eval "$(mini-k8s env)"`,
		Version:         api.KubernetesVersion,
		Commands:        cli.Commands(),
		HideVersion:     true,
		HideHelpCommand: true,
	}
	// The first Ctrl-C ends the command in good order, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := app.RunContext(ctx, cmdline.Arrange(app, os.Args)); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
