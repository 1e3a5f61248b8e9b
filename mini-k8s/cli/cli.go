// Package cli holds the commands that a user types: a small sibling of kubectl for machines that lack it, and the
// commands that run a cluster.
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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/pki"

	"github.com/urfave/cli/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// Commands returns the user's commands. Run them with the arguments in the order that Arrange puts them in.
func Commands() []*cli.Command {
	commands := []*cli.Command{
		upCommand(), downCommand(), envCommand(), masterCommand(), workerCommand(), tokenCommand(), // run a cluster
		getCommand(), applyCommand(), deleteCommand(), describeCommand(), // use it
		scaleCommand(), logsCommand(), eventsCommand(), versionCommand(), doctorCommand(),
	}
	for _, command := range commands {
		command.OnUsageError = func(_ *cli.Context, err error, _ bool) error { // instead of a screen of help
			return fmt.Errorf("%w; `mini-k8s %s --help` lists the flags", err, command.Name)
		}
	}
	return commands
}

// text returns a flag with a value and yes one without; letter is what it may be shortened to.
func text(name, letter, usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Aliases: strings.Fields(letter), Usage: usage}
}

func yes(name, letter, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Aliases: strings.Fields(letter), Usage: usage}
}

// session is one run of a command, with its flags, against a cluster.
type session struct {
	*cli.Context
	ctx       context.Context // ends with Ctrl-C
	client    *client.Client
	server    string
	namespace string     // empty: all of them
	selection url.Values // which of a kind's objects are meant, if they are not named
	out       io.Writer
}

// onCluster makes a command of a function that works on a cluster.
func onCluster(name, usage, arguments, examples string, run func(*session, []string) error, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "mini-k8s " + name + " " + arguments, Description: examples,
		Flags: append(flags,
			&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Value: metav1.NamespaceDefault, Usage: "the namespace to work in"},
			&cli.StringFlag{Name: "kubeconfig", EnvVars: []string{"KUBECONFIG"},
				Usage: "`FILE` that says where the cluster is (default: the cluster that runs here)"}),
		Action: func(cCtx *cli.Context) error {
			s, err := connect(cCtx)
			if err != nil {
				return fmt.Errorf("%w\nwhich cluster is meant says KUBECONFIG (see `mini-k8s env`); `mini-k8s up` starts one", err)
			}
			return run(s, cCtx.Args().Slice())
		},
	}
}

func connect(cCtx *cli.Context) (s *session, err error) {
	path := cCtx.String("kubeconfig")
	if path == "" {
		if path, err = cluster.Kubeconfig(""); err != nil {
			return nil, err
		}
	}
	config, err := pki.ReadKubeconfig(path)
	if err != nil {
		return nil, err
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	s = &session{Context: cCtx, ctx: cCtx.Context, server: config.Server, namespace: cCtx.String("namespace"), selection: url.Values{},
		out: cCtx.App.Writer, client: client.New(client.Config{Server: config.Server, TLS: tls, Name: "mini-k8s"})}
	if cCtx.Bool("all-namespaces") {
		s.namespace = metav1.NamespaceAll
	}
	if labels := cCtx.String("selector"); labels != "" {
		s.selection.Set("labelSelector", labels)
	}
	return s, nil
}

// do calls the server and passes its warnings on to the user.
func (s *session) do(request client.Request) ([]byte, error) {
	body, warnings, err := s.client.Do(s.ctx, request)
	for _, warning := range warnings {
		fmt.Fprintln(s.App.ErrWriter, "Warning:", warning)
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

func versionCommand() *cli.Command {
	command := onCluster("version", "Tell the versions of this program and of the cluster", "", "mini-k8s version", (*session).version)
	command.Before = func(cCtx *cli.Context) error { // also where there is no cluster
		_, err := fmt.Fprintln(cCtx.App.Writer, "Client:", api.KubernetesVersion)
		return err
	}
	return command
}

func (s *session) version([]string) error {
	body, err := s.do(client.Request{Method: http.MethodGet, Path: "/version"})
	if err != nil {
		return err
	}
	var server version.Info
	err = json.Unmarshal(body, &server)
	fmt.Fprintf(s.out, "Server: %s, %s, at %s\n", server.GitVersion, server.Platform, s.server)
	return err
}
