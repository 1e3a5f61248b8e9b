package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/json"
)

// The objects that a command works on: those of the cluster that its arguments name, or those of manifests.

// target is what a command works on: one object or, without a name, all of a kind that the selection leaves.
type target struct {
	kind *api.Kind
	name string
}

// String is how kubectl names an object where kinds are mixed: "pod/web", "deployment.apps/web".
func (t target) String() string { return qualified(t.kind) + "/" + t.name }

func qualified(kind *api.Kind) string { return strings.TrimSuffix(kind.Singular()+"."+kind.Group, ".") }

// object is one that the cluster has, or is to have.
type object struct {
	*unstructured.Unstructured
	target // its kind is nil if the server has no such
}

func (o object) path() string { return o.kind.Path(o.GetNamespace(), o.name, "") }

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
		before := len(targets)
		for _, kind := range api.Kinds {
			if kind == api.Lookup(kindName) || slices.Contains(kind.Categories, kindName) {
				for _, n := range names {
					targets = append(targets, target{kind, name + n})
				}
			}
		}
		if len(targets) == before {
			return nil, fmt.Errorf("the server has no kind %q; it has %s", kindName, kindList())
		}
	}
	for _, t := range targets { // refuse what would not mean what its writer thinks
		if t.name != "" && (t.kind.Namespaced && s.namespace == "" || len(s.selection) > 0) {
			return nil, fmt.Errorf("%s is one object: leave out -A, -l and --revision, or the name", t)
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

// objects reads what the server has of the targets.
func (s *session) objects(targets []target) (all []object, err error) {
	for _, t := range targets {
		body, err := s.do(s.request(t, ""))
		if err != nil {
			return nil, err
		}
		objects, err := decode(body)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	for _, o := range all {
		o.SetManagedFields(nil) // nobody reads them but machines
	}
	return all, nil
}

// decode returns the objects of a list, or the one that is none.
func decode(data []byte) (objects []object, err error) {
	var one unstructured.Unstructured
	if err := one.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("not an object with apiVersion, kind and metadata: %w", err)
	}
	list := &unstructured.UnstructuredList{Items: []unstructured.Unstructured{one}}
	if one.IsList() {
		list, err = one.ToList()
	}
	for i := 0; err == nil && i < len(list.Items); i++ {
		item := &list.Items[i]
		objects = append(objects, object{item, target{api.ForGVK(item.GroupVersionKind()), item.GetName()}})
	}
	return objects, err
}

// readManifests reads all documents of files and directories, and of stdin for "-", so that nothing is sent to the
// cluster before all is known to make sense.
func (s *session) readManifests() (all []object, err error) {
	paths := s.StringSlice("filename")
	var files []string
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if err != nil { // it is no directory; if it is not there, reading it says so
			files = append(files, path)
		}
		for _, entry := range entries {
			if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	for _, file := range files {
		var text []byte
		if file == "-" {
			text, err = io.ReadAll(s.App.Reader)
		} else {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, err
		}
		objects, err := s.parseManifest(text)
		if err != nil {
			return nil, fmt.Errorf("%s, %w\nnothing was sent to the cluster", file, err)
		}
		all = append(all, objects...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no objects in %q: give a manifest, or a directory with .yaml, .yml or .json files", paths)
	}
	return all, nil
}

func (s *session) parseManifest(text []byte) (all []object, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for number := 1; ; number++ {
		var raw json.RawMessage
		var objects []object
		err := decoder.Decode(&raw)
		switch {
		case err == io.EOF:
			return all, nil
		case err == nil && len(raw) > 0 && string(raw) != "null": // or else there is nothing but comments
			objects, err = decode(raw)
		}
		for i := 0; i < len(objects) && err == nil; i++ {
			err = s.check(objects[i])
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
		all = append(all, objects...)
	}
}

// check refuses kinds and fields that the server does not know, and gives the object a namespace if it needs one.
func (s *session) check(o object) error {
	kind, version, namespace := o.GetKind(), o.GetAPIVersion(), o.GetNamespace()
	switch known := api.Lookup(kind); {
	case o.kind == nil && known != nil:
		return fmt.Errorf("the server has no %s of %q: write apiVersion: %s", kind, version, known.GroupVersion())
	case o.kind == nil:
		return fmt.Errorf("the server has no kind %q; it has %s", kind, kindList())
	case o.name == "":
		return fmt.Errorf("%s without metadata.name", kind)
	case !o.kind.Namespaced:
	case namespace == "":
		o.SetNamespace(s.namespace)
	case namespace != s.namespace && s.IsSet("namespace"):
		return fmt.Errorf("%s is in namespace %q: leave out -n, or say -n %[2]s", o, namespace)
	}
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	unknown, err := strict.UnmarshalStrict(text, o.kind.New())
	if err != nil || len(unknown) > 0 {
		return fmt.Errorf("%s: %w", o, errors.Join(append(unknown, err)...))
	}
	return nil
}
