package discovery

import (
	"net/http"
	"strings"

	"workshop/mini-k8s/api"
)

// openAPIRoutes serves what describes the kinds.
func openAPIRoutes(mux *http.ServeMux) {
	paths := map[string]any{}
	info := map[string]string{"title": "mini-k8s", "version": about.GitVersion}
	for _, gv := range groupVersions() {
		url := "/openapi/v3" + groupPath(gv)
		paths[groupPath(gv)[1:]] = map[string]string{"serverRelativeURL": url}
		mux.Handle("GET "+url, document(func() any {
			paths, schemas := api.OpenAPI(kinds(gv))
			return map[string]any{"openapi": "3.0.0", "info": info, "paths": paths, "components": map[string]any{"schemas": schemas}}
		}))
	}
	mux.Handle("GET /openapi/v3", document(func() any { return map[string]any{"paths": paths} }))
	// kubectl before 1.29 wants the old version as well before it sends a manifest, if only one that describes nothing:
	// in protobuf, which is what it asks for, that is no bytes.
	nothing := document(func() any { return map[string]any{"swagger": "2.0", "info": info, "paths": map[string]any{}} })
	mux.HandleFunc("GET /openapi/v2", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "protobuf") {
			w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
			return
		}
		nothing.ServeHTTP(w, r)
	})
}
