package apiserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// An object is stored as the JSON that clients get, but for its resourceVersion: that is the revision of the write
// that stores it, which nobody knows before. It is put in when the object is read, by its place in the text, so
// that reading decodes nothing.

var metadataStart = []byte(`"metadata":{`)

// appendJSON appends a stored object as clients get it.
func appendJSON(out []byte, o store.Object) []byte {
	at := bytes.Index(o.Value, metadataStart) + len(metadataStart)
	out = append(out, o.Value[:at]...)
	out = append(out, `"resourceVersion":"`...)
	out = strconv.AppendInt(out, o.Revision, 10)
	out = append(out, '"')
	if o.Value[at] != '}' {
		out = append(out, ',')
	}
	return append(out, o.Value[at:]...)
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

// decode reads what encode wrote.
func decode(kind *api.Kind, stored store.Object) (api.Object, error) {
	o := kind.New()
	if err := json.Unmarshal(stored.Value, o); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", kind.Kind, err)
	}
	o.SetResourceVersion(strconv.FormatInt(stored.Revision, 10))
	return o, nil
}

// keyOf returns where an object is stored: "pods/default/web-1", "nodes/node-1". Without a name it is the prefix
// of a namespace, without a namespace that of the kind.
func keyOf(kind *api.Kind, namespace, name string) string {
	key := kind.GroupResource().String() + "/"
	if kind.Namespaced && namespace == "" {
		return key
	} else if kind.Namespaced {
		key += namespace + "/"
	}
	return key + name
}

const protobufType = "application/vnd.kubernetes.protobuf"

// body returns a request's body as JSON.
func (r *request) body() ([]byte, error) {
	body, err := r.read()
	if err != nil {
		return nil, err
	}
	switch contentType := r.contentType(); {
	case contentType == "", contentType == "application/json", len(body) == 0:
	case contentType == protobufType:
		// What clients of Go send unasked. Answers are JSON, which they take as well.
		if err := checkMessage(bytes.TrimPrefix(body, []byte("k8s\x00")), new(int), 0); err != nil {
			return nil, err
		}
		object, _, err := protobuf.NewSerializer(bodies{}, nil).Decode(body, nil, nil)
		if err == nil {
			body, err = json.Marshal(object) // fails if a field has a value that JSON cannot say
		}
		if err != nil {
			return nil, badRequest("the body is not an object in protobuf: %v", err)
		}
	case strings.HasSuffix(contentType, "yaml"):
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil, badRequest("the body is not YAML: %v", err)
		}
	default:
		return nil, unsupportedMediaType(contentType, "application/json, application/yaml, "+protobufType)
	}
	return body, checkShape(body)
}

// read returns a request's body as it is.
func (r *request) read() ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); err != nil && !errors.As(err, &tooLarge) {
		err = badRequest("the body has not come: %v", err)
	}
	return body, err
}

func (r *request) contentType() string {
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return contentType
}

func unsupportedMediaType(got, want string) error {
	text := fmt.Sprintf("the body of the request was in an unknown format (%s) - accepted media types include: %s", got, want)
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", text, 0, false)
}

// bodies makes an empty object of what a client may send: a kind of the table, a review, or what a subresource takes.
type bodies struct{}

// New implements runtime.ObjectCreater.
func (bodies) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if kind := api.ForGVK(gvk); kind != nil {
		return kind.New(), nil
	}
	for _, review := range api.Reviews {
		if review.Kind == gvk.Kind {
			return review.New(), nil
		}
	}
	part := map[string]runtime.Object{"DeleteOptions": &metav1.DeleteOptions{}, "Scale": &autoscalingv1.Scale{},
		"Binding": &corev1.Binding{}, "Eviction": &policyv1.Eviction{}}[gvk.Kind]
	if part == nil {
		return nil, fmt.Errorf("a body of kind %s is not known here", gvk)
	}
	return part, nil
}

// readInto reads a small body that is not an object: what names it in an error.
func (r *request) readInto(into any, what string) error {
	body, err := r.body()
	if err != nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return badRequest("the body is not %s: %v", what, err)
	}
	return nil
}

// readObject reads an object that a client sent and checks that it is what the path says. Unknown and doubled fields
// are refused, warned about or ignored, as the client asked with fieldValidation (KEP-2885).
func (r *request) readObject(body []byte, into api.Object) error {
	wanted := into.GetObjectKind().GroupVersionKind()
	cannot := fmt.Sprintf("%s in version %q cannot be handled as a %s: ", wanted.Kind, wanted.Version, wanted.Kind)
	strict, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return badRequest("%s%v", cannot, err)
	}
	if got := into.GetObjectKind().GroupVersionKind(); !got.Empty() && got != wanted {
		return badRequest("the object is a %s in version %q, but the request is for %s in version %q",
			got.Kind, got.GroupVersion(), wanted.Kind, wanted.GroupVersion())
	}
	into.GetObjectKind().SetGroupVersionKind(wanted)
	r.warnings = nil
	switch r.URL.Query().Get("fieldValidation") {
	case "Strict":
		if len(strict) > 0 {
			return badRequest("%s%v", cannot, runtime.NewStrictDecodingError(strict))
		}
	case "Ignore":
	default:
		for _, unknown := range strict {
			r.warnings = append(r.warnings, unknown.Error())
		}
	}
	namespace, name := into.GetNamespace(), into.GetName()
	if namespace != "" && namespace != r.namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request: %q, %q", namespace, r.namespace)
	}
	if name != "" && r.name != "" && name != r.name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", name, r.name)
	}
	into.SetNamespace(r.namespace)
	into.SetName(cmp.Or(r.name, name))
	return nil
}
