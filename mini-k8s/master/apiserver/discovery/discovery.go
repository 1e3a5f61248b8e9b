// Package discovery tells clients which groups, versions, kinds and fields there are, and of a kind or a part that there is
// not, what to do instead. All of it is read from the table in package api.
//
// In Kubernetes: the same, also for the kinds of CRDs and of aggregated API servers, and all in one answer (KEP-3352).
package discovery

import (
	"encoding/json"
	"net/http"
	"runtime"
	"slices"

	"workshop/mini-k8s/api"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// about is what the server says of itself.
var about = version.Info{Major: "1", Minor: "33", GitVersion: api.KubernetesVersion, GoVersion: runtime.Version(),
	Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH}

// verbs of every kind; kubectl looks here for what it may try.
var verbs = metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}

// Subresource is what there is to say of a part of an object.
type Subresource struct {
	Verbs []string
	Takes schema.GroupVersionKind // what is sent and answered; empty: the object itself
}

// Routes serves what clients ask first, from the resources that there are.
func Routes(mux *http.ServeMux, resources []metav1.APIResourceList) {
	serve := func(path string, object any) { mux.Handle("GET "+path, document(func() any { return object })) }
	serve("/version", about)
	serve("/api", metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	for i, gv := range groupVersions() {
		serve(groupPath(gv), resources[i])
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
		serve("/apis/"+group.Name, group)
		paths = append(paths, "/apis/"+group.Name)
	}
	serve("/apis", groups)
	serve("/{$}", metav1.RootPaths{Paths: slices.Sorted(slices.Values(paths))})
	openAPIRoutes(mux)
}

// document is served as JSON.
type document func() any

// ServeHTTP implements http.Handler.
func (d document) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(d())
}

// all are the kinds that clients find: also those that are out of scope, so that who asks for one is told what to do instead.
var all = slices.Concat(api.Kinds, api.OutOfScope, api.Reviews, api.Measured)

func kinds(gv schema.GroupVersion) []*api.Kind {
	return slices.DeleteFunc(slices.Clone(all), func(k *api.Kind) bool { return k.GroupVersion() != gv })
}

// groupVersions returns the groups and versions of the kinds, once each.
func groupVersions() (once []schema.GroupVersion) {
	for _, kind := range all {
		if gv := kind.GroupVersion(); !slices.Contains(once, gv) {
			once = append(once, gv)
		}
	}
	return once
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

// Resources returns what each group and version has. subresource says what the server does with a part of an object.
func Resources(subresource func(name string) Subresource) (lists []metav1.APIResourceList) {
	for _, gv := range groupVersions() {
		lists = append(lists, resourcesOf(gv, subresource))
	}
	return lists
}

func resourcesOf(gv schema.GroupVersion, subresource func(string) Subresource) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, kind := range kinds(gv) {
		resource := metav1.APIResource{
			Name: kind.Resource, SingularName: kind.Singular(), Namespaced: kind.Namespaced, Kind: kind.Kind,
			Verbs: verbs, ShortNames: kind.ShortNames, Categories: kind.Categories,
		}
		parts := kind.Subresources
		switch {
		case kind.Refusal() != "":
			resource.Verbs = metav1.Verbs{} // who asks for the kind finds it, but it is not listed
		case slices.Contains(api.Reviews, kind):
			resource.Verbs, parts = metav1.Verbs{"create"}, nil // it is never stored
		case slices.Contains(api.Measured, kind):
			resource.Verbs = metav1.Verbs{"get", "list"}
		case kind.Namespaced:
			resource.Verbs = slices.Concat(verbs, metav1.Verbs{"deletecollection"})
		}
		list.APIResources = append(list.APIResources, resource)
		for _, sub := range parts {
			part := subresource(sub)
			resource := metav1.APIResource{Name: kind.Resource + "/" + sub, Namespaced: kind.Namespaced, Kind: kind.Kind,
				Verbs: part.Verbs}
			if takes := part.Takes; takes.Kind != "" {
				resource.Group, resource.Version, resource.Kind = takes.Group, takes.Version, takes.Kind
			}
			list.APIResources = append(list.APIResources, resource)
		}
	}
	return list
}

// Rest sees to it that a request that no other route is for is answered with an error that says why.
func Rest(answer func(pattern string, handler func(http.ResponseWriter, *http.Request) error)) {
	for _, kind := range slices.Concat(api.Kinds, api.OutOfScope) {
		object := kind.Path("{namespace}", "{name}", "")
		paths := []string{kind.Path("", "", ""), kind.Path("{namespace}", "", ""), object, object + "/{part...}"}
		for _, path := range slices.Compact(paths) {
			answer(path, func(_ http.ResponseWriter, r *http.Request) error { return Unserved(r, kind) })
		}
	}
	answer("/", func(_ http.ResponseWriter, r *http.Request) error {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", "", 0, true)
	})
}

// Unserved refuses a request to a kind, or to a part of one, that is not served. What is well known gets a sentence that says
// so; its reason is NotFound, so that a client which only probes takes it as absent and goes on.
func Unserved(r *http.Request, kind *api.Kind) error {
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
