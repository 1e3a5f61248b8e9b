package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// User is who calls: "admin", "viewer", "node:<name>" or "component:<name>". It stands in the client's
// certificate or bearer token, which the cluster's own CA has made.
type User string

// Node returns the name of the node that the user is, or "".
func (u User) Node() string {
	if name, is := strings.CutPrefix(string(u), "node:"); is {
		return name
	}
	return ""
}

func (u User) rules() bool { return u == "admin" || strings.HasPrefix(string(u), "component:") }

type userKey struct{} // of the User in a request's context

// openPaths may be read before a client can prove who it is.
var openPaths = map[string]bool{"/healthz": true, "/livez": true, "/readyz": true, "/version": true, "/join": true}

// authenticate finds out who calls: by their bearer token, or else by their certificate, which the TLS layer has
// verified. A token counts more, and must be good: kubectl --token shows the certificate of its kubeconfig as well.
func (s *Server) authenticate(r *http.Request) (User, error) {
	for header := range r.Header {
		if strings.HasPrefix(header, "Impersonate-") {
			return "", apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(
				"impersonation (kubectl --as) is out of scope here: use --token with the user's own, from `mini-k8s token --user NAME`"))
		}
	}
	token, shown := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case openPaths[r.URL.Path]:
		return "", nil
	case shown && s.CA != nil:
		if user := s.CA.TokenUser(token); user != "" {
			return User(user), nil
		}
		return "", apierrors.NewUnauthorized(
			"the bearer token is not one of this cluster: print one with `mini-k8s token --user NAME` on the master")
	case r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		return User(r.TLS.VerifiedChains[0][0].Subject.CommonName), nil
	}
	return "", apierrors.NewUnauthorized(
		"a client certificate or bearer token of this cluster is required: use the kubeconfig that the master wrote")
}

// authorize refuses a request to a resource that its user may not make.
func (s *Server) authorize(r *request) error {
	allowed, err := s.may(r.Context(), r.user, authorizationv1.ResourceAttributes{Verb: r.verb, Group: r.kind.Group,
		Resource: r.kind.Resource, Subresource: r.subresource, Namespace: r.namespace, Name: r.name})
	if err == nil && !allowed {
		err = r.forbidden()
	}
	return err
}

func (r *request) forbidden() error {
	reason := fmt.Errorf("user %q may not %s resource %q", r.user, r.verb, path.Join(r.kind.Resource, r.subresource))
	return apierrors.NewForbidden(r.kind.GroupResource(), r.name, reason)
}

// may decides whether a user may do something to resources. It is asked before every request to them, and by those who want
// to know beforehand (review.go): there "*" is each verb or resource, and no name is all of them.
func (s *Server) may(ctx context.Context, user User, do authorizationv1.ResourceAttributes) (bool, error) {
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
	return s.nodeMay(ctx, user.Node(), do)
}

// nodeMay decides what a node may beside reading: write its own entry's status, its lease, events, and of the pods that are
// bound to it the status and the end, and read their Secrets. A worker that is broken into endangers no other.
//
// In Kubernetes: the node authorizer, which guards ConfigMaps and other nodes' pods as well, and the admission plug-in
// NodeRestriction.
func (s *Server) nodeMay(ctx context.Context, node string, do authorizationv1.ResourceAttributes) (bool, error) {
	switch do.Verb + " " + path.Join(do.Resource, do.Subresource) {
	case "create events", "update events", "patch events", "create nodes": // see checkNew
		return true, nil
	case "update nodes/status", "patch nodes/status":
		return do.Name == node, nil
	case "create leases", "update leases", "patch leases":
		return do.Namespace == corev1.NamespaceNodeLease && (do.Name == node || do.Verb == "create"), nil
	case "delete pods", "create pods/eviction", "update pods/status", "patch pods/status":
		pod, err := read[*corev1.Pod](ctx, s, do.Namespace, do.Name)
		return err == nil && pod.Spec.NodeName == node, err
	case "get secrets":
		return s.usesSecret(ctx, node, do.Namespace, do.Name)
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
func (s *Server) usesSecret(ctx context.Context, node, namespace, name string) (bool, error) {
	pods, _, err := s.Store.List(ctx, keyOf(api.KindOf[*corev1.Pod](), namespace, ""))
	return namespace != "" && slices.ContainsFunc(pods, func(stored store.Object) bool {
		var pod any
		json.Unmarshal(stored.Value, &pod) // encode wrote it
		return stands(pod, "spec.nodeName", node) && slices.ContainsFunc(secretNames, func(path string) bool { return stands(pod, path, name) })
	}), err
}

// stands reports whether a text stands at a path, which leads into each element of a list.
func stands(value any, path, text string) bool {
	switch value := value.(type) {
	case []any:
		return slices.ContainsFunc(value, func(element any) bool { return stands(element, path, text) })
	case map[string]any:
		field, rest, _ := strings.Cut(path, ".")
		return stands(value[field], rest, text)
	}
	return path == "" && value == text
}

// checkNew refuses what a node may not create: another than itself, and of itself what others give it or trust it by.
func (r *request) checkNew(o api.Object) error {
	by := r.user.Node()
	if by == "" || r.kind.Resource == "events" {
		return nil
	}
	if o.GetName() != by {
		return r.forbidden()
	}
	node, isNode := o.(*corev1.Node)
	refused := isNode && !equality.Semantic.DeepEqual(node.Spec, corev1.NodeSpec{})
	for label := range o.GetLabels() {
		refused = refused || strings.HasPrefix(label, "node-role.kubernetes.io/") || strings.HasPrefix(label, "node-restriction.kubernetes.io/")
	}
	if refused {
		return apierrors.NewForbidden(r.kind.GroupResource(), by, errors.New(
			"a node may give itself neither a spec (taints, podCIDR) nor labels of node-role.kubernetes.io and node-restriction.kubernetes.io"))
	}
	return nil
}
