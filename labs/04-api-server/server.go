// Package apiserver serves the Kubernetes REST API over a store: one set of handlers for all kinds of the table in
// package api. What they need besides has packages of its own below this one: who calls and what they may (access), what
// clients send (bodies) and how much of it at a time (bounds), which kinds there are (discovery), how objects go
// (deletion), the addresses of services (addresses), the lives of objects (history), and what kubelets are asked (kubelets).
//
// Invariants:
//  1. Nothing but this package and those below it touches the store.
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
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver/access"
	"workshop/mini-k8s/master/apiserver/addresses"
	"workshop/mini-k8s/master/apiserver/bodies"
	"workshop/mini-k8s/master/apiserver/bounds"
	"workshop/mini-k8s/master/apiserver/discovery"
	"workshop/mini-k8s/master/apiserver/kubelets"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultServiceCIDR is the range of the cluster IPs.
const DefaultServiceCIDR = "10.96.0.0/16"

// Config is what a server is made of.
type Config struct {
	Store store.Store
	// ServiceCIDR is the range of the services' cluster IPs, DefaultServiceCIDR if zero.
	ServiceCIDR netip.Prefix
	// CA signs the certificates of workers that join.
	CA *pki.CA
	// Kubelet calls the kubelets, with a certificate for which they answer.
	Kubelet *http.Client
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	Config
	mux       *http.ServeMux
	flying    bounds.InFlight
	access    *access.Control
	addresses *addresses.Allocator
	kubelets  kubelets.Caller
	resources []metav1.APIResourceList // all that there are
}

// New returns a server over a store, with the namespaces that every cluster has.
func New(ctx context.Context, config Config) (*Server, error) {
	s := &Server{Config: config, mux: http.NewServeMux()}
	if !s.ServiceCIDR.IsValid() {
		s.ServiceCIDR = netip.MustParsePrefix(DefaultServiceCIDR)
	}
	s.access = &access.Control{CA: s.CA, Pod: reader[*corev1.Pod](s), Node: reader[*corev1.Node](s), Secret: reader[*corev1.Secret](s),
		Pods: func(ctx context.Context, namespace string) (pods [][]byte, err error) {
			stored, _, err := s.Store.List(ctx, keyOf(api.KindOf[*corev1.Pod](), namespace, ""))
			for _, pod := range stored {
				pods = append(pods, pod.Value)
			}
			return pods, err
		}}
	s.kubelets = kubelets.Caller{Client: s.Kubelet, Node: reader[*corev1.Node](s), WriteError: writeError}
	s.resources = discovery.Resources(s.describe)
	s.addresses = &addresses.Allocator{Store: s.Store, Range: s.ServiceCIDR, Read: reader[*corev1.Service](s)}
	s.routes()
	kind := api.KindOf[*corev1.Namespace]()
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		object := kind.New()
		object.SetName(name)
		prepareCreate(kind, object)
		value, err := encode(object)
		if err != nil {
			return nil, err
		}
		if _, err := s.Store.Create(ctx, keyOf(kind, "", name), value, "apiserver"); err != nil && !errors.Is(err, store.ErrExists) {
			return nil, fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	return s, nil
}

func (s *Server) routes() {
	discovery.Routes(s.mux, s.resources)
	s.autoscaleRoutes()
	s.metricsRoutes()
	s.mux.HandleFunc("GET /healthz", ok)
	s.mux.HandleFunc("GET /livez", ok)
	s.answer("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /join", s.access.ServeCA)
	s.answer("POST /join", s.access.Join)
	for _, kind := range api.Reviews {
		s.handle("create", kind.Path("", "", ""), kind, "", s.review)
	}
	// kubectl 1.27 asks in this version, which differs in its name only.
	s.handle("create", "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews", api.Reviews[0], "", s.review)
	for _, kind := range api.Kinds {
		// The path of a kind with {namespace} and {name} in it is the pattern for its requests.
		collection, object := kind.Path("{namespace}", "", ""), kind.Path("{namespace}", "{name}", "")
		if kind.Namespaced {
			s.handle("list", kind.Path("", "", ""), kind, "", s.collection)
			s.handle("deletecollection", collection, kind, "", s.deleteCollection)
		}
		s.handle("list", collection, kind, "", s.collection)
		s.handle("create", collection, kind, "", s.create)
		s.handle("get", object, kind, "", s.get)
		s.handle("update", object, kind, "", s.update)
		s.handle("patch", object, kind, "", s.patch)
		s.handle("delete", object, kind, "", s.delete)
		for _, name := range kind.Subresources {
			for verb, handler := range s.subresource(name).verbs {
				s.handle(verb, object+"/"+name, kind, name, handler)
			}
		}
	}
	discovery.Rest(s.answer)
}

// methods are the HTTP methods of the verbs.
var methods = map[string]string{"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
	"deletecollection": "DELETE"}

// request is an HTTP request to a resource, with what its path says.
type request struct {
	*http.Request
	user            User
	verb            string // a key of methods
	kind            *api.Kind
	subresource     string // or ""
	namespace, name string
	dryRun          bool     // nothing is stored
	warnings        []string // for the answer to a write
}

// attributes are what access goes by.
func (r *request) attributes() access.Attributes {
	return access.Attributes{Verb: r.verb, Group: r.kind.Group, Resource: r.kind.Resource, Subresource: r.subresource,
		Namespace: r.namespace, Name: r.name}
}

type handler = func(http.ResponseWriter, *request) error

// handle registers a handler for requests to a kind or a subresource of it.
func (s *Server) handle(verb, path string, kind *api.Kind, subresource string, handler handler) {
	s.answer(methods[verb]+" "+path, func(w http.ResponseWriter, r *http.Request) error {
		user, _ := r.Context().Value(userKey{}).(User)
		req := &request{Request: r, user: user, verb: verb, kind: kind, subresource: subresource,
			namespace: r.PathValue("namespace"), name: r.PathValue("name"), dryRun: r.URL.Query().Get("dryRun") == metav1.DryRunAll}
		if err := s.access.Authorize(r.Context(), user, req.attributes()); err != nil {
			return err
		}
		accept := r.Header.Get("Accept")
		if accept != "" && !strings.Contains(accept, "json") && !strings.Contains(accept, "/*") && subresource != "log" {
			return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, verb, kind.GroupResource(), req.name, "answers are application/json", 0, false)
		}
		return req.explain(handler(w, req))
	})
}

// answer registers a handler that answers, or returns an error that is answered.
func (s *Server) answer(pattern string, handler func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := handler(w, r); err != nil {
			writeError(w, err)
		}
	})
}

// Handler returns the server for requests from the network: it finds out who is calling.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = bounds.InTime(w, r)
		user, err := s.access.Authenticate(r)
		if err == nil {
			var done func()
			if done, err = s.flying.Begin(string(user), r); err == nil {
				defer done()
				s.As(user).ServeHTTP(w, r)
			}
		}
		if err != nil {
			writeError(w, err)
		}
	})
}

// User is who calls.
type User = access.User

type userKey struct{} // of the User in a request's context

// As returns the server for callers in this process, who need not prove who they are.
func (s *Server) As(user User) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer answerPanic(w, r)
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, bodies.MaxSize)
		}
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

func answerPanic(w http.ResponseWriter, r *http.Request) {
	switch failure := recover(); failure {
	case nil:
	case http.ErrAbortHandler:
		panic(failure) // not a failure: net/http breaks the connection off
	default:
		slog.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", failure, "stack", string(debug.Stack()))
		writeError(w, apierrors.NewInternalError(fmt.Errorf("the server failed: %v", failure)))
	}
}

func ok(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }

// ready tells whether the store answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.Store.Get(r.Context(), keyOf(api.KindOf[*corev1.Namespace](), "", metav1.NamespaceDefault)); err != nil {
		return apierrors.NewServiceUnavailable("the store does not answer: " + err.Error())
	}
	ok(w, r)
	return nil
}

// review answers with what was sent, and its status.
func (s *Server) review(w http.ResponseWriter, r *request) error {
	object := r.kind.New()
	if err := bodies.Into(r.Request, object, "a "+r.kind.Kind); err != nil {
		return err
	}
	if err := s.access.Review(r.Context(), r.user, object, s.resources); err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, object)
}
