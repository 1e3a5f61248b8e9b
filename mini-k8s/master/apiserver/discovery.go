package apiserver

import (
	"maps"
	"net/http"
	"runtime"
	"slices"

	"workshop/mini-k8s/api"

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

// groupVersions returns the groups of the table, where the kinds of a group stand together.
func groupVersions() (all []schema.GroupVersion) {
	for _, kind := range api.Kinds {
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
	return list
}
