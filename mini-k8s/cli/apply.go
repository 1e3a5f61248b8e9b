package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

func applyCommand() *cli.Command {
	return onCluster("apply", "Make the cluster hold what manifests say", "-f FILE|DIRECTORY|-",
		"mini-k8s apply -f web.yaml    create or change what the file describes", (*session).apply, filenameFlag())
}

func (s *session) apply(args []string) error {
	files := s.flags.StringSlice("filename")
	if len(files) == 0 || len(args) > 0 {
		return errors.New("say what to apply: mini-k8s apply -f FILE")
	}
	documents, err := s.readManifests(files)
	if err != nil {
		return err
	}
	for _, d := range documents {
		verb, err := s.applyOne(d)
		if err != nil {
			return fmt.Errorf("apply %s: %w", d, err)
		}
		fmt.Fprintln(s.out, d, verb)
	}
	return nil
}

// applyOne creates the object, or changes it by a patch of three: what was applied last time and is no longer in the
// manifest goes, what is in the manifest is set, and what others have set is left alone. What was applied last time
// stands in an annotation, just as kubectl writes it.
func (s *session) applyOne(d document) (verb string, err error) {
	modified, err := withLastApplied(&d.Unstructured)
	if err != nil {
		return "", err
	}
	strict := url.Values{"fieldValidation": {"Strict"}}
	current, err := s.do(client.Request{Method: http.MethodGet, Path: d.path()})
	if apierrors.IsNotFound(err) {
		collection := d.kind.Path(d.GetNamespace(), "", "")
		_, err = s.do(client.Request{Method: http.MethodPost, Path: collection, Query: strict, Body: modified})
		return "created", err
	} else if err != nil {
		return "", err
	}
	var live unstructured.Unstructured
	if err := live.UnmarshalJSON(current); err != nil {
		return "", fmt.Errorf("unreadable answer: %w", err)
	}
	original := live.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	schema, err := strategicpatch.NewPatchMetaFromStruct(d.kind.New()) // knows which lists are merged, and by which key
	if err != nil {
		return "", err
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch([]byte(original), modified, current, schema, true)
	if err != nil {
		return "", err
	}
	if string(patch) == "{}" {
		return "unchanged", nil
	}
	_, err = s.do(client.Request{Method: http.MethodPatch, Path: d.path(), Query: strict, Body: patch,
		ContentType: string(types.StrategicMergePatchType)})
	return "configured", err
}

// withLastApplied returns the object as JSON with itself in the annotation. kubectl finds its own text in it, for this
// is the one that it writes: with annotations even if there are none.
func withLastApplied(o *unstructured.Unstructured) ([]byte, error) {
	annotations := o.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	if err := unstructured.SetNestedStringMap(o.Object, annotations, "metadata", "annotations"); err != nil {
		return nil, err
	}
	itself, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	o.SetAnnotations(labels.Merge(annotations, labels.Set{corev1.LastAppliedConfigAnnotation: string(itself)}))
	return o.MarshalJSON()
}
