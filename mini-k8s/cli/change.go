package cli

import (
	"errors"
	"fmt"
	"net/http"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// The commands that change what the cluster holds: apply, delete, scale.

func (s *session) apply(args []string) error {
	if !s.IsSet("filename") || len(args) > 0 {
		return errors.New("say what to apply: mini-k8s apply -f FILE")
	}
	objects, err := s.readManifests()
	if err != nil {
		return err
	}
	for _, o := range objects {
		verb, err := s.applyOne(o)
		if err != nil {
			return fmt.Errorf("apply %s: %w", o, err)
		}
		fmt.Fprintln(s.out, o, verb)
	}
	return nil
}

// applyOne creates the object, or changes it by a patch of three: what was applied last time and is no longer in the
// manifest goes, what is in the manifest is set, and what others have set is left alone. What was applied last time
// stands in an annotation, just as kubectl writes it.
func (s *session) applyOne(o object) (verb string, err error) {
	modified, err := withLastApplied(o)
	if err != nil {
		return "", err
	}
	current, err := s.do(client.Request{Method: http.MethodGet, Path: o.path()})
	if apierrors.IsNotFound(err) {
		collection := o.kind.Path(o.GetNamespace(), "", "")
		_, err = s.do(client.Request{Method: http.MethodPost, Path: collection, Body: modified})
		return "created", err
	} else if err != nil {
		return "", err
	}
	var live unstructured.Unstructured
	if err := live.UnmarshalJSON(current); err != nil {
		return "", fmt.Errorf("unreadable answer: %w", err)
	}
	original := live.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	schema, err := strategicpatch.NewPatchMetaFromStruct(o.kind.New()) // knows which lists are merged, and by which key
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
	_, err = s.do(client.Request{Method: http.MethodPatch, Path: o.path(), Body: patch,
		ContentType: string(types.StrategicMergePatchType)})
	return "configured", err
}

// withLastApplied returns the object as JSON with itself in the annotation. kubectl finds its own text in it, for this
// is the one that it writes: with annotations even if there are none.
func withLastApplied(o object) ([]byte, error) {
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

// delete returns when the server knows what is to go, not when it is gone: a pod has its grace period to end.
func (s *session) delete(args []string) error {
	objects, err := s.condemned(args)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		fmt.Fprintln(s.App.ErrWriter, "No resources found")
	}
	for _, o := range objects {
		if _, err := s.do(client.Request{Method: http.MethodDelete, Path: o.path()}); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s %q deleted\n", qualified(o.kind), o.name)
	}
	return nil
}

// condemned finds out which objects are meant, without touching them.
func (s *session) condemned(args []string) ([]object, error) {
	if s.IsSet("filename") {
		if len(args) > 0 || len(s.selection) > 0 {
			return nil, errors.New("give -f alone: the files say what to delete")
		}
		return s.readManifests()
	}
	targets, err := s.targets(args)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if t.name == "" && len(s.selection) == 0 {
			return nil, fmt.Errorf("which %s? Give names or -l LABELS", t.kind.Resource)
		}
	}
	return s.objects(targets)
}

func (s *session) scale(args []string) error {
	replicas := s.Int("replicas")
	if replicas < 0 {
		return errors.New("say how many there should be: --replicas 3")
	}
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t.name == "" || !t.kind.HasSubresource("scale") {
			return fmt.Errorf("%s cannot be scaled: write deployment/NAME or replicaset/NAME", t)
		}
		_, err := s.do(client.Request{Method: http.MethodPatch, Path: t.kind.Path(s.namespace, t.name, "scale"),
			ContentType: string(types.MergePatchType), Body: fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)})
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, t, "scaled")
	}
	return nil
}
