// Package access decides who calls, what they may do, and who may join the cluster.
//
// Invariants:
//  1. Who calls is what the cluster's CA has signed, in a certificate or a bearer token, and nothing that they say themselves.
//  2. What is not allowed is forbidden, and a decision that cannot be made is an error.
//  3. It changes nothing.
//
// In Kubernetes: chains of authenticators and authorizers: certificates, tokens of service accounts, OpenID Connect; RBAC, the node
// authorizer, webhooks. Workers join by way of CertificateSigningRequests, which a controller signs (kubeadm, KEP-2227).
package access

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Control decides. What it must know of objects for that, the server tells it: each function fails with a NotFound if
// there is no such object.
type Control struct {
	CA     *pki.CA // nil: nobody can prove who they are
	Pod    func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Pods   func(ctx context.Context, namespace string) ([][]byte, error) // their JSON, for most are only looked through
	Node   func(ctx context.Context, namespace, name string) (*corev1.Node, error)
	Secret func(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

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

// openPaths may be read before a client can prove who it is.
var openPaths = map[string]bool{"/healthz": true, "/livez": true, "/readyz": true, "/version": true, "/join": true}

// Authenticate finds out who calls: by their bearer token, or else by their certificate, which the TLS layer has
// verified. A token counts more, and must be good: kubectl --token shows the certificate of its kubeconfig as well.
func (c *Control) Authenticate(r *http.Request) (User, error) {
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
	case shown && c.CA != nil:
		if user := c.CA.TokenUser(token); user != "" {
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
