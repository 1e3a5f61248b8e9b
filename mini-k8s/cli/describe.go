package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

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
	for _, t := range targets {
		objects, err := s.objects(t)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := s.describeObject(target{t.kind, o.GetName()}, o); err != nil {
				return fmt.Errorf("describe %s: %w", target{t.kind, o.GetName()}, err)
			}
		}
	}
	return nil
}

// describeObject writes an object as its manifest would be, with its status, and then what happened to it.
func (s *session) describeObject(t target, o unstructured.Unstructured) error {
	// It repeats the whole object, with the data of a Secret.
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", corev1.LastAppliedConfigAnnotation)
	if data, ok := o.Object["data"].(map[string]any); ok && t.kind.Kind == "Secret" {
		for key := range data {
			data[key] = "(hidden)"
		}
	}
	text, err := yaml.Marshal(o.Object)
	if err != nil {
		return err
	}
	about := *s
	about.namespace, about.selection = o.GetNamespace(), eventsAbout(t)
	happened, err := about.readTable(events)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "# %s\n%s\nEvents: %d\n", t, text, len(happened.Rows))
	if len(happened.Rows) > 0 {
		happened.print(s.out)
	}
	fmt.Fprintln(s.out)
	return nil
}
