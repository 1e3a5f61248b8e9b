package apiserver

import (
	"io"
	"net/http"
	"strings"

	"workshop/mini-k8s/pki"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// joinCA gives the CA's certificate to a worker that wants to join. The worker does not trust it yet: it compares
// the hash with the one in its token.
func (s *Server) joinCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(s.CA.CertPEM)
}

// join signs the certificate request of a worker that knows the join token. The key never leaves the worker.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !s.CA.CheckJoinSecret(secret) {
		writeError(w, apierrors.NewUnauthorized("the join token is not that of this cluster: print it with `mini-k8s token` on the master"))
		return
	}
	request, err := io.ReadAll(r.Body)
	if err != nil {
		writeError(w, err)
		return
	}
	certificate, err := s.CA.SignRequest(request, pki.NodePrefix)
	if err != nil {
		writeError(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(certificate)
}
