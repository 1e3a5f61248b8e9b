package apiserver

import (
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// openAPIRoutes serves as much of OpenAPI as lets kubectl leave the validation of fields to the server: it looks
// for a parameter "fieldValidation" in the PATCH of the kind (KEP-2885).
func (s *Server) openAPIRoutes() {
	type object = map[string]any
	paths := object{}
	for _, gv := range groupVersions() {
		document := "/openapi/v3" + groupPath(gv)
		paths[groupPath(gv)[1:]] = object{"serverRelativeURL": document}
		s.mux.HandleFunc("GET "+document, func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, object{
				"openapi": "3.0.0", "info": object{"title": "mini-k8s", "version": Version.GitVersion}, "paths": openAPIPaths(gv),
			})
		})
	}
	s.mux.HandleFunc("GET /openapi/v3", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"paths": paths})
	})
	s.mux.HandleFunc("GET /openapi/v2", openAPIv2)
}

// openAPIv2 serves a document that describes nothing. kubectl before 1.29 wants one before it sends a manifest, and
// later ones when they meet a kind that v3 does not have: it leads them to say that there is no such kind.
func openAPIv2(w http.ResponseWriter, r *http.Request) {
	info := &openapiv2.Info{Title: "mini-k8s", Version: Version.GitVersion}
	if !strings.Contains(r.Header.Get("Accept"), "protobuf") {
		writeJSON(w, http.StatusOK, map[string]any{"swagger": "2.0", "info": info, "paths": map[string]any{}})
		return
	}
	document, err := proto.Marshal(&openapiv2.Document{Swagger: "2.0", Info: info})
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
	w.Write(document)
}

func openAPIPaths(gv schema.GroupVersion) map[string]any {
	type object = map[string]any
	parameter := func(name string) object {
		return object{"name": name, "in": "query", "schema": object{"type": "string", "uniqueItems": true}}
	}
	paths := map[string]any{}
	for _, kind := range api.Kinds {
		if kind.GroupVersion() != gv {
			continue
		}
		paths[kind.Path("{namespace}", "{name}", "")] = object{"patch": object{
			"parameters": []object{parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")},
			"responses":  object{"200": object{"description": "OK"}},
			"x-kubernetes-group-version-kind": object{
				"group": kind.Group, "version": kind.Version, "kind": kind.Kind,
			},
		}}
	}
	return paths
}
