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
	"fmt"
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

// JSON returns a body of a content type as JSON.
func JSON(contentType string, body []byte) ([]byte, error) {
	switch {
	case contentType == "", contentType == "application/json", len(body) == 0:
	case contentType == protobufType:
		// What clients of Go send unasked. Answers are JSON, which they take as well.
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
	case strings.HasSuffix(contentType, "yaml"):
		var err error
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil, badRequest("the body is not YAML: %v", err)
		}
	default:
		return nil, unsupported(contentType, "application/json", "application/yaml", protobufType)
	}
	return body, checkJSON(body)
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
		"Binding": &corev1.Binding{}, "Eviction": &policyv1.Eviction{}}[gvk.Kind]
	if part == nil {
		return nil, fmt.Errorf("a body of kind %s is not known here", gvk)
	}
	return part, nil
}
