package apiserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// What `make fuzz` runs for longer; the other tests run the seeds alone. Requests are dry, so that each meets the same state.

// samples has an object of each kind that is worth a look, as clients send them.
var samples = map[string]string{
	"Namespace":  `{metadata: {name: sample}}`,
	"Node":       `{metadata: {name: sample, labels: {zone: a}}, spec: {taints: [{key: k, effect: NoSchedule}]}, status: {capacity: {cpu: 1500m}}}`,
	"Pod":        `{metadata: {name: sample, labels: {app: web}}, spec: {containers: [{name: c, image: "i:1", ports: [{containerPort: 80}], resources: {requests: {cpu: 100m, memory: 1Gi}}}], tolerations: [{operator: Exists}], terminationGracePeriodSeconds: 5}}`,
	"Service":    `{metadata: {name: sample}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}`,
	"ConfigMap":  `{metadata: {name: sample, annotations: {a: "\"metadata\":{"}}, data: {k: v}, binaryData: {b: AAE=}}`,
	"Secret":     `{metadata: {name: sample}, stringData: {k: v}, data: {b: AAE=}}`,
	"Event":      `{metadata: {name: sample}, involvedObject: {kind: Pod, name: web, namespace: default}, firstTimestamp: "2026-01-01T00:00:00Z", eventTime: "2026-01-01T00:00:00.000001Z", count: 2}`,
	"Deployment": `{metadata: {name: sample}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "i:1"}, {name: d, image: "i:1", env: [{name: A, value: b}]}]}}}}`,
	"Lease":      `{metadata: {name: sample}, spec: {holderIdentity: me, renewTime: "2026-01-01T00:00:00.000001Z", leaseDurationSeconds: 15}}`,
	"EndpointSlice": `{metadata: {name: sample}, addressType: IPv4, ports: [{port: 80}],
		endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]}`,
	"HorizontalPodAutoscaler": `{metadata: {name: sample}, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: sample},
		metrics: [{type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: 100m}}}]}}`,
}

// target is a server that is called without a network, to be fuzzed.
type target struct {
	testing.TB
	handler http.Handler
}

func newTarget(f *testing.F) target {
	f.Helper()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	sqlite, err := store.OpenSQLite(filepath.Join(f.TempDir(), "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { sqlite.Close() })
	server, err := apiserver.New(f.Context(), apiserver.Config{Store: sqlite})
	if err != nil {
		f.Fatal(err)
	}
	return target{f, server.As("admin")}
}

// call returns the code and the body of the answer. Whatever is sent, the server does not fail, and answers in JSON.
func (s target) call(method, path, contentType string, body []byte) (int, []byte) {
	s.Helper()
	r := httptest.NewRequest(method, "/", bytes.NewReader(body))
	var err error
	if r.URL, err = url.Parse(path); err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	answer, _ := io.ReadAll(w.Body)
	var status struct {
		Kind string
		Code int
	}
	if err := json.Unmarshal(answer, &status); err != nil {
		s.Fatalf("%s %s: %d is no JSON: %v: %s", method, path, w.Code, err, answer)
	}
	if w.Code >= 500 || w.Code >= 400 && (status.Kind != "Status" || status.Code != w.Code) {
		s.Fatalf("%s %s: %d %s", method, path, w.Code, answer)
	}
	return w.Code, answer
}

// same checks that two answers are the same object, but for what the server sets anew.
func (s target) same(kind *api.Kind, one, other []byte) {
	s.Helper()
	var values [2]map[string]any
	for i, text := range [][]byte{one, other} {
		if err := json.Unmarshal(text, kind.New()); err != nil {
			s.Fatalf("not a %s: %v: %s", kind.Kind, err, text)
		}
		if err := json.Unmarshal(text, &values[i]); err != nil {
			s.Fatal(err)
		}
		metadata := values[i]["metadata"].(map[string]any)
		if _, ok := metadata["resourceVersion"].(string); !ok {
			s.Fatalf("without a resourceVersion: %s", text)
		}
		for _, field := range []string{"uid", "creationTimestamp", "managedFields"} {
			delete(metadata, field)
		}
	}
	if !reflect.DeepEqual(values[0], values[1]) {
		s.Fatalf("what was answered is not taken as it is:\n%s\n%s", one, other)
	}
}

var contentTypes = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}

func FuzzObject(f *testing.F) {
	server := newTarget(f)
	for i, kind := range api.Kinds {
		sample := samples[kind.Kind]
		if sample == "" {
			sample = `{metadata: {generateName: sample-}}`
		}
		text := toJSON(sample)
		f.Add(uint8(i), uint8(0), []byte(text))
		f.Add(uint8(i), uint8(1), []byte(sample))
		object := kind.New()
		if err := json.Unmarshal([]byte(text), object); err != nil {
			f.Fatal(err)
		}
		message, err := runtime.Encode(protobuf.NewSerializer(nil, nil), object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), uint8(2), message)
	}
	f.Fuzz(func(t *testing.T, kindNumber, typeNumber uint8, body []byte) {
		server := target{t, server.handler}
		kind := api.Kinds[int(kindNumber)%len(api.Kinds)]
		path := kind.Path("default", "", "") + "?dryRun=All"
		code, answer := server.call("POST", path, contentTypes[int(typeNumber)%len(contentTypes)], body)
		if code != http.StatusCreated {
			return
		}
		code, again := server.call("POST", path, "application/json", answer)
		if code != http.StatusCreated {
			t.Fatalf("what was answered is refused with %d: %s: %s", code, again, answer)
		}
		server.same(kind, answer, again)
	})
}

var patchTypes = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}

func FuzzPatch(f *testing.F) {
	server := newTarget(f)
	for i, kind := range api.Kinds {
		if sample := samples[kind.Kind]; sample == "" {
			continue
		} else if code, answer := server.call("POST", kind.Path("default", "", ""), "application/json", []byte(toJSON(sample))); code != http.StatusCreated {
			f.Fatalf("%s: %s", kind.Kind, answer)
		}
		for j, patches := range [][]string{
			{`[{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}, {"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"}]`,
				`[{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "remove", "path": "/spec/template/spec/containers/-1"}]`},
			{`{"metadata": {"labels": {"a": null}}, "spec": {"template": {"spec": {"containers": null}}}}`},
			{`{"spec": {"template": {"spec": {"containers": [{"name": "c", "$patch": "delete"}, {"name": "e", "image": "i:1"}], "$setElementOrder/containers": [{"name": "e"}, {"name": "d"}]}}}}`,
				`{"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["c/d"]}, "spec": {"$retainKeys": ["selector"], "ports": [{"$patch": "replace"}]}}`,
				`{"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "x"}], "ports": [{"containerPort": 80, "$patch": "delete"}]}]}}`},
		} {
			for _, patch := range patches {
				f.Add(uint8(i), uint8(j), []byte(patch))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kindNumber, typeNumber uint8, patch []byte) {
		server := target{t, server.handler}
		kind := api.Kinds[int(kindNumber)%len(api.Kinds)]
		if samples[kind.Kind] == "" {
			return
		}
		path := kind.Path("default", "sample", "") + "?dryRun=All"
		code, answer := server.call("PATCH", path, patchTypes[int(typeNumber)%len(patchTypes)], patch)
		if code != http.StatusOK {
			return
		}
		code, again := server.call("PUT", path, "application/json", answer)
		if code != http.StatusOK {
			t.Fatalf("what the patch made is refused with %d: %s: %s", code, again, answer)
		}
		server.same(kind, answer, again)
	})
}

func FuzzSelector(f *testing.F) {
	server := newTarget(f)
	for name, labels := range map[string]string{"a": "app: web", "b": "app: db, tier: x", "c": ""} {
		pod := toJSON(fmt.Sprintf(`{metadata: {name: %s, labels: {%s}}, spec: {containers: [{name: c, image: "i:1"}]}}`, name, labels))
		if code, answer := server.call("POST", pods, "application/json", []byte(pod)); code != http.StatusCreated {
			f.Fatalf("%s", answer)
		}
	}
	for _, seed := range [][2]string{{"app=web", ""}, {"app in (web,db),tier", "metadata.name!=a"}, {"!app", `metadata.name=a\,b`}, {"app notin (web)", "spec.nodeName="}, {"x>1", `status.phase==\`}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, labels, fields string) {
		server := target{t, server.handler}
		list := func(labels, fields string) string {
			query := url.Values{"labelSelector": {labels}, "fieldSelector": {fields}}
			code, answer := server.call("GET", pods+"?"+query.Encode(), "", nil)
			if code != http.StatusOK {
				return ""
			}
			var o object
			if err := json.Unmarshal(answer, &o); err != nil {
				t.Fatal(err)
			}
			return " " + o.names() + " "
		}
		both, byLabel, byField := list(labels, fields), list(labels, ""), list("", fields)
		if both == "" {
			return
		}
		for _, name := range []string{" a ", " b ", " c "} {
			if strings.Contains(both, name) != (strings.Contains(byLabel, name) && strings.Contains(byField, name)) {
				t.Fatalf("%q and %q select%s, alone they do%s and%s", labels, fields, both, byLabel, byField)
			}
		}
	})
}

// FuzzPath: whatever namespace and name a path has, nothing is answered but what is there under that name.
func FuzzPath(f *testing.F) {
	server := newTarget(f)
	for _, namespace := range []string{"default", "kube-system"} {
		if code, answer := server.call("POST", "/api/v1/namespaces/"+namespace+"/configmaps", "application/json", []byte(configMap("a", "", ""))); code != http.StatusCreated {
			f.Fatalf("%s", answer)
		}
	}
	for _, seed := range [][2]string{{"default", "a"}, {"default/a", "a"}, {"default/configmaps", ".."}, {"", "default/a"}, {"..", "nodes"}, {"default\x00", "a"}, {"\xff", "\xff"}, {"%2f", "a%2f"}, {"default", "а"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, namespace, name string) {
		if namespace == "" || name == "" || strings.Trim(namespace, ".") == "" || strings.Trim(name, ".") == "" {
			return // the path would be another one
		}
		server := target{t, server.handler}
		collection := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/configmaps"
		for _, path := range []string{collection, collection + "/" + url.PathEscape(name)} {
			code, answer := server.call("GET", path, "", nil)
			if code != http.StatusOK {
				continue
			}
			var o object
			if err := json.Unmarshal(answer, &o); err != nil {
				t.Fatal(err)
			}
			if o.Kind == "ConfigMap" {
				o.Items = []object{o}
				if o.Name != name {
					t.Errorf("%s is %q", path, o.Name)
				}
			}
			for _, item := range o.Items {
				if item.Namespace != namespace {
					t.Errorf("%s has something of %q", path, item.Namespace)
				}
			}
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": name}})
		if err != nil {
			t.Fatal(err)
		}
		if code, answer := server.call("POST", collection+"?dryRun=All", "application/json", body); code == http.StatusCreated && strings.ContainsAny(namespace+name, "/\x00 %") {
			t.Errorf("%q in %q is taken: %s", name, namespace, answer)
		}
	})
}
