package cli

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// target is what a command works on: one object or, without a name, all of a kind that the selection leaves.
type target struct {
	kind *api.Kind
	name string
}

// String is how kubectl names an object where kinds are mixed: "pod/web", "deployment.apps/web".
func (t target) String() string { return qualified(t.kind) + "/" + t.name }

func qualified(kind *api.Kind) string { return strings.TrimSuffix(kind.Singular()+"."+kind.Group, ".") }

// targets reads "pods", "pods,services", "all", "pods web db" and "pod/web service/web".
func (s *session) targets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("say of which kind: %s", kindList())
	}
	names := []string{""}
	if len(args) > 1 && !strings.Contains(args[0], "/") { // "pods web" is another way to write "pod/web"
		args, names = args[:1], args[1:]
	}
	var targets []target
	for _, word := range strings.Split(strings.Join(args, ","), ",") {
		kindName, name, _ := strings.Cut(word, "/")
		kinds := slices.DeleteFunc(slices.Clone(api.Kinds), func(k *api.Kind) bool {
			return k != api.Lookup(kindName) && !slices.Contains(k.Categories, kindName)
		})
		if len(kinds) == 0 {
			return nil, fmt.Errorf("the server has no kind %q; it has %s", kindName, kindList())
		}
		for _, kind := range kinds {
			for _, n := range names {
				targets = append(targets, target{kind, name + n})
			}
		}
	}
	for _, t := range targets { // refuse what would not mean what its writer thinks
		if t.name != "" && (t.kind.Namespaced && s.namespace == "" || len(s.selection) > 0) {
			return nil, fmt.Errorf("%s is one object: leave out -A and -l, or the name", t)
		}
	}
	return targets, nil
}

func kindList() string {
	var names []string
	for _, kind := range api.Kinds {
		names = append(names, strings.Join(append([]string{kind.Resource}, kind.ShortNames...), "/"))
	}
	return strings.Join(names, ", ")
}

// request is how to read a target.
func (s *session) request(t target, accept string) client.Request {
	path := t.kind.Path(s.namespace, t.name, "")
	return client.Request{Method: http.MethodGet, Path: path, Query: s.selection, Accept: accept}
}

// objects reads the objects of a target.
func (s *session) objects(t target) ([]unstructured.Unstructured, error) {
	body, err := s.do(s.request(t, ""))
	if err != nil {
		return nil, err
	}
	objects, err := decodeObjects(body)
	for i := range objects {
		objects[i].SetManagedFields(nil) // nobody reads them but machines
	}
	return objects, err
}

// decodeObjects returns the objects of a list, or the one that is none.
func decodeObjects(data []byte) ([]unstructured.Unstructured, error) {
	var o unstructured.Unstructured
	if err := o.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("not an object with apiVersion, kind and metadata: %w", err)
	}
	if !o.IsList() {
		return []unstructured.Unstructured{o}, nil
	}
	list, err := o.ToList()
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}
