package access

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/pki"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/util"
	"k8s.io/cluster-bootstrap/util/secrets"
)

// ServeCA gives the CA's certificate to a worker that wants to join. The worker does not trust it yet: it compares
// the hash with the one in its token.
func (c *Control) ServeCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(c.CA.CertPEM)
}

// Join signs the certificate request of a worker that shows a join token. The key never leaves the worker.
//
// The name of a node that is alive is refused: another machine would get its pods, and their Secrets. One that is not Ready
// may come back with a new key, after its disk was lost. kubeadm does the same.
func (c *Control) Join(w http.ResponseWriter, r *http.Request) error {
	id, err := c.checkToken(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	user, key, err := pki.ReadRequest(body)
	node := User(user).Node()
	if err == nil && node == "" {
		err = fmt.Errorf("a certificate for %q is not to be had by joining", user)
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if known, err := c.Node(r.Context(), "", node); err == nil && api.NodeReady(known) {
		return apierrors.NewBadRequest("node " + node + " is there and Ready: choose another name with --node, or stop it and wait until it is not")
	} else if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	// It is good for a server, too, and so for no other address than the node's own: that could be the master's.
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	certificate, err := c.CA.Sign(user, key, address)
	if err != nil {
		return err
	}
	slog.Info("node joins", "node", node, "address", address, "token", id)
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(certificate)
	return nil
}

// checkToken returns the ID of the join token that the request shows, if it is good. Tokens are kept as kubeadm keeps them, in
// Secrets: it is good until it expires or its Secret is deleted.
func (c *Control) checkToken(r *http.Request) (id string, err error) {
	const another = "; `mini-k8s token create` on the master makes another"
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	id, secret, _ := strings.Cut(token, ".")
	kept, err := c.Secret(r.Context(), metav1.NamespaceSystem, util.BootstrapTokenSecretName(id))
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return "", err
	case err != nil, secret == "", kept.DeletionTimestamp != nil, kept.Type != bootstrap.SecretTypeBootstrapToken,
		secrets.GetData(kept, bootstrap.BootstrapTokenUsageAuthentication) != "true",
		subtle.ConstantTimeCompare([]byte(secret), kept.Data[bootstrap.BootstrapTokenSecretKey]) == 0:
		return "", apierrors.NewUnauthorized("the join token is not one of this cluster, or was deleted" + another)
	case secrets.HasExpired(kept, time.Now()):
		return "", apierrors.NewUnauthorized("the join token has expired" + another)
	}
	return id, nil
}
