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

// Commands returns the user's commands. Run them with the arguments in the order that cmdline.Arrange puts them in.
func Commands() []*cli.Command {
	files := &cli.StringSliceFlag{Name: "filename", Aliases: []string{"f"}, Usage: "manifest `FILE`, directory, or - for stdin"}
	selector := text("selector", "l", "objects with these `LABELS`: app=web,tier!=db")
	everywhere := yes("all-namespaces", "A", "in all namespaces")
	watch := yes("watch", "w", "go on to show what changes")
	version := onCluster("version", "Tell the versions of this program and of the cluster", "", "mini-k8s version", (*session).version)
	version.Before = clientVersion // also where there is no cluster
	commands := []*cli.Command{
		// Run a cluster.
		upCommand(), downCommand(), envCommand(), masterCommand(), workerCommand(), tokenCommand(), doctorCommand(),
		// Use it.
		onCluster("get", "Show objects", "KIND[,KIND] [NAME...] | KIND/NAME... | all", `
mini-k8s get pods -o wide            pods, with their nodes and addresses
mini-k8s get deploy,pods -l app=web  all that belongs to web
mini-k8s get pods -A -w              all pods, and what changes, until Ctrl-C
mini-k8s get deploy web -o yaml      everything about one object`,
			(*session).get, selector, everywhere, watch, text("output", "o", "`FORMAT`: wide, yaml, json or name"),
			text("revision", "", "as it was at this `REVISION` of the cluster")),
		onCluster("apply", "Make the cluster hold what manifests say", "-f FILE|DIRECTORY|-", `
mini-k8s apply -f web.yaml    create or change what the file describes`,
			(*session).apply, files),
		onCluster("delete", "Delete objects", "KIND NAME... | KIND/NAME... | KIND -l LABELS | -f FILE", `
mini-k8s delete -f web.yaml            what the file describes
mini-k8s delete pod web-1              one pod; its ReplicaSet makes another
mini-k8s delete pods -l app=web`,
			(*session).delete, files, selector),
		onCluster("scale", "Set how many replicas there should be", "KIND/NAME... --replicas N", `
mini-k8s scale deployment/web --replicas 5`,
			(*session).scale, &cli.IntFlag{Name: "replicas", Value: -1, Usage: "`HOW MANY`"}),
		onCluster("describe", "Tell all about objects, and what happened to them", "KIND [NAME...] | KIND/NAME...", `
mini-k8s describe pod web-1       why does it not start? The events at the end tell
mini-k8s describe node node-1`,
			(*session).describe, selector, everywhere),
		onCluster("events", "Tell what happened, the last at the end", "[--for KIND/NAME]", `
mini-k8s events -A -w                 all that happens in the cluster, until Ctrl-C
mini-k8s events --for deployment/web`,
			(*session).events, everywhere, watch, text("for", "", "only what happened to this `KIND/NAME`")),
		onCluster("timeline", "Tell the life of an object and of what belongs to it, also if it is gone", "KIND/NAME", `
mini-k8s timeline deployment/web       who changed what when, in it, its ReplicaSets and pods
mini-k8s timeline deploy/web -w --since 5m
mini-k8s get pods --revision 120       how it was at one of the revisions that it tells`,
			(*session).timeline, watch, &cli.DurationFlag{Name: "since", Usage: "only the last `TIME`: 10m"}, text("output", "o", "`FORMAT`: json, a line for each entry")),
		onCluster("logs", "Show what a container wrote", "POD", `
mini-k8s logs web-1 -f --tail 20       the last 20 lines, and what follows, until Ctrl-C
mini-k8s logs web-1 -c app --previous  before it crashed`,
			(*session).logs, text("container", "c", "which `CONTAINER` of the pod"),
			yes("follow", "f", "go on to show what it writes"), yes("previous", "p", "of the container's life before this one"),
			&cli.IntFlag{Name: "tail", Value: -1, Usage: "only the last `LINES`"}),
		version,
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
	ca        []byte     // the server's, in PEM
	namespace string     // empty: all of them
	selection url.Values // which of a kind's objects are meant, if they are not named
	out       io.Writer
}

// onCluster makes a command of a function that works on a cluster.
func onCluster(name, usage, arguments, examples string, run func(*session, []string) error, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "mini-k8s " + name + " " + arguments, Description: strings.TrimSpace(examples),
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
	s = &session{Context: cCtx, ctx: cCtx.Context, server: config.Server, ca: config.CAPEM, namespace: cCtx.String("namespace"), selection: url.Values{},
		out: cCtx.App.Writer, client: client.New(client.Config{Server: config.Server, TLS: tls, Name: "mini-k8s"})}
	if cCtx.Bool("all-namespaces") {
		s.namespace = metav1.NamespaceAll
	}
	if labels := cCtx.String("selector"); labels != "" {
		s.selection.Set("labelSelector", labels)
	}
	if revision := cCtx.String("revision"); revision != "" {
		s.selection.Set("resourceVersion", revision)
		s.selection.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchExact))
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

func clientVersion(cCtx *cli.Context) error {
	_, err := fmt.Fprintln(cCtx.App.Writer, "Client:", api.KubernetesVersion)
	return err
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
