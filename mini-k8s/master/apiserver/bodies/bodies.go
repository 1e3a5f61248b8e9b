// Package bodies reads what clients send: all formats become JSON, of which no more is let through than can be decoded at
// little cost.
//
// Invariants:
//  1. Nothing is decoded before its shape was looked at (shape.go).
//  2. Whatever is wrong with a body is the client's error, of a kind that is answered as a Status.
//
// In Kubernetes: k8s.io/apimachinery/pkg/runtime/serializer, with CBOR as well (KEP-4222). What a body may cost is bounded by
// its size and by limits of the decoders.
package bodies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

// MaxSize bounds what a client may send, in bytes: as much as the real API server takes.
const MaxSize = 3 << 20

const protobufType = "application/vnd.kubernetes.protobuf"

// JSON returns the body of a request as JSON.
func JSON(r *http.Request) ([]byte, error) {
	body, contentType, err := read(r)
	if err != nil {
		return nil, err
	}
	switch {
	case contentType == "", contentType == "application/json", len(body) == 0:
	case contentType == protobufType:
		body, err = fromProtobuf(body)
	case strings.HasSuffix(contentType, "yaml"):
		if body, err = yaml.YAMLToJSON(body); err != nil {
			err = badRequest("the body is not YAML: %v", err)
		}
	default:
		err = unsupported(contentType, "application/json", "application/yaml", protobufType)
	}
	if err != nil {
		return nil, err
	}
	return body, checkJSON(body)
}

// Into reads a small body, which may be missing. What it is to be stands in an error.
func Into(r *http.Request, into any, what string) error {
	body, err := JSON(r)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return badRequest("the body is not %s: %v", what, err)
	}
	return nil
}

// read returns a body as it is, and its type.
func read(r *http.Request) (body []byte, contentType string, err error) {
	body, err = io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); err != nil && !errors.As(err, &tooLarge) {
		err = badRequest("the body has not come: %v", err)
	}
	contentType, _, _ = mime.ParseMediaType(r.Header.Get("Content-Type"))
	return body, contentType, err
}

// fromProtobuf returns as JSON what clients of Go send unasked. Answers are JSON, which they take as well.
func fromProtobuf(body []byte) ([]byte, error) {
	if err := checkProtobuf(bytes.TrimPrefix(body, []byte("k8s\x00")), new(int), 0); err != nil {
		return nil, err
	}
	object, _, err := protobuf.NewSerializer(known{}, nil).Decode(body, nil, nil)
	if err == nil {
		body, err = json.Marshal(object) // fails if a field has a value that JSON cannot say
	}
	if err != nil {
		return nil, badRequest("the body is not an object in protobuf: %v", err)
	}
	return body, nil
}

// unsupported is the error for a body of another type than is taken.
func unsupported(got string, taken ...string) error {
	text := fmt.Sprintf("the body of the request was in an unknown format (%s) - accepted media types include: %s", got, strings.Join(taken, ", "))
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", text, 0, false)
}

func badRequest(format string, values ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, values...))
}

// known makes an empty object of what a client may send: a kind of the table, a review, or what a subresource takes.
type known struct{}

// New implements runtime.ObjectCreater.
func (known) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if kind := api.ForGVK(gvk); kind != nil {
		return kind.New(), nil
	}
	for _, review := range api.Reviews {
		if review.Kind == gvk.Kind {
			return review.New(), nil
		}
	}
	part := map[string]runtime.Object{"DeleteOptions": &metav1.DeleteOptions{}, "Scale": &autoscalingv1.Scale{},
		"HorizontalPodAutoscaler": &autoscalingv1.HorizontalPodAutoscaler{}, // kubectl autoscale before 1.33
		"Binding":                 &corev1.Binding{}, "Eviction": &policyv1.Eviction{}}[gvk.Kind]
	if part == nil {
		return nil, fmt.Errorf("a body of kind %s is not known here", gvk)
	}
	return part, nil
}
