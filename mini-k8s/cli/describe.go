package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The commands that tell why something is as it is: describe, events, logs.

func describeCommand() *cli.Command {
	return onCluster("describe", "Tell all about objects, and what happened to them", "KIND [NAME...] | KIND/NAME...",
		`mini-k8s describe pod web-1       why does it not start? The events at the end tell
mini-k8s describe node node-1`,
		(*session).describe, text("selector", "l", "objects with these `LABELS`: app=web,tier!=db"),
		yes("all-namespaces", "A", "in all namespaces"))
}

func (s *session) describe(args []string) error {
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	objects, err := s.objects(targets)
	for _, o := range objects {
		if err := s.describeObject(o); err != nil {
			return fmt.Errorf("describe %s: %w", o, err)
		}
	}
	return err
}

// describeObject writes an object as its manifest would be, with its status, and then what happened to it.
func (s *session) describeObject(o object) error {
	// It repeats the whole object, with the data of a Secret.
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", corev1.LastAppliedConfigAnnotation)
	if data, ok := o.Object["data"].(map[string]any); ok && o.kind.Kind == "Secret" {
		for key := range data {
			data[key] = "(hidden)"
		}
	}
	text, err := yaml.Marshal(o.Object)
	if err != nil {
		return err
	}
	about := *s
	about.namespace, about.selection = o.GetNamespace(), eventsAbout(o.target)
	happened, err := about.readTable(events)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "# %s\n%s\nEvents: %d\n", o, text, len(happened.Rows))
	if len(happened.Rows) > 0 {
		happened.print(s.out)
	}
	fmt.Fprintln(s.out)
	return nil
}

var events = target{kind: api.KindOf[*corev1.Event]()}

func eventsCommand() *cli.Command {
	return onCluster("events", "Tell what happened, the last at the end", "[--for KIND/NAME]",
		`mini-k8s events -A -w                 all that happens in the cluster, until Ctrl-C
mini-k8s events --for deployment/web`,
		(*session).events, yes("all-namespaces", "A", "in all namespaces"),
		yes("watch", "w", "go on to show what changes"), text("for", "", "only what happened to this `KIND/NAME`"))
}

// events is `get events` under a name that people look for, with a selection that they need not know how to write.
func (s *session) events([]string) error {
	if about := s.String("for"); about != "" {
		targets, err := s.targets([]string{about})
		if err != nil {
			return err
		}
		s.selection = eventsAbout(targets[0])
	}
	return s.getTables([]target{events})
}

func eventsAbout(t target) url.Values {
	return url.Values{"fieldSelector": {"involvedObject.kind=" + t.kind.Kind + ",involvedObject.name=" + t.name}}
}

func logsCommand() *cli.Command {
	return onCluster("logs", "Show what a container wrote", "POD",
		`mini-k8s logs web-1 -f --tail 20       the last 20 lines, and what follows, until Ctrl-C
mini-k8s logs web-1 -c app --previous  before it crashed`,
		(*session).logs, text("container", "c", "which `CONTAINER` of the pod"),
		yes("follow", "f", "go on to show what it writes"), yes("previous", "p", "of the container's life before this one"),
		&cli.IntFlag{Name: "tail", Value: -1, Usage: "only the last `LINES`"})
}

func (s *session) logs(args []string) error {
	if len(args) != 1 || strings.Contains(args[0], "/") {
		return errors.New("say of which pod: mini-k8s logs POD; `mini-k8s get pods` lists them")
	}
	query := url.Values{}
	for _, flag := range []string{"container", "follow", "previous"} {
		if s.IsSet(flag) {
			query.Set(flag, fmt.Sprint(s.Value(flag)))
		}
	}
	if lines := s.Int("tail"); lines >= 0 {
		query.Set("tailLines", fmt.Sprint(lines))
	}
	path := api.KindOf[*corev1.Pod]().Path(s.namespace, args[0], "log")
	response, err := s.client.Stream(s.ctx, client.Request{Method: http.MethodGet, Path: path, Query: query})
	if err == nil {
		defer response.Body.Close()
		_, err = io.Copy(s.out, response.Body)
	}
	if s.ctx.Err() != nil {
		return nil // the user has seen enough
	}
	return s.explain(err)
}
