// Package apiserver serves the Kubernetes REST API over a store: one set of handlers for all kinds of the table in
// package api.
//
// Invariants:
//  1. Nothing but this package touches the store.
//  2. A request is done wholly or not at all: an object is stored only after it was decoded, defaulted and
//     validated, in one write that is refused if the object has changed since it was read.
//  3. Whatever goes wrong is answered with a Status object that says what, where and why.
//  4. The server keeps no state of its own: several of them can serve one store.
//
// In Kubernetes: the kube-apiserver, with one strategy and one registry for each kind (k8s.io/apiserver/pkg/registry/generic),
// admission plug-ins, several versions of a kind, protobuf, a watch cache and fair queuing (KEP-1040).
package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxBody bounds what a client may send, in bytes: as much as the real API server takes.
const maxBody = 3 << 20

// Config is what a server is made of.
type Config struct {
	Store store.Store
	// CA signs the certificates of workers that join.
	CA *pki.CA
	// Kubelet calls the kubelets, for logs.
	Kubelet *http.Client
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	Config
	mux *http.ServeMux
}

// request is an HTTP request to a resource, with what its path says.
type request struct {
	*http.Request
	kind            *api.Kind
	namespace, name string
	user            User
	warnings        []string // for the answer to a write
}

// New returns a server over a store, with the namespaces that every cluster has.
func New(ctx context.Context, config Config) (*Server, error) {
	s := &Server{Config: config, mux: http.NewServeMux()}
	s.routes()
	return s, s.bootstrap(ctx)
}

func (s *Server) routes() {
	s.discoveryRoutes()
	s.openAPIRoutes()
	s.mux.HandleFunc("GET /healthz", ok)
	s.mux.HandleFunc("GET /livez", ok)
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /join", s.joinCA)
	s.mux.HandleFunc("POST /join", s.join)
	for _, kind := range api.Kinds {
		// The path of a kind with {namespace} and {name} in it is the pattern for its requests.
		collection, object := kind.Path("{namespace}", "", ""), kind.Path("{namespace}", "{name}", "")
		s.handle("GET "+collection, kind, s.list)
		if kind.Namespaced {
			s.handle("GET "+kind.Path("", "", ""), kind, s.list)
		}
		s.handle("POST "+collection, kind, s.create)
		s.handle("GET "+object, kind, s.get)
		s.handle("PUT "+object, kind, s.update)
		s.handle("PATCH "+object, kind, s.patch)
		s.handle("DELETE "+object, kind, s.delete)
		for _, sub := range kind.Subresources {
			for method, handler := range s.subresource(sub) {
				s.handle(method+" "+object+"/"+sub, kind, handler)
			}
		}
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, resourceOf(""), "", "", 0, true))
	})
}

// handle registers a handler for requests to a kind. The handler answers, or returns an error that is answered.
func (s *Server) handle(pattern string, kind *api.Kind, handler func(http.ResponseWriter, *request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		req := &request{Request: r, kind: kind, namespace: r.PathValue("namespace"), name: r.PathValue("name"), user: userOf(r)}
		err := s.authorize(req)
		if err == nil {
			err = handler(w, req)
		}
		if err != nil {
			writeError(w, err)
		}
	})
}

// Handler returns the server for requests from the network: it finds out who is calling.
func (s *Server) Handler() http.Handler {
	return protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := s.authenticate(r)
		if err != nil {
			writeError(w, err)
			return
		}
		s.mux.ServeHTTP(w, r.WithContext(withUser(r.Context(), user)))
	}))
}

// As returns the server for callers in this process, who need not prove who they are.
func (s *Server) As(user User) http.Handler {
	return protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mux.ServeHTTP(w, r.WithContext(withUser(r.Context(), user)))
	}))
}

// protect bounds what a request may cost, and answers for a handler that panics.
func protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch failure := recover(); failure {
			case nil:
			case http.ErrAbortHandler:
				panic(failure) // not a failure: net/http breaks the connection off
			default:
				slog.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", failure, "stack", string(debug.Stack()))
				writeError(w, apierrors.NewInternalError(fmt.Errorf("the server failed: %v", failure)))
			}
		}()
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

func ok(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }

// ready tells whether the store answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if _, err := s.Store.Get(ctx, keyOf(api.Lookup("namespaces"), "", metav1.NamespaceDefault)); err != nil {
		http.Error(w, "the store does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	ok(w, r)
}

// writeJSON answers with an object.
func writeJSON(w http.ResponseWriter, code int, object any) error {
	data, ok := object.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(object); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(data)
	return nil
}

// writeError answers with a Status. An error that is none is a failure of the server.
func writeError(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &status):
	case errors.As(err, &tooLarge):
		status = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d bytes", tooLarge.Limit))
	case errors.Is(err, store.ErrCompacted):
		status = apierrors.NewResourceExpired(err.Error())
	case errors.Is(err, store.ErrFuture):
		status = apierrors.NewTimeoutError("Too large resource version: "+err.Error(), 1)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError(err.Error(), 1)
	default:
		slog.Error("request failed", "error", err)
		status = apierrors.NewInternalError(err)
	}
	body := status.Status()
	body.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	writeJSON(w, int(body.Code), body)
}
