package apiserver

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Version is what the server says of itself.
var Version = version.Info{Major: "1", Minor: "33", GitVersion: api.KubernetesVersion, GoVersion: runtime.Version(),
	Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH}

// verbs of every kind; kubectl looks here for what it may try.
var verbs = metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}

// discoveryRoutes serves what clients ask first: which groups, versions and kinds there are.
func (s *Server) discoveryRoutes() {
	s.serve("/version", Version)
	s.serve("/api", metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range groupVersions() {
		s.serve(groupPath(gv), s.resourcesOf(gv))
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		group := metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
		groups.Groups = append(groups.Groups, group)
		group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		s.serve("/apis/"+gv.Group, group)
	}
	s.serve("/apis", groups)
}

// serve answers requests for the path with the object.
func (s *Server) serve(path string, object any) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, object) })
}

// groupVersions returns the groups of the table and of the reviews, where the kinds of a group stand together.
func groupVersions() (all []schema.GroupVersion) {
	for _, kind := range slices.Concat(api.Kinds, api.Reviews) {
		all = append(all, kind.GroupVersion())
	}
	return slices.Compact(all)
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

func (s *Server) resourcesOf(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, kind := range api.Kinds {
		if kind.GroupVersion() != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: kind.Resource, SingularName: kind.Singular(), Namespaced: kind.Namespaced, Kind: kind.Kind,
			Verbs: verbs, ShortNames: kind.ShortNames, Categories: kind.Categories,
		})
		for _, sub := range kind.Subresources {
			part := s.subresource(sub)
			resource := metav1.APIResource{Name: kind.Resource + "/" + sub, Namespaced: kind.Namespaced, Kind: kind.Kind,
				Verbs: slices.Sorted(maps.Keys(part.verbs))}
			if takes := part.takes; takes.Kind != "" {
				resource.Group, resource.Version, resource.Kind = takes.Group, takes.Version, takes.Kind
			}
			list.APIResources = append(list.APIResources, resource)
		}
	}
	for _, kind := range api.Reviews {
		if kind.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: kind.Resource, SingularName: kind.Singular(),
				Kind: kind.Kind, Verbs: metav1.Verbs{"create"}})
		}
	}
	return list
}

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
	s.answer("GET /openapi/v2", openAPIv2)
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
func openAPIv2(w http.ResponseWriter, r *http.Request) error {
	info := &openapiv2.Info{Title: "mini-k8s", Version: Version.GitVersion}
	if !strings.Contains(r.Header.Get("Accept"), "protobuf") {
		return writeJSON(w, http.StatusOK, jsonObject{"swagger": "2.0", "info": info, "paths": jsonObject{}})
	}
	document, err := proto.Marshal(&openapiv2.Document{Swagger: "2.0", Info: info})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
	w.Write(document)
	return nil
}
