package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

func describeCommand() *cli.Command {
	return &cli.Command{
		Name: "describe", Usage: "Tell all about objects, and what happened to them",
		UsageText: "mini-k8s describe KIND [NAME...] | KIND/NAME...",
		Description: "mini-k8s describe pod web-1       why does it not start? The events at the end tell\n" +
			"mini-k8s describe node node-1",
		Flags:  clusterFlags(append(selectorFlags(), allNamespacesFlag())...),
		Action: onCluster((*session).describe),
	}
}

func (s *session) describe(args []string) error {
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	var errs []error
	shown := 0
	for _, t := range targets {
		objects, err := s.objects(t)
		errs = append(errs, err)
		for _, o := range objects {
			if shown++; shown > 1 {
				fmt.Fprint(s.out, "\n\n")
			}
			describeObject(s.out, t.kind, o)
			errs = append(errs, s.describeEvents(t.kind, o))
		}
	}
	if shown == 0 && errors.Join(errs...) == nil {
		fmt.Fprintln(s.errOut, "No resources found")
	}
	return errors.Join(errs...)
}

// describeObject writes an object of any kind: first what it is, then its parts under the names that they have in a
// manifest. Of a Secret it shows no more than keys and sizes.
func describeObject(out io.Writer, kind *api.Kind, o unstructured.Unstructured) {
	// It repeats the whole object, with the data of a Secret.
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", corev1.LastAppliedConfigAnnotation)
	var owners []any
	for _, owner := range o.GetOwnerReferences() {
		owners = append(owners, owner.Kind+"/"+owner.Name)
	}
	metadata, _ := o.Object["metadata"].(map[string]any)
	describe := func(name string, value any) {
		if value = readable(value); value != nil {
			text, _ := yaml.Marshal(map[string]any{name: value}) // what came as JSON can be written as YAML
			out.Write(text)
		}
	}
	describe("Name", o.GetName())
	describe("Namespace", o.GetNamespace())
	describe("Kind", kind.Kind+" ("+kind.GroupVersion().String()+")")
	describe("Labels", metadata["labels"])
	describe("Annotations", metadata["annotations"])
	describe("Created", metadata["creationTimestamp"])
	describe("Deleted", metadata["deletionTimestamp"])
	describe("Owned by", owners)
	describe("Finalizers", metadata["finalizers"])
	for _, key := range slices.Sorted(maps.Keys(o.Object)) { // of which spec comes before status
		value := o.Object[key]
		if slices.Contains([]string{"apiVersion", "kind", "metadata"}, key) {
			continue
		}
		if kind.Kind == "Secret" && key != "type" {
			value = sizes(value)
		}
		describe(strings.ToUpper(key[:1])+key[1:], value)
	}
}

// sizes replaces what a Secret holds by how much that is.
func sizes(data any) any {
	values, ok := data.(map[string]any)
	if !ok {
		return data
	}
	result := map[string]any{}
	for key, value := range values {
		text, _ := value.(string)
		decoded, _ := base64.StdEncoding.DecodeString(text)
		result[key] = fmt.Sprintf("%d bytes", len(decoded))
	}
	return result
}

// readable returns a value without its empty parts, which say nothing, and with times that tell how long ago they were.
func readable(value any) any {
	switch value := value.(type) {
	case map[string]any:
		maps.DeleteFunc(value, func(key string, part any) bool {
			value[key] = readable(part)
			return value[key] == nil
		})
		if len(value) == 0 {
			return nil
		}
	case []any:
		for i := range value {
			value[i] = readable(value[i])
		}
		if len(value) == 0 {
			return nil
		}
	case string:
		if value == "" {
			return nil
		}
		if at, err := time.Parse(time.RFC3339, value); err == nil && at.Before(time.Now()) {
			return value + " (" + duration.HumanDuration(time.Since(at)) + " ago)"
		}
	}
	return value
}

// describeEvents writes what happened to the object, as kubectl does.
func (s *session) describeEvents(kind *api.Kind, o unstructured.Unstructured) error {
	fields := "involvedObject.kind=" + kind.Kind + ",involvedObject.name=" + o.GetName()
	if kind.Namespaced {
		fields += ",involvedObject.uid=" + string(o.GetUID()) // not of one that had the name before
	}
	list, err := client.Of[*corev1.Event](s.client).List(s.ctx, client.Selection{Namespace: o.GetNamespace(), Fields: fields})
	if err != nil {
		return fmt.Errorf("events of %s: %w", fullName(kind, o.GetName()), s.explain(err))
	}
	if len(list.Items) == 0 {
		fmt.Fprintln(s.out, "Events: <none>")
		return nil
	}
	fmt.Fprintln(s.out, "Events:")
	lines := [][]string{{"  Type", "Reason", "Age", "From", "Message"}, {"  ----", "------", "----", "----", "-------"}}
	slices.SortStableFunc(list.Items, func(a, b *corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	for _, e := range list.Items {
		age := duration.HumanDuration(time.Since(e.LastTimestamp.Time))
		if e.Count > 1 {
			age += fmt.Sprintf(" (x%d over %s)", e.Count, duration.HumanDuration(time.Since(e.FirstTimestamp.Time)))
		}
		lines = append(lines, []string{"  " + e.Type, e.Reason, age, e.Source.Component, e.Message})
	}
	printColumns(s.out, "  ", nil, lines)
	return nil
}
