package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// target is what a command works on: objects of one kind, by name or, without names, all that the selectors leave.
type target struct {
	kind  *api.Kind
	names []string
}

// parseTargets reads "pods", "pods,services", "all", "pods web db" and "pod/web service/web".
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("say of which kind: %s", kindList())
	}
	var targets []target
	if !strings.Contains(args[0], "/") {
		kinds, err := parseKinds(args[0])
		for _, kind := range kinds {
			targets = append(targets, target{kind, args[1:]})
		}
		return targets, err
	}
	for _, arg := range args {
		kindName, name, ok := strings.Cut(arg, "/")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: write KIND/NAME for every object, or KIND NAME...", arg)
		}
		kind, err := lookup(kindName)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(targets, func(t target) bool { return t.kind == kind })
		if at < 0 {
			at, targets = len(targets), append(targets, target{kind: kind})
		}
		targets[at].names = append(targets[at].names, name)
	}
	return targets, nil
}

func parseKinds(list string) ([]*api.Kind, error) {
	var kinds []*api.Kind
	for _, name := range strings.Split(list, ",") {
		found := slices.DeleteFunc(slices.Clone(api.Kinds), func(k *api.Kind) bool { return !slices.Contains(k.Categories, name) })
		if len(found) == 0 {
			kind, err := lookup(name)
			if err != nil {
				return nil, err
			}
			found = []*api.Kind{kind}
		}
		kinds = append(kinds, found...)
	}
	return kinds, nil
}

func lookup(name string) (*api.Kind, error) {
	kind := api.Lookup(name)
	if kind == nil {
		return nil, fmt.Errorf("the server has no kind %q; it has %s", name, kindList())
	}
	return kind, nil
}

func kindList() string {
	var names []string
	for _, kind := range api.Kinds {
		names = append(names, strings.Join(append([]string{kind.Resource}, kind.ShortNames...), "/"))
	}
	return strings.Join(names, ", ")
}

// fullName is how kubectl names an object where kinds are mixed: "pod/web", "deployment.apps/web".
func fullName(kind *api.Kind, name string) string { return qualified(kind) + "/" + name }

func qualified(kind *api.Kind) string { return strings.TrimSuffix(kind.Singular()+"."+kind.Group, ".") }

func selectorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "selector", Aliases: []string{"l"}, Usage: "objects with these `LABELS`: app=web,tier!=db"},
		&cli.StringFlag{Name: "field-selector", Usage: "objects with these `FIELDS`: spec.nodeName=node-1"},
	}
}

// query returns the selectors that were given as flags.
func (s *session) query() url.Values {
	query := url.Values{}
	for flag, parameter := range map[string]string{"selector": "labelSelector", "field-selector": "fieldSelector"} {
		if value := s.flags.String(flag); value != "" {
			query.Set(parameter, value)
		}
	}
	return query
}

// targets reads the arguments and refuses what would not mean what its writer thinks.
func (s *session) targets(args []string) ([]target, error) {
	targets, err := parseTargets(args)
	for _, t := range targets {
		switch {
		case len(t.names) == 0:
		case t.kind.Namespaced && s.namespace == "":
			return nil, errors.New("names are not unique across namespaces: leave out -A or the names")
		case len(s.query()) > 0 || s.flags.Bool("all"):
			return nil, errors.New("give names or say which by flags, not both")
		}
	}
	return targets, err
}

// each reads the target, once for all of it or once for each name, with what the server is to answer as: JSON if empty.
func (s *session) each(t target, accept string, use func(body []byte) error) error {
	if len(t.names) == 0 {
		body, err := s.do(client.Request{Method: http.MethodGet, Path: t.kind.Path(s.namespaceOf(t.kind), "", ""), Query: s.query(), Accept: accept})
		if err != nil {
			return err
		}
		return use(body)
	}
	var errs []error
	for _, name := range t.names {
		body, err := s.do(client.Request{Method: http.MethodGet, Path: t.kind.Path(s.namespaceOf(t.kind), name, ""), Accept: accept})
		if err == nil {
			err = use(body)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// objects returns the objects of a target. Some may come together with an error about others.
func (s *session) objects(t target) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	err := s.each(t, "", func(body []byte) error {
		if len(t.names) > 0 {
			all = append(all, unstructured.Unstructured{})
			return json.Unmarshal(body, &all[len(all)-1])
		}
		var list unstructured.UnstructuredList
		err := json.Unmarshal(body, &list)
		all = append(all, list.Items...)
		return err
	})
	for i := range all {
		all[i].SetManagedFields(nil) // nobody reads them but machines
	}
	return all, err
}
