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

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The commands that tell why something is as it is: describe, events, logs.

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
