package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/json"
)

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
