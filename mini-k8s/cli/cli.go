// Package cli holds the commands that a user types: a small sibling of kubectl for machines that lack it.
//
// Invariants:
//  1. A command writes to the app's Writer and ErrWriter and nowhere else.
//  2. A command knows the cluster by package client alone, as kubectl would.
//  3. What a Secret holds is shown by `get -o yaml|json` alone, where it is asked for.
//
// In Kubernetes: kubectl, which learns the kinds from the server instead of from a table, and has ten times as many
// commands. Both can be used on one cluster, also on the same objects: `apply` keeps the same annotation.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/pki"

	"github.com/urfave/cli/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultKubeconfig returns the kubeconfig of the cluster that runs on this machine. Whoever starts clusters sets it.
var DefaultKubeconfig func() (string, error)

// Commands returns the user's commands. Run them with the arguments in the order that Arrange puts them in.
func Commands() []*cli.Command {
	commands := append(clusterCommands(),
		getCommand(), applyCommand(), deleteCommand(), describeCommand(), scaleCommand(), logsCommand(), eventsCommand(),
		versionCommand(), doctorCommand())
	for _, command := range commands {
		command.OnUsageError = func(_ *cli.Context, err error, _ bool) error { // instead of a screen of help
			return fmt.Errorf("%w; `mini-k8s %s --help` lists the flags", err, command.Name)
		}
	}
	return commands
}

// session is one run of a command against a cluster.
type session struct {
	flags       *cli.Context
	ctx         context.Context // ends with Ctrl-C
	client      *client.Client
	server      string
	namespace   string // empty: all of them
	out, errOut io.Writer
}

// onCluster makes an action of a function that works on a cluster.
func onCluster(run func(s *session, args []string) error) cli.ActionFunc {
	return func(cCtx *cli.Context) error {
		s, err := connect(cCtx)
		if err != nil {
			return err
		}
		return run(s, cCtx.Args().Slice())
	}
}

// clusterFlags returns new flags, for a flag remembers whether it was set.
func clusterFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Value: metav1.NamespaceDefault, Usage: "the namespace to work in"},
		&cli.StringFlag{Name: "kubeconfig", EnvVars: []string{"KUBECONFIG"}, Usage: "`FILE` that says where the cluster is (default: the cluster that runs here)"})
}

func allNamespacesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "all-namespaces", Aliases: []string{"A"}, Usage: "in all namespaces"}
}

func connect(cCtx *cli.Context) (*session, error) {
	// KUBECONFIG may be a list of files, which kubectl merges; the first is enough here.
	path := cCtx.String("kubeconfig")
	if list := filepath.SplitList(path); len(list) > 0 {
		path = list[0]
	}
	if path == "" && DefaultKubeconfig != nil {
		path, _ = DefaultKubeconfig() // whatever is wrong, the way out is the same
	}
	if path == "" {
		return nil, errors.New("no cluster found: start one with `mini-k8s up`, or set KUBECONFIG")
	}
	config, err := pki.ReadKubeconfig(path)
	if err != nil {
		return nil, fmt.Errorf("%w\nstart a cluster with `mini-k8s up`, or set KUBECONFIG", err)
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	s := &session{flags: cCtx, ctx: cCtx.Context, server: config.Server, namespace: cCtx.String("namespace"),
		out: cCtx.App.Writer, errOut: cCtx.App.ErrWriter,
		client: client.New(client.Config{Server: config.Server, TLS: tls, Name: "mini-k8s"})}
	if cCtx.Bool("all-namespaces") {
		s.namespace = metav1.NamespaceAll
	}
	return s, nil
}

// do calls the server and passes its warnings on to the user.
func (s *session) do(request client.Request) ([]byte, error) {
	body, warnings, err := s.client.Do(s.ctx, request)
	for _, warning := range warnings {
		fmt.Fprintln(s.errOut, "Warning:", warning)
	}
	return body, s.explain(err)
}

// explain adds what to do to an error that does not come from the server but from not reaching it.
func (s *session) explain(err error) error {
	var status apierrors.APIStatus
	if err == nil || s.ctx.Err() != nil || errors.As(err, &status) {
		return err
	}
	return fmt.Errorf("%w\nis the cluster at %s running? `mini-k8s up` starts one", err, s.server)
}

// namespaceOf returns the namespace in which the command works on a kind.
func (s *session) namespaceOf(kind *api.Kind) string {
	if !kind.Namespaced {
		return ""
	}
	return s.namespace
}
