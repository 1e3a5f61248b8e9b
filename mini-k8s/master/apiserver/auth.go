package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// User is who calls: "admin", "viewer", "node:<name>" or "component:<name>". It stands in the client's
// certificate or bearer token, which the cluster's own CA has made.
type User string

// Node returns the name of the node that the user is, or "".
func (u User) Node() string {
	name, _ := strings.CutPrefix(string(u), "node:")
	if name == string(u) {
		return ""
	}
	return name
}

func (u User) rules() bool { return u == "admin" || strings.HasPrefix(string(u), "component:") }

type userKey struct{}

func withUser(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

func userOf(r *http.Request) User {
	u, _ := r.Context().Value(userKey{}).(User)
	return u
}

// openPaths may be read before a client can prove who it is.
var openPaths = map[string]bool{"/healthz": true, "/livez": true, "/readyz": true, "/version": true, "/join": true}

// authenticate finds out who calls: by their bearer token, or else by their certificate, which the TLS layer has
// verified. A token counts more, and must be good: kubectl --token shows the certificate of its kubeconfig as well.
func (s *Server) authenticate(r *http.Request) (User, error) {
	token, shown := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case openPaths[r.URL.Path]:
		return "", nil
	case shown && s.CA != nil:
		if user := s.CA.TokenUser(token); user != "" {
			return User(user), nil
		}
	case r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		return User(r.TLS.VerifiedChains[0][0].Subject.CommonName), nil
	}
	return "", apierrors.NewUnauthorized("a client certificate or bearer token of this cluster is required: use the kubeconfig that the master wrote")
}

// authorize decides whether the user may do what the request asks. A node may read what pods need, and write only
// itself, its lease, events and the pods that are bound to it: a worker that is broken into endangers no other.
func (s *Server) authorize(r *request) error {
	reads := r.Method == http.MethodGet
	secret := r.kind.Resource == "secrets"
	switch node := r.user.Node(); {
	case r.user.rules():
		return nil
	case r.user == "viewer" && reads && !secret:
		return nil
	case node == "":
	case reads && !secret:
		return nil
	case r.kind.Resource == "events", r.kind.Resource == "nodes" && r.Method == http.MethodPost:
		return nil
	case r.kind.Resource == "nodes" && r.name == node && r.Method != http.MethodDelete:
		return nil
	case r.kind.Resource == "leases" && r.namespace == corev1.NamespaceNodeLease && (r.name == node || r.Method == http.MethodPost):
		return nil
	case r.kind.Resource == "pods" && (r.Method == http.MethodDelete || strings.HasSuffix(r.URL.Path, "/status")):
		pod, _, err := s.read(r.Context(), api.KindOf[*corev1.Pod](), r.namespace, r.name)
		if err != nil {
			return err
		}
		if pod.(*corev1.Pod).Spec.NodeName == node {
			return nil
		}
	}
	return apierrors.NewForbidden(r.kind.GroupResource(), r.name, errForbidden(r))
}

func errForbidden(r *request) error {
	verb := map[string]string{"GET": "read", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[r.Method]
	return fmt.Errorf("user %q may not %s resource %q", r.user, verb, r.kind.Resource)
}
