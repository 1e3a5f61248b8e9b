package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"workshop/mini-k8s/api"

	"github.com/urfave/cli/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// asTable asks the server for columns instead of objects (KEP-491): it knows what is worth showing of a kind.
const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

func getCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "Show objects",
		UsageText: "mini-k8s get KIND[,KIND] [NAME...] | KIND/NAME... | all",
		Description: "mini-k8s get pods -o wide            pods, with their nodes and addresses\n" +
			"mini-k8s get deploy,pods -l app=web  all that belongs to web\n" +
			"mini-k8s get pods -A -w              all pods, and what changes, until Ctrl-C\n" +
			"mini-k8s get deploy web -o yaml      everything about one object",
		Flags: clusterFlags(append(selectorFlags(), allNamespacesFlag(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT`: wide, yaml, json or name"},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "go on to show changes"})...),
		Action: onCluster((*session).get),
	}
}

func (s *session) get(args []string) error {
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	format := s.flags.String("output")
	table := format == "" || format == "wide"
	switch {
	case !slices.Contains([]string{"", "wide", "yaml", "json", "name"}, format):
		return fmt.Errorf("-o %s: write wide, yaml, json or name", format)
	case s.flags.Bool("watch") && (len(targets) > 1 || len(targets[0].names) > 1):
		return errors.New("watch one kind, or one object, at a time")
	case s.flags.Bool("watch") && !table:
		return fmt.Errorf("a watch shows rows of a table: leave out -o %s", format)
	case s.flags.Bool("watch"):
		return s.getAndWatch(targets[0])
	case table:
		return s.getTables(targets)
	}
	return s.getObjects(targets, format)
}

// getTables prints a table for each kind.
func (s *session) getTables(targets []target) error {
	var errs []error
	shown := 0
	for _, t := range targets {
		table, err := s.table(t)
		errs = append(errs, err)
		if len(table.Rows) == 0 {
			continue
		}
		if shown++; shown > 1 {
			fmt.Fprintln(s.out)
		}
		s.newTablePrinter(t.kind, len(targets) > 1).print(t.kind, table)
	}
	err := errors.Join(errs...)
	if shown == 0 && err == nil {
		where := "found"
		if s.namespaceOf(targets[0].kind) != "" {
			where = "found in " + s.namespace + " namespace."
		}
		fmt.Fprintln(s.errOut, "No resources", where)
	}
	return err
}

// table returns one table of all objects of a target that could be read.
func (s *session) table(t target) (*metav1.Table, error) {
	var whole metav1.Table
	err := s.each(t, asTable, func(body []byte) error {
		table, err := decodeTable(body)
		if err != nil {
			return fmt.Errorf("get %s: unreadable answer: %w", t.kind.Resource, err)
		}
		table.Rows = append(whole.Rows, table.Rows...)
		whole = table
		return nil
	})
	if t.kind.Kind == "Event" {
		byRevision(whole.Rows)
	}
	return &whole, err
}

func decodeTable(body []byte) (table metav1.Table, err error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // a float64 would show large numbers as 1e+06
	return table, decoder.Decode(&table)
}

func (s *session) newTablePrinter(kind *api.Kind, kindred bool) *tablePrinter {
	return &tablePrinter{out: s.out, wide: s.flags.String("output") == "wide", kindred: kindred,
		namespaces: kind.Namespaced && s.namespace == ""}
}

// getObjects prints what the server holds: an object that was named as it is, anything else as a list.
func (s *session) getObjects(targets []target, format string) error {
	list := []unstructured.Unstructured{}
	var errs []error
	for _, t := range targets {
		objects, err := s.objects(t)
		list, errs = append(list, objects...), append(errs, err)
	}
	err := errors.Join(errs...)
	switch one := len(targets) == 1 && len(targets[0].names) == 1; {
	case format == "name":
		for _, o := range list {
			fmt.Fprintln(s.out, fullName(api.ForGVK(o.GroupVersionKind()), o.GetName()))
		}
	case one && err != nil:
	case one:
		err = s.encode(format, list[0].Object)
	default:
		err = errors.Join(err, s.encode(format, map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": ""}, "items": list}))
	}
	return err
}

// encode prints an object as YAML or JSON.
func (s *session) encode(format string, object any) error {
	data, err := json.MarshalIndent(object, "", "    ")
	if err == nil && format == "yaml" {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return fmt.Errorf("print as %s: %w", format, err)
	}
	_, err = fmt.Fprintf(s.out, "%s\n", bytes.TrimSuffix(data, []byte("\n")))
	return err
}

// getAndWatch prints a table, and then a row for every change until the context ends.
func (s *session) getAndWatch(t target) error {
	table, err := s.table(t)
	if err != nil {
		return err
	}
	printer := s.newTablePrinter(t.kind, false)
	if len(table.Rows) > 0 {
		printer.print(t.kind, table)
	}
	return s.watch(t, asTable, table.ResourceVersion, func(body []byte) error {
		changed, err := decodeTable(body)
		if err != nil {
			return err
		}
		changed.ColumnDefinitions = table.ColumnDefinitions // a watch sends them once
		printer.print(t.kind, &changed)
		return nil
	})
}
