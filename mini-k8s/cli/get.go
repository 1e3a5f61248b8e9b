package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"workshop/mini-k8s/client"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

func (s *session) get(args []string) error {
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	switch format := s.String("output"); format {
	case "", "wide":
		return s.getTables(targets)
	case "yaml", "json", "name":
		return s.getObjects(targets, format)
	default:
		return fmt.Errorf("-o %s: write wide, yaml, json or name", format)
	}
}

// getObjects prints what the server holds, as documents that `apply -f` reads.
func (s *session) getObjects(targets []target, format string) error {
	objects, err := s.objects(targets)
	for _, o := range objects {
		text := []byte(o.String())
		switch format {
		case "yaml":
			text, err = yaml.Marshal(o.Object)
			text = append([]byte("---\n"), bytes.TrimSpace(text)...)
		case "json":
			text, err = json.MarshalIndent(o.Object, "", "    ")
		}
		if err != nil {
			return fmt.Errorf("print as %s: %w", format, err)
		}
		fmt.Fprintf(s.out, "%s\n", text)
	}
	return err
}

// getTables prints a table for each kind, and if so wished then a row for every change.
func (s *session) getTables(targets []target) error {
	if s.Bool("watch") {
		if len(targets) > 1 {
			return errors.New("watch one kind, or one object, at a time")
		}
		return s.watch(targets[0])
	}
	var tables []*table
	for _, t := range targets {
		read, err := s.readTable(t)
		if err != nil {
			return err
		}
		if last := len(tables) - 1; last >= 0 && tables[last].kind == t.kind {
			tables[last].Rows = append(tables[last].Rows, read.Rows...)
		} else if len(read.Rows) > 0 {
			tables = append(tables, read)
		}
	}
	for i, t := range tables {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		t.print(s.out)
	}
	if len(tables) == 0 {
		fmt.Fprintf(s.App.ErrWriter, "No resources found in namespace %q (all, if empty)\n", s.namespace)
	}
	return nil
}

// watch prints a table and then a row for every change, until the user or the server ends it.
func (s *session) watch(t target) error {
	shown, err := s.readTable(t)
	if err != nil {
		return err
	}
	shown.print(s.out)
	if t.name != "" {
		s.selection.Set("fieldSelector", "metadata.name="+t.name)
		t.name = ""
	}
	s.selection.Set("watch", "true")
	s.selection.Set("resourceVersion", shown.ResourceVersion)
	return s.changes(s.request(t, asTable), func(_ watch.EventType, object []byte) error {
		var change metav1.Table // without columns: a watch sends them once
		err := json.Unmarshal(object, &change)
		shown.Rows = append(shown.Rows, change.Rows...)
		shown.print(s.out)
		return err
	})
}

// changes shows the object of each event of a watch, until the user or the server ends it.
func (s *session) changes(request client.Request, show func(event watch.EventType, object []byte) error) error {
	response, err := s.client.Stream(s.ctx, request)
	if err != nil {
		return s.explain(err)
	}
	defer response.Body.Close()
	for changes := json.NewDecoder(response.Body); ; {
		var change struct {
			Type   watch.EventType
			Object json.RawMessage
		}
		err := changes.Decode(&change)
		switch {
		case s.ctx.Err() != nil || err == io.EOF: // Ctrl-C, or as long as the server lets a watch last
			return nil
		case err == nil && change.Type == watch.Error:
			err = errors.New("the server cannot go on from where it was: start it again")
		case err == nil:
			err = show(change.Type, change.Object)
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", request.Path, err)
		}
	}
}
