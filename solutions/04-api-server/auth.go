package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	return "", apierrors.NewUnauthorized(
		"a client certificate or bearer token of this cluster is required: use the kubeconfig that the master wrote")
}

// authorize decides whether the user may do what the request asks. A node may read what pods need, and write only
// itself, its lease, events and the pods that are bound to it: a worker that is broken into endangers no other.
func (s *Server) authorize(r *request) error {
	reads := r.verb == "get" || r.verb == "list"
	secret := r.kind.Resource == "secrets"
	switch node := r.user.Node(); {
	case r.user.rules():
		return nil
	case r.user == "viewer" && reads && !secret:
		return nil
	case node == "":
	case reads && !secret:
		return nil
	case r.kind.Resource == "events", r.kind.Resource == "nodes" && r.verb == "create":
		return nil
	case r.kind.Resource == "nodes" && r.name == node && r.verb != "delete":
		return nil
	case r.kind.Resource == "leases" && r.namespace == corev1.NamespaceNodeLease && (r.name == node || r.verb == "create"):
		return nil
	case r.kind.Resource == "pods" && (r.verb == "delete" || r.subresource == "status"):
		pod, err := read[*corev1.Pod](r.Context(), s, r.namespace, r.name)
		if err != nil || pod.Spec.NodeName == node {
			return err
		}
	}
	return r.forbidden()
}

func (r *request) forbidden() error {
	reason := fmt.Errorf("user %q may not %s resource %q", r.user, r.verb, r.kind.Resource)
	return apierrors.NewForbidden(r.kind.GroupResource(), r.name, reason)
}

// joinCA gives the CA's certificate to a worker that wants to join. The worker does not trust it yet: it compares
// the hash with the one in its token.
func (s *Server) joinCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(s.CA.CertPEM)
}

// join signs the certificate request of a worker that knows the join token. The key never leaves the worker.
func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !s.CA.CheckJoinSecret(secret) {
		return apierrors.NewUnauthorized("the join token is not that of this cluster: print it with `mini-k8s token` on the master")
	}
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	certificate, err := s.CA.SignRequest(request, pki.NodePrefix)
	if err != nil {
		return badRequest("%v", err)
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(certificate)
	return nil
}
