package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// document is an object in a manifest.
type document struct {
	*unstructured.Unstructured
	kind  *api.Kind
	place string // "web.yaml, document 2"
}

// readManifests reads all documents of files and directories, and of stdin for "-". It is all or nothing: the error
// tells of every document that is no good, so that nothing is sent before all is known to make sense.
func readManifests(paths []string, stdin io.Reader) ([]document, error) {
	var documents []document
	var errs []error
	for _, path := range paths {
		files, err := manifestFiles(path)
		errs = append(errs, err)
		for _, file := range files {
			data, err := []byte(nil), error(nil)
			if file == "-" {
				file = "stdin"
				data, err = io.ReadAll(stdin)
			} else {
				data, err = os.ReadFile(file)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found, err := parseManifest(file, data)
			documents, errs = append(documents, found...), append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("nothing was sent to the cluster:\n%w", err)
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("no objects in %s", strings.Join(paths, ", "))
	}
	return documents, nil
}

// manifestFiles returns the path itself, or the manifests in it if it is a directory.
func manifestFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}, nil // a file; if it is not there, reading it says so
	}
	var files []string
	for _, entry := range entries { // ReadDir sorts them
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) && !entry.IsDir() {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json file in this directory", path)
	}
	return files, nil
}

// parseManifest reads the documents of one file. Empty documents count, but are left out.
func parseManifest(file string, data []byte) ([]document, error) {
	var documents []document
	var errs []error
	reader := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for number := 1; ; number++ {
		text, err := reader.Read()
		if err == io.EOF {
			return documents, errors.Join(errs...)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		place := fmt.Sprintf("%s, document %d", file, number)
		raw := text
		if !json.Valid(text) { // JSON may be indented with tabs, YAML may not
			raw, err = yaml.YAMLToJSONStrict(text)
		}
		var found []document
		if err == nil {
			found, err = parseDocument(place, raw)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", place, err))
		}
		documents = append(documents, found...)
	}
}

// parseDocument returns the object in a document, or those of a List.
func parseDocument(place string, raw []byte) ([]document, error) {
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, errors.New("not an object: it begins with apiVersion, kind and metadata")
	}
	if len(object) == 0 {
		return nil, nil
	}
	if items, ok := object["items"].([]any); ok && object["kind"] == "List" {
		var documents []document
		for i, item := range items {
			raw, _ := json.Marshal(item)
			found, err := parseDocument(place, raw)
			if err != nil {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
			documents = append(documents, found...)
		}
		return documents, nil
	}
	o := &unstructured.Unstructured{Object: map[string]any{}}
	if object["kind"] == nil || object["apiVersion"] == nil {
		return nil, errors.New("apiVersion and kind are missing: they say what the object is")
	}
	if err := o.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	gvk := o.GroupVersionKind()
	kind := api.ForGVK(gvk)
	if kind == nil {
		if known := api.Lookup(gvk.Kind); known != nil {
			return nil, fmt.Errorf("the server has no kind %q in %s: write apiVersion: %s", gvk.Kind, o.GetAPIVersion(), known.GroupVersion())
		}
		return nil, fmt.Errorf("the server has no kind %q in %s; it has %s", gvk.Kind, o.GetAPIVersion(), kindList())
	}
	if o.GetName() == "" {
		return nil, fmt.Errorf("%s without metadata.name", gvk.Kind)
	}
	return []document{{o, kind, place}}, nil
}

// inNamespace sets the namespace of the documents that name none, and refuses another one than was asked for.
func (s *session) inNamespace(documents []document) error {
	for _, d := range documents {
		switch {
		case !d.kind.Namespaced || s.namespace == "":
		case d.GetNamespace() == "":
			d.SetNamespace(s.namespace)
		case d.GetNamespace() != s.namespace && s.flags.IsSet("namespace"):
			return fmt.Errorf("%s: %s is in namespace %q, not in %q: leave out -n, or say -n %s", d.place, fullName(d.kind, d.GetName()), d.GetNamespace(), s.namespace, d.GetNamespace())
		}
	}
	return nil
}
