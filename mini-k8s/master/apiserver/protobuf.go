package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"

	"workshop/mini-k8s/api"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const protobufType = "application/vnd.kubernetes.protobuf"

// protobufMagic begins every object in protobuf; an envelope that names the kind follows (runtime.Unknown).
var protobufMagic = []byte("k8s\x00")

// protobufToJSON turns a body in protobuf, which is what clients of Go send unasked, into the JSON that the rest of
// the server works with. Answers are JSON, which those clients take as well.
func protobufToJSON(body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, nil
	}
	enveloped, found := bytes.CutPrefix(body, protobufMagic)
	var envelope runtime.Unknown
	if !found {
		return nil, apierrors.NewBadRequest("the body is not an object in protobuf")
	}
	if err := envelope.Unmarshal(enveloped); err != nil {
		return nil, apierrors.NewBadRequest("the body is not an object in protobuf: " + err.Error())
	}
	gvk := schema.FromAPIVersionAndKind(envelope.APIVersion, envelope.Kind)
	object := protobufObject(gvk)
	if object == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a body of kind %s is not known here", gvk))
	}
	if err := object.Unmarshal(envelope.Raw); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the body is not a %s in protobuf: %v", gvk.Kind, err))
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return json.Marshal(object)
}

type unmarshaler interface {
	runtime.Object
	Unmarshal([]byte) error
}

// protobufObject returns an empty object of what a client may send: a kind of the table, or what a subresource takes.
func protobufObject(gvk schema.GroupVersionKind) unmarshaler {
	switch gvk.Kind {
	case "DeleteOptions":
		return &metav1.DeleteOptions{}
	case "Scale":
		return &autoscalingv1.Scale{}
	case "Binding":
		return &corev1.Binding{}
	case "Eviction":
		return &policyv1.Eviction{}
	}
	if kind := api.ForGVK(gvk); kind != nil {
		object, _ := kind.New().(unmarshaler)
		return object
	}
	return nil
}
