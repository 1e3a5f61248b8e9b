package apiserver

import (
	"net/http"
	"runtime"

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
	serve := func(path string, object any) {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, object) })
	}
	serve("/version", Version)
	serve("/api", metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range groupVersions() {
		serve(groupPath(gv), resourcesOf(gv))
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		group := metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
		groups.Groups = append(groups.Groups, group)
		group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		serve("/apis/"+gv.Group, group)
	}
	serve("/apis", groups)
}

// groupVersions returns the groups of the table in its order.
func groupVersions() []schema.GroupVersion {
	var all []schema.GroupVersion
	seen := map[schema.GroupVersion]bool{}
	for _, kind := range api.Kinds {
		if gv := kind.GroupVersion(); !seen[gv] {
			seen[gv] = true
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

func resourcesOf(gv schema.GroupVersion) metav1.APIResourceList {
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
			resource := metav1.APIResource{Name: kind.Resource + "/" + sub, Namespaced: kind.Namespaced, Kind: kind.Kind}
			switch sub {
			case "scale":
				resource.Group, resource.Version, resource.Kind = "autoscaling", "v1", "Scale"
				resource.Verbs = metav1.Verbs{"get", "patch", "update"}
			case "eviction":
				resource.Group, resource.Version, resource.Kind = "policy", "v1", "Eviction"
				resource.Verbs = metav1.Verbs{"create"}
			case "binding":
				resource.Kind, resource.Verbs = "Binding", metav1.Verbs{"create"}
			case "log":
				resource.Verbs = metav1.Verbs{"get"}
			default:
				resource.Verbs = metav1.Verbs{"get", "patch", "update"}
			}
			list.APIResources = append(list.APIResources, resource)
		}
	}
	return list
}
