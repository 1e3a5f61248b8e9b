package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// An object is stored as the JSON that clients get, but for its resourceVersion: that is the revision of the write
// that stores it, which nobody knows before. It is put in when the object is read, by its place in the text, so
// that reading decodes nothing.

var metadataStart = []byte(`"metadata":{`)

// withRevision returns the stored JSON with the resourceVersion in it.
func withRevision(value []byte, revision int64) []byte {
	at := bytes.Index(value, metadataStart) + len(metadataStart)
	out := make([]byte, 0, len(value)+len(`"resourceVersion":"",`)+20)
	out = append(out, value[:at]...)
	out = append(out, `"resourceVersion":"`...)
	out = strconv.AppendInt(out, revision, 10)
	if value[at] == '}' {
		out = append(out, '"')
	} else {
		out = append(out, `",`...)
	}
	return append(out, value[at:]...)
}

// encode returns the object as it is stored.
func encode(o api.Object) ([]byte, error) {
	revision := o.GetResourceVersion()
	o.SetResourceVersion("")
	defer o.SetResourceVersion(revision)
	value, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	return value, nil
}

// decodeStored reads what encode wrote.
func decodeStored(kind *api.Kind, value []byte, revision int64) (api.Object, error) {
	o := kind.New()
	if err := json.Unmarshal(value, o); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", kind.Kind, err)
	}
	o.SetResourceVersion(strconv.FormatInt(revision, 10))
	return o, nil
}

// keyOf returns where an object is stored: "pods/default/web-1", "nodes/node-1". Without a name it is the prefix
// of a namespace, without a namespace that of the kind.
func keyOf(kind *api.Kind, namespace, name string) string {
	key := kind.GroupResource().String() + "/"
	if kind.Namespaced {
		if namespace == "" {
			return key
		}
		key += namespace + "/"
	}
	return key + name
}

// read returns an object of the store, or NotFound.
func (s *Server) read(ctx context.Context, kind *api.Kind, namespace, name string) (api.Object, store.Object, error) {
	stored, err := s.Store.Get(ctx, keyOf(kind, namespace, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, stored, apierrors.NewNotFound(kind.GroupResource(), name)
	} else if err != nil {
		return nil, stored, err
	}
	o, err := decodeStored(kind, stored.Value, stored.Revision)
	return o, stored, err
}

// readBody returns a request's body as JSON.
func (r *request) readBody() ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Header.Get("Content-Type") == "", contentType == "application/json":
		return body, nil
	case contentType == protobufType:
		return protobufToJSON(body)
	case err == nil && strings.HasSuffix(contentType, "yaml"):
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil, apierrors.NewBadRequest("the body is not YAML: " + err.Error())
		}
		return body, nil
	}
	return nil, unsupportedMediaType(r.Header.Get("Content-Type"), "application/json, application/yaml, "+protobufType)
}

func unsupportedMediaType(got, want string) error {
	err := apierrors.NewGenericServerResponse(415, "", schema.GroupResource{}, "", "", 0, false)
	err.ErrStatus.Reason = metav1.StatusReasonUnsupportedMediaType
	err.ErrStatus.Message = fmt.Sprintf("the body of the request was in an unknown format (%s) - accepted media types include: %s", got, want)
	return err
}

// decode reads an object that a client sent and checks that it is what the path says. Unknown and doubled fields
// are refused, warned about or ignored, as the client asked with fieldValidation (KEP-2885).
func (r *request) decode(body []byte, into api.Object) error {
	kind := r.kind
	wanted := into.GetObjectKind().GroupVersionKind()
	strict, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", kind.Kind, kind.Version, kind.Kind, err))
	}
	if got := into.GetObjectKind().GroupVersionKind(); !got.Empty() && got != wanted {
		return apierrors.NewBadRequest(fmt.Sprintf("the object is a %s in version %q, but the request is for %s in version %q",
			got.Kind, got.GroupVersion(), wanted.Kind, wanted.GroupVersion()))
	}
	into.GetObjectKind().SetGroupVersionKind(wanted)
	r.warnings = nil
	switch r.URL.Query().Get("fieldValidation") {
	case "Strict":
		if len(strict) > 0 {
			return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: strict decoding error: %v",
				kind.Kind, kind.Version, kind.Kind, joinErrors(strict)))
		}
	case "Ignore":
	default:
		for _, unknown := range strict {
			r.warnings = append(r.warnings, unknown.Error())
		}
	}
	return nil
}

// intoNamespace sets what the path says and refuses an object that says otherwise.
func (r *request) intoNamespace(o api.Object) error {
	if ns := o.GetNamespace(); ns != "" && ns != r.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the provided object does not match the namespace sent on the request: %q, %q", ns, r.namespace))
	}
	if r.name != "" && o.GetName() != "" && o.GetName() != r.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", o.GetName(), r.name))
	}
	o.SetNamespace(r.namespace)
	if r.name != "" {
		o.SetName(r.name)
	}
	return nil
}

func joinErrors(all []error) string {
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return strings.Join(texts, ", ")
}

func resourceOf(name string) schema.GroupResource { return schema.GroupResource{Resource: name} }
