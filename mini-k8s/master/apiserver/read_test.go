package apiserver_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const asTable = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"

func TestListsAreSelectedByLabelsAndFields(t *testing.T) {
	w := newWorld(t)
	w.post("/api/v1/namespaces", toJSON(`{metadata: {name: shop}}`)).ok()
	for _, name := range []string{"a", "b", "c"} {
		w.post(pods, pod(name, "")).ok()
	}
	w.post("/api/v1/namespaces/shop/pods", pod("d", "")).ok()
	w.bind("b", "node-1")
	w.patch("merge", pods+"/c/status", `{"status":{"phase":"Running","podIP":"10.244.1.2"}}`).ok()
	for _, row := range []struct{ name, path, query, want string }{
		{"namespace", pods, "", "a b c"},
		{"all namespaces", "/api/v1/pods", "", "a b c d"},
		{"label", pods, "labelSelector=app%3Da", "a"},
		{"label in a set", "/api/v1/pods", "labelSelector=app+in+(a,d)", "a d"},
		{"label that is not", pods, "labelSelector=app!%3Da", "b c"},
		{"label that exists", pods, "labelSelector=app", "a b c"},
		{"label that does not exist", pods, "labelSelector=!app", ""},
		{"name", pods, "fieldSelector=metadata.name%3Db", "b"},
		{"namespace as a field", "/api/v1/pods", "fieldSelector=metadata.namespace%3Dshop", "d"},
		{"node", pods, "fieldSelector=spec.nodeName%3Dnode-1", "b"},
		{"no node", pods, "fieldSelector=spec.nodeName%3D", "a c"},
		{"phase", pods, "fieldSelector=status.phase!%3DPending", "c"},
		{"address", pods, "fieldSelector=status.podIP%3D10.244.1.2", "c"},
		{"both", pods, "labelSelector=app%3Db&fieldSelector=spec.nodeName%3Dnode-1", "b"},
		{"both, none", pods, "labelSelector=app%3Da&fieldSelector=spec.nodeName%3Dnode-1", ""},
		{"namespace that is not there", "/api/v1/namespaces/none/pods", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			list := w.get(row.path + "?" + row.query).object()
			if got := list.names(); got != row.want || list.Items == nil {
				t.Errorf("got %q, want %q", got, row.want)
			}
			table := w.call("admin", "GET", row.path+"?"+row.query, "", asTable).object()
			var names []string
			for _, cells := range table.Rows {
				names = append(names, cells.Cells[0].(string))
			}
			if got := strings.Join(names, " "); got != row.want {
				t.Errorf("the table has %q, want %q", got, row.want)
			}
		})
	}
}

func TestSelectorThatIsNotUnderstoodIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ name, query, says string }{
		{"unsupported field", "fieldSelector=spec.replicas%3D1", "field label not supported: spec.replicas"},
		{"broken field", "fieldSelector=a", "fieldSelector: "},
		{"broken label", "labelSelector=a+in", "labelSelector: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			w.get(pods+"?"+row.query).fails(400, metav1.StatusReasonBadRequest, row.says)
			w.get(pods+"?watch=true&"+row.query).fails(400, metav1.StatusReasonBadRequest, row.says)
		})
	}
}

func TestTableHasTheColumnsOfItsKind(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("a", "")).ok()
	for _, path := range []string{pods, pods + "/a"} {
		table := w.call("admin", "GET", path, "", asTable).object()
		if table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" || len(table.Columns) != len(api.Lookup("pods").Columns()) || table.ResourceVersion == "" {
			t.Errorf("%s: %+v", path, table)
		}
		if len(table.Rows) != 1 || fmt.Sprint(table.Rows[0].Cells[:4]) != "[a 0/1 Pending 0]" {
			t.Errorf("%s: rows %v", path, table.Rows)
		}
	}
	empty := w.call("admin", "GET", configMaps, "", asTable)
	if table := empty.object(); table.Rows == nil || len(table.Rows) != 0 {
		t.Errorf("an empty table: %s", empty.body)
	}
}

func TestRowCarriesAsMuchOfTheObjectAsIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("a", "")).ok()
	for _, row := range []struct{ name, query, kind, spec string }{
		{"metadata unasked", "", "PartialObjectMetadata", "<nil>"},
		{"metadata", "?includeObject=Metadata", "PartialObjectMetadata", "<nil>"},
		{"object", "?includeObject=Object", "Pod", "default-scheduler"},
		{"none", "?includeObject=None", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			raw := w.in(t).call("admin", "GET", pods+row.query, "", asTable).object().Rows[0].Object.Raw
			if row.kind == "" {
				if len(raw) > 0 && string(raw) != "null" {
					t.Errorf("got %s", raw)
				}
				return
			}
			var o object
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
			if o.Kind != row.kind || o.Name != "a" || o.Labels["app"] != "a" || o.ResourceVersion == "" || fmt.Sprint(o.Spec["schedulerName"]) != row.spec {
				t.Errorf("got %s", raw)
			}
		})
	}
}

func TestDiscoverySaysWhatTheTableSays(t *testing.T) {
	w := newWorld(t)
	if got := w.get("/api").object(); got.Kind != "APIVersions" || fmt.Sprint(got.Versions) != "[v1]" {
		t.Errorf("/api: %+v", got)
	}
	paths := []string{"/api/v1"}
	for _, group := range w.get("/apis").object().Groups {
		version := group.PreferredVersion.GroupVersion
		for _, v := range group.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
		var alone metav1.APIGroup
		if err := json.Unmarshal(w.get("/apis/"+group.Name).ok().body, &alone); err != nil || alone.PreferredVersion.GroupVersion != version || alone.Kind != "APIGroup" {
			t.Errorf("/apis/%s: %v %+v", group.Name, err, alone)
		}
	}
	served := map[string]metav1.APIResource{}
	for _, path := range paths {
		list := w.get(path).object()
		if !strings.HasSuffix(path, "/"+list.GroupVersion) || list.Kind != "APIResourceList" {
			t.Errorf("%s says it is %s %s", path, list.Kind, list.GroupVersion)
		}
		for _, resource := range list.Resources {
			served[path+" "+resource.Name] = resource
		}
	}
	if alone := w.get("/apis/autoscaling").object(); fmt.Sprint(alone.Versions) != "[map[groupVersion:autoscaling/v2 version:v2] map[groupVersion:autoscaling/v1 version:v1]]" {
		t.Errorf("the version that is served is not the first: %v", alone.Versions)
	}
	for _, kind := range slices.Concat(api.Kinds, api.OutOfScope) {
		path := strings.TrimSuffix(kind.Path("", "", ""), "/"+kind.Resource)
		verbs := "[create delete get list patch update watch]"
		if kind.Refusal() != "" {
			verbs = "[]"
		} else if kind.Namespaced {
			verbs = "[create delete get list patch update watch deletecollection]"
		}
		resource, ok := served[path+" "+kind.Resource]
		if !ok || resource.Kind != kind.Kind || resource.Namespaced != kind.Namespaced || resource.SingularName != kind.Singular() ||
			!slices.Equal(resource.ShortNames, kind.ShortNames) || !slices.Equal(resource.Categories, kind.Categories) || resource.Verbs == nil || resource.Verbs.String() != verbs {
			t.Errorf("%s: %+v", kind.Kind, resource)
		}
		for _, sub := range kind.Subresources {
			if resource := served[path+" "+kind.Resource+"/"+sub]; len(resource.Verbs) == 0 || resource.Namespaced != kind.Namespaced {
				t.Errorf("%s/%s: %+v", kind.Resource, sub, resource)
			}
			delete(served, path+" "+kind.Resource+"/"+sub)
		}
		delete(served, path+" "+kind.Resource)
	}
	for _, review := range []string{"authentication.k8s.io/v1 selfsubjectreviews", "authorization.k8s.io/v1 selfsubjectaccessreviews", "authorization.k8s.io/v1 selfsubjectrulesreviews"} {
		if resource := served["/apis/"+review]; !slices.Equal(resource.Verbs, []string{"create"}) || resource.Namespaced {
			t.Errorf("%s: %+v", review, resource)
		}
		delete(served, "/apis/"+review)
	}
	for _, kind := range api.Measured {
		name := strings.TrimSuffix(kind.Path("", "", ""), "/"+kind.Resource) + " " + kind.Resource
		if resource := served[name]; resource.Kind != kind.Kind || resource.Namespaced != kind.Namespaced || !slices.Equal(resource.Verbs, []string{"get", "list"}) {
			t.Errorf("%s: %+v", name, resource)
		}
		delete(served, name)
	}
	for name := range served {
		t.Errorf("%s is not in the table", name)
	}
}

func TestOpenAPIServesWhatKubectlLooksFor(t *testing.T) {
	w := newWorld(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(w.get("/openapi/v3").ok().body, &index); err != nil {
		t.Fatal(err)
	}
	for _, kind := range slices.Concat(api.Kinds, api.OutOfScope) {
		path := "api/v1"
		if kind.Group != "" {
			path = "apis/" + kind.GroupVersion().String()
		}
		var document struct {
			Paths map[string]map[string]struct {
				Parameters []struct{ Name string }
				GVK        map[string]string `json:"x-kubernetes-group-version-kind"`
			}
			Components struct {
				Schemas map[string]struct {
					Description string
					GVK         []map[string]string `json:"x-kubernetes-group-version-kind"`
				}
			}
		}
		if err := json.Unmarshal(w.get(index.Paths[path].ServerRelativeURL).ok().body, &document); err != nil {
			t.Fatal(err)
		}
		patch := document.Paths[kind.Path("{namespace}", "{name}", "")]["patch"]
		if patch.GVK["kind"] != kind.Kind || !slices.ContainsFunc(patch.Parameters, func(p struct{ Name string }) bool { return p.Name == "fieldValidation" }) {
			t.Errorf("%s: %+v", kind.Kind, patch)
		}
		described := ""
		for _, schema := range document.Components.Schemas {
			if len(schema.GVK) == 1 && maps.Equal(schema.GVK[0], patch.GVK) {
				described = schema.Description
			}
		}
		if described == "" || !strings.Contains(described, kind.Refusal()) {
			t.Errorf("%s is described as %q", kind.Kind, described)
		}
	}
	if a := w.get("/openapi/v2").ok(); !strings.Contains(string(a.body), `"swagger":"2.0"`) {
		t.Errorf("v2: %s", a.body)
	}
	protobuf := w.call("admin", "GET", "/openapi/v2", "", "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf").ok()
	if len(protobuf.body) > 0 { // an empty document
		t.Errorf("v2 in protobuf: %q", protobuf.body)
	}
}
