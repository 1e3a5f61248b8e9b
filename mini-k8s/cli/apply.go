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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "Make the cluster hold what manifests say",
		UsageText: "mini-k8s apply -f FILE|DIRECTORY|-",
		Description: "mini-k8s apply -f web.yaml                     create or change what the file describes\n" +
			"mini-k8s apply -f manifests/ --dry-run=server  ask the server what would happen",
		Flags: clusterFlags(
			&cli.StringSliceFlag{Name: "filename", Aliases: []string{"f"}, Usage: "manifest `FILE`, directory, or - for stdin"},
			&cli.StringFlag{Name: "dry-run", Value: "none", Usage: "`server`: let the server check everything and store nothing"}),
		Action: onCluster((*session).apply),
	}
}

func (s *session) apply(args []string) error {
	files, dryRun := s.flags.StringSlice("filename"), s.flags.String("dry-run")
	switch {
	case len(files) == 0 || len(args) > 0:
		return errors.New("say what to apply: mini-k8s apply -f FILE")
	case dryRun != "none" && dryRun != "server":
		return fmt.Errorf("--dry-run=%s: only --dry-run=server is here, for it is the server that knows", dryRun)
	}
	documents, err := readManifests(files, s.flags.App.Reader)
	if err != nil {
		return err
	}
	if err := s.inNamespace(documents); err != nil {
		return err
	}
	query, suffix := url.Values{"fieldValidation": {"Strict"}}, ""
	if dryRun == "server" {
		query.Set("dryRun", metav1.DryRunAll)
		suffix = " (server dry run)"
	}
	var errs []error
	for _, d := range documents { // as kubectl does, go on with the others when one fails
		verb, err := s.applyOne(d, query)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: apply %s: %w", d.place, fullName(d.kind, d.GetName()), err))
			continue
		}
		fmt.Fprintf(s.out, "%s %s%s\n", fullName(d.kind, d.GetName()), verb, suffix)
	}
	return errors.Join(errs...)
}

// applyOne creates the object, or changes it by a patch of three: what was applied last time and is no longer in the
// manifest goes, what is in the manifest is set, and what others have set is left alone. What was applied last time
// stands in an annotation, just as kubectl writes it.
func (s *session) applyOne(d document, query url.Values) (verb string, err error) {
	modified, err := withLastApplied(d.Unstructured)
	if err != nil {
		return "", err
	}
	path := d.kind.Path(d.GetNamespace(), d.GetName(), "")
	current, err := s.do(client.Request{Method: http.MethodGet, Path: path})
	if apierrors.IsNotFound(err) {
		_, err = s.do(client.Request{Method: http.MethodPost, Path: d.kind.Path(d.GetNamespace(), "", ""), Query: query, Body: modified})
		return "created", err
	} else if err != nil {
		return "", err
	}
	patch, err := threeWayPatch(d, modified, current)
	if err != nil {
		return "", err
	}
	if string(patch) == "{}" {
		return "unchanged", nil
	}
	_, err = s.do(client.Request{Method: http.MethodPatch, Path: path, Query: query, Body: patch, ContentType: string(types.StrategicMergePatchType)})
	return "configured", err
}

// withLastApplied returns the object as JSON with itself in the annotation.
func withLastApplied(o *unstructured.Unstructured) ([]byte, error) {
	o = o.DeepCopy()
	annotations := o.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	// kubectl writes the empty map too, and must find its own text again.
	if err := unstructured.SetNestedStringMap(o.Object, annotations, "metadata", "annotations"); err != nil {
		return nil, err
	}
	itself, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	annotations[corev1.LastAppliedConfigAnnotation] = string(itself)
	o.SetAnnotations(annotations)
	return o.MarshalJSON()
}

func threeWayPatch(d document, modified, current []byte) ([]byte, error) {
	var live unstructured.Unstructured
	if err := live.UnmarshalJSON(current); err != nil {
		return nil, fmt.Errorf("unreadable answer: %w", err)
	}
	original := live.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	schema, err := strategicpatch.NewPatchMetaFromStruct(d.kind.New())
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch([]byte(original), modified, current, schema, true)
	if err != nil {
		return nil, fmt.Errorf("compare with what the server holds: %w", err)
	}
	return patch, nil
}
