package apiserver

import (
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type jsonObject = map[string]any

// openAPIRoutes serves as much of OpenAPI as lets kubectl leave the validation of fields to the server: it looks
// for a parameter "fieldValidation" in the PATCH of the kind (KEP-2885).
func (s *Server) openAPIRoutes() {
	documents := jsonObject{}
	for _, gv := range groupVersions() {
		path := "/openapi/v3" + groupPath(gv)
		documents[groupPath(gv)[1:]] = jsonObject{"serverRelativeURL": path}
		info := jsonObject{"title": "mini-k8s", "version": Version.GitVersion}
		s.serve(path, jsonObject{"openapi": "3.0.0", "info": info, "paths": openAPIPaths(gv)})
	}
	s.serve("/openapi/v3", jsonObject{"paths": documents})
	s.mux.HandleFunc("GET /openapi/v2", openAPIv2)
}

func openAPIPaths(gv schema.GroupVersion) jsonObject {
	var parameters []jsonObject
	for _, name := range []string{"dryRun", "fieldManager", "fieldValidation"} {
		parameters = append(parameters, jsonObject{"name": name, "in": "query", "schema": jsonObject{"type": "string", "uniqueItems": true}})
	}
	paths := jsonObject{}
	for _, kind := range api.Kinds {
		if kind.GroupVersion() == gv {
			paths[kind.Path("{namespace}", "{name}", "")] = jsonObject{"patch": jsonObject{
				"parameters": parameters, "responses": jsonObject{"200": jsonObject{"description": "OK"}},
				"x-kubernetes-group-version-kind": jsonObject{"group": kind.Group, "version": kind.Version, "kind": kind.Kind},
			}}
		}
	}
	return paths
}

// openAPIv2 serves a document that describes nothing. kubectl before 1.29 wants one before it sends a manifest, and
// later ones when they meet a kind that v3 does not have: it leads them to say that there is no such kind.
func openAPIv2(w http.ResponseWriter, r *http.Request) {
	info := &openapiv2.Info{Title: "mini-k8s", Version: Version.GitVersion}
	if !strings.Contains(r.Header.Get("Accept"), "protobuf") {
		writeJSON(w, http.StatusOK, jsonObject{"swagger": "2.0", "info": info, "paths": jsonObject{}})
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
