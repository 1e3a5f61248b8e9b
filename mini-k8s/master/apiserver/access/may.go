package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Attributes say what somebody wants to do, and to which resource.
type Attributes = authorizationv1.ResourceAttributes

// Authorize refuses what a user may not do.
func (c *Control) Authorize(ctx context.Context, user User, do Attributes) error {
	allowed, err := c.May(ctx, user, do)
	if err == nil && !allowed {
		err = forbidden(user, do)
	}
	return err
}

func forbidden(user User, do Attributes) error {
	reason := fmt.Errorf("user %q may not %s resource %q", user, do.Verb, path.Join(do.Resource, do.Subresource))
	return apierrors.NewForbidden(schema.GroupResource{Group: do.Group, Resource: do.Resource}, do.Name, reason)
}

// May decides whether a user may do something to resources. It is asked before every request to them, and by those who want
// to know beforehand (review.go): there "*" is each verb or resource, and no name is all of them.
func (c *Control) May(ctx context.Context, user User, do Attributes) (bool, error) {
	reads := slices.Contains([]string{"get", "list", "watch"}, do.Verb) && do.Resource != "secrets" && do.Resource != "*"
	switch {
	case user.rules():
		return true, nil
	case strings.HasPrefix(do.Resource, "selfsubject"):
		return do.Verb == "create", nil
	case user == "viewer":
		// What only shows. To exec, for example, can be a GET as well.
		return reads && slices.Contains([]string{"", "status", "scale", "log", "history"}, do.Subresource), nil
	case user.Node() == "":
		return false, nil
	case reads && (do.Subresource == "" || do.Subresource == "status"):
		return true, nil
	}
	return c.nodeMay(ctx, user.Node(), do)
}

// nodeMay decides what a node may beside reading: write its own entry's status, its lease, events, and of the pods that are
// bound to it the status and the end, and read their Secrets. A worker that is broken into endangers no other.
//
// In Kubernetes: the node authorizer, which guards ConfigMaps and other nodes' pods as well, and the admission plug-in
// NodeRestriction.
func (c *Control) nodeMay(ctx context.Context, node string, do Attributes) (bool, error) {
	switch do.Verb + " " + path.Join(do.Resource, do.Subresource) {
	case "create events", "update events", "patch events", "create nodes", "create pods": // see CheckNew
		return true, nil
	case "update nodes/status", "patch nodes/status":
		return do.Name == node, nil
	case "create leases", "update leases", "patch leases":
		return do.Namespace == corev1.NamespaceNodeLease && (do.Name == node || do.Verb == "create"), nil
	case "delete pods", "create pods/eviction", "update pods/status", "patch pods/status":
		pod, err := c.Pod(ctx, do.Namespace, do.Name)
		return err == nil && pod.Spec.NodeName == node, err
	case "get secrets":
		return c.usesSecret(ctx, node, do.Namespace, do.Name)
	}
	return false, nil
}

// secretNames are the places where a pod names the Secrets that it uses.
var secretNames = []string{
	"spec.imagePullSecrets.name", "spec.volumes.secret.secretName",
	"spec.containers.env.valueFrom.secretKeyRef.name", "spec.containers.envFrom.secretRef.name",
	"spec.initContainers.env.valueFrom.secretKeyRef.name", "spec.initContainers.envFrom.secretRef.name",
}

// usesSecret reports whether a pod that is bound to the node uses a Secret.
func (c *Control) usesSecret(ctx context.Context, node, namespace, name string) (bool, error) {
	pods, err := c.Pods(ctx, namespace)
	return namespace != "" && name != "" && slices.ContainsFunc(pods, func(text []byte) bool {
		var pod any
		json.Unmarshal(text, &pod) // the server wrote it
		return stands(pod, "spec.nodeName", node) && slices.ContainsFunc(secretNames, func(path string) bool { return stands(pod, path, name) })
	}), err
}

// stands reports whether a text stands at a path, which leads into each element of a list; with no text, whether anything does.
func stands(value any, path, text string) bool {
	switch value := value.(type) {
	case []any:
		return slices.ContainsFunc(value, func(element any) bool { return stands(element, path, text) })
	case map[string]any:
		field, rest, _ := strings.Cut(path, ".")
		return stands(value[field], rest, text)
	}
	return path == "" && value != nil && (value == text || text == "")
}

// CheckNew refuses what a node may not create: another than itself, and of itself what others give it or trust it by; and pods,
// but for the mirrors of those that it runs of its own accord. They get no Secret: by that it could read any.
func CheckNew(user User, do Attributes, o api.Object) error {
	by := user.Node()
	if by == "" || do.Resource == "events" {
		return nil
	}
	if pod, isPod := o.(*corev1.Pod); isPod {
		text, err := json.Marshal(pod)
		var plain any
		err = errors.Join(err, json.Unmarshal(text, &plain))
		if err != nil || pod.Annotations[corev1.MirrorPodAnnotationKey] == "" || pod.Spec.NodeName != by ||
			slices.ContainsFunc(secretNames, func(path string) bool { return stands(plain, path, "") }) {
			return forbidden(user, do)
		}
		return nil
	}
	if o.GetName() != by {
		return forbidden(user, do)
	}
	node, isNode := o.(*corev1.Node)
	refused := isNode && !equality.Semantic.DeepEqual(node.Spec, corev1.NodeSpec{})
	for label := range o.GetLabels() {
		refused = refused || strings.HasPrefix(label, "node-role.kubernetes.io/") || strings.HasPrefix(label, "node-restriction.kubernetes.io/")
	}
	if refused {
		return apierrors.NewForbidden(schema.GroupResource{Group: do.Group, Resource: do.Resource}, by, errors.New(
			"a node may give itself neither a spec (taints, podCIDR) nor labels of node-role.kubernetes.io and node-restriction.kubernetes.io"))
	}
	return nil
}
