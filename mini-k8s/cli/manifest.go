package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// document is an object in a manifest.
type document struct {
	unstructured.Unstructured
	target
}

func (d document) path() string { return d.kind.Path(d.GetNamespace(), d.name, "") }

// readManifests reads all documents of files and directories, and of stdin for "-", so that nothing is sent to the
// cluster before all is known to make sense.
func (s *session) readManifests(paths []string) (documents []document, err error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			files = append(files, path) // if it is not there, reading it says so
			continue
		}
		for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
			found, _ := filepath.Glob(filepath.Join(path, pattern))
			files = append(files, found...)
		}
	}
	for _, file := range files {
		var text []byte
		if file == "-" {
			text, err = io.ReadAll(s.flags.App.Reader)
		} else {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, err
		}
		found, err := s.parseManifest(text)
		if err != nil {
			return nil, fmt.Errorf("%s, %w\nnothing was sent to the cluster", file, err)
		}
		documents = append(documents, found...)
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("no objects in %q: give a manifest, or a directory with .yaml, .yml or .json files", paths)
	}
	return documents, nil
}

func (s *session) parseManifest(text []byte) (documents []document, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for number := 1; ; number++ {
		var raw json.RawMessage
		var objects []unstructured.Unstructured
		err := decoder.Decode(&raw)
		switch {
		case err == io.EOF:
			return documents, nil
		case err == nil && len(raw) > 0 && string(raw) != "null":
			objects, err = decodeObjects(raw)
		}
		for i := 0; i < len(objects) && err == nil; i++ {
			d := document{objects[i], target{api.ForGVK(objects[i].GroupVersionKind()), objects[i].GetName()}}
			err = s.check(d)
			documents = append(documents, d)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
	}
}

// check refuses what the server would not know, and gives the object a namespace if it needs one.
func (s *session) check(d document) error {
	kind, version, namespace := d.GetKind(), d.GetAPIVersion(), d.GetNamespace()
	switch known := api.Lookup(kind); {
	case d.kind == nil && known != nil:
		return fmt.Errorf("the server has no %s of %q: write apiVersion: %s", kind, version, known.GroupVersion())
	case d.kind == nil:
		return fmt.Errorf("the server has no kind %q; it has %s", kind, kindList())
	case d.name == "":
		return fmt.Errorf("%s without metadata.name", kind)
	case !d.kind.Namespaced:
	case namespace == "":
		d.SetNamespace(s.namespace) // of the map that d shares with the caller
	case namespace != s.namespace && s.flags.IsSet("namespace"):
		return fmt.Errorf("%s is in namespace %q: leave out -n, or say -n %[2]s", d, namespace)
	}
	return nil
}
