package apiserver

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"workshop/mini-k8s/api"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	for _, gv := range groupVersions() {
		s.serve(groupPath(gv), s.resourcesOf(gv))
		if paths = append(paths, groupPath(gv)); gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == gv.Group })
		if at < 0 {
			at = len(groups.Groups)
			groups.Groups = append(groups.Groups, metav1.APIGroup{Name: gv.Group, PreferredVersion: v})
		}
		groups.Groups[at].Versions = append(groups.Groups[at].Versions, v)
	}
	for _, group := range groups.Groups {
		group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		s.serve("/apis/"+group.Name, group)
		paths = append(paths, "/apis/"+group.Name)
	}
	s.serve("/apis", groups)
	s.serve("/{$}", metav1.RootPaths{Paths: slices.Sorted(slices.Values(paths))})
}

// serve answers requests for the path with the object.
func (s *Server) serve(path string, object any) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, object) })
}

// kinds returns those of a group and version, and with them those that are out of scope.
func kinds(gv schema.GroupVersion) []*api.Kind {
	return slices.DeleteFunc(slices.Concat(api.Kinds, api.OutOfScope), func(k *api.Kind) bool { return k.GroupVersion() != gv })
}

// groupVersions returns the groups and versions of all kinds, once each.
func groupVersions() (all []schema.GroupVersion) {
	for _, kind := range slices.Concat(api.Kinds, api.OutOfScope, api.Reviews, api.Measured) {
		if gv := kind.GroupVersion(); !slices.Contains(all, gv) {
			all = append(all, gv)
		}
	}
	return all
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

func (s *Server) resourcesOf(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, kind := range kinds(gv) {
		resource := metav1.APIResource{
			Name: kind.Resource, SingularName: kind.Singular(), Namespaced: kind.Namespaced, Kind: kind.Kind,
			Verbs: verbs, ShortNames: kind.ShortNames, Categories: kind.Categories,
		}
		if kind.Refusal() != "" {
			resource.Verbs = metav1.Verbs{} // who asks for the kind finds it, but it is not listed
		} else if kind.Namespaced {
			resource.Verbs = slices.Concat(verbs, metav1.Verbs{"deletecollection"})
		}
		list.APIResources = append(list.APIResources, resource)
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
	for _, kind := range api.Measured {
		if kind.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: kind.Resource, SingularName: kind.Singular(),
				Namespaced: kind.Namespaced, Kind: kind.Kind, Verbs: metav1.Verbs{"get", "list"}})
		}
	}
	return list
}

// openAPIRoutes serves what describes the kinds.
func (s *Server) openAPIRoutes() {
	documents := map[string]any{}
	info := map[string]string{"title": "mini-k8s", "version": Version.GitVersion}
	for _, gv := range groupVersions() {
		url := "/openapi/v3" + groupPath(gv)
		documents[groupPath(gv)[1:]] = map[string]string{"serverRelativeURL": url}
		s.answer("GET "+url, func(w http.ResponseWriter, _ *http.Request) error {
			reviews := slices.DeleteFunc(slices.Clone(api.Reviews), func(k *api.Kind) bool { return k.GroupVersion() != gv })
			paths, schemas := api.OpenAPI(append(kinds(gv), reviews...))
			return writeJSON(w, http.StatusOK, map[string]any{"openapi": "3.0.0", "info": info, "paths": paths,
				"components": map[string]any{"schemas": schemas}})
		})
	}
	s.serve("/openapi/v3", map[string]any{"paths": documents})
	// kubectl before 1.29 wants the old version as well before it sends a manifest, if only one that describes nothing:
	// in protobuf, which is what it asks for, that is no bytes.
	s.answer("GET /openapi/v2", func(w http.ResponseWriter, r *http.Request) error {
		if !strings.Contains(r.Header.Get("Accept"), "protobuf") {
			return writeJSON(w, http.StatusOK, map[string]any{"swagger": "2.0", "info": info, "paths": map[string]any{}})
		}
		w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
		return nil
	})
}

// unservedRoutes answers what no other route does. A kind or a subresource that is well known, but not served, gets a
// sentence that says so; its reason is NotFound, so that a client which only probes takes it as absent and goes on.
func (s *Server) unservedRoutes() {
	for _, kind := range slices.Concat(api.Kinds, api.OutOfScope) {
		object := kind.Path("{namespace}", "{name}", "")
		paths := []string{kind.Path("", "", ""), kind.Path("{namespace}", "", ""), object, object + "/{part...}"}
		for _, path := range slices.Compact(paths) {
			s.answer(path, func(_ http.ResponseWriter, r *http.Request) error { return unserved(r, kind) })
		}
	}
	s.answer("/", func(_ http.ResponseWriter, r *http.Request) error {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", "", 0, true)
	})
}

func unserved(r *http.Request, kind *api.Kind) error {
	sentence, part := kind.Refusal(), r.PathValue("part")
	if sentence == "" && (part == "" || kind.HasSubresource(part)) {
		return apierrors.NewMethodNotSupported(kind.GroupResource(), r.Method)
	} else if sentence == "" {
		sentence = kind.Resource + "/" + part + " is not served in this version of mini-k8s"
	}
	err := apierrors.NewNotFound(kind.GroupResource(), r.PathValue("name"))
	err.ErrStatus.Message = sentence
	return err
}
