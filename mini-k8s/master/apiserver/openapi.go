package apiserver

import (
	"net/http"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// openAPIRoutes serves as much of OpenAPI v3 as lets kubectl leave the validation of fields to the server: it looks
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
