package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// patience bounds every wait of these tests: what takes longer has failed.
const patience = 20 * time.Second

// world is an API server over a store of its own, and nothing else.
type world struct {
	t      *testing.T
	ctx    context.Context
	store  *hookedStore
	server *apiserver.Server
	admin  *client.Client
}

// hookedStore lets a test step between the server and its store.
type hookedStore struct {
	store.Store
	get, update func() // called before, if not nil
	writes      atomic.Int64
}

func (s *hookedStore) Get(ctx context.Context, key string) (store.Object, error) {
	if s.get != nil {
		s.get()
	}
	return s.Store.Get(ctx, key)
}

func (s *hookedStore) Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error) {
	if s.update != nil {
		s.update()
	}
	s.writes.Add(1)
	return s.Store.Update(ctx, key, value, expected, who)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sqlite, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() { cancel(); sqlite.Close() })
	w := &world{t: t, ctx: ctx, store: &hookedStore{Store: sqlite}}
	if w.server, err = apiserver.New(ctx, apiserver.Config{Store: w.store}); err != nil {
		t.Fatal(err)
	}
	w.admin = w.as("admin")
	return w
}

// in returns the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	inside := *w
	inside.t = t
	return &inside
}

// as returns a client for a user.
func (w *world) as(user apiserver.User) *client.Client {
	return client.New(client.Config{Server: "http://in-memory", Name: "test", Transport: client.InMemory(w.server.As(user))})
}

// answer is what came back, read to its end.
type answer struct {
	t        *testing.T
	code     int
	warnings []string
	body     []byte
}

// call is a request with its body and "Header: value" lines; a body is JSON if they do not say otherwise.
func (w *world) call(user apiserver.User, method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.ctx, method, "http://in-memory"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "test/1.0")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	response, err := client.InMemory(w.server.As(user)).RoundTrip(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{w.t, response.StatusCode, response.Header.Values("Warning"), data}
}

func (w *world) get(path string) answer { w.t.Helper(); return w.call("admin", "GET", path, "") }
func (w *world) post(path, body string) answer {
	w.t.Helper()
	return w.call("admin", "POST", path, body)
}
func (w *world) put(path, body string) answer {
	w.t.Helper()
	return w.call("admin", "PUT", path, body)
}
func (w *world) delete(path string) answer { w.t.Helper(); return w.call("admin", "DELETE", path, "") }

// patch sends a "json", "merge" or "strategic-merge" patch.
func (w *world) patch(patchType, path, body string) answer {
	w.t.Helper()
	suffix := "+json"
	if patchType == "json" {
		suffix = "-patch+json"
	} else {
		patchType += "-patch"
	}
	return w.call("admin", "PATCH", path, body, "Content-Type: application/"+patchType+suffix)
}

// ok checks that the request was granted.
func (a answer) ok() answer {
	a.t.Helper()
	if a.code >= 300 {
		a.t.Fatalf("refused with %d: %s", a.code, a.body)
	}
	return a
}

// fails checks the Status: its code, its reason, and that its message says all the words.
func (a answer) fails(code int, reason metav1.StatusReason, words ...string) answer {
	a.t.Helper()
	var status metav1.Status
	if err := json.Unmarshal(a.body, &status); err != nil || status.Kind != "Status" || status.Status != metav1.StatusFailure {
		a.t.Fatalf("%d, but no Status: %s", a.code, a.body)
	}
	if a.code != code || int(status.Code) != code || status.Reason != reason {
		a.t.Errorf("got %d (in the Status %d) %s, want %d %s: %s", a.code, status.Code, status.Reason, code, reason, status.Message)
	}
	for _, word := range words {
		if !strings.Contains(status.Message, word) {
			a.t.Errorf("the message does not say %q: %s", word, status.Message)
		}
	}
	return a
}

// object reads the answer as an object of any kind.
func (a answer) object() object {
	a.t.Helper()
	a.ok()
	var o object
	if err := json.Unmarshal(a.body, &o); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return o
}

// object is any object, with what the tests look at.
type object struct {
	Kind              string `json:"kind"`
	APIVersion        string `json:"apiVersion"`
	metav1.ObjectMeta `json:"metadata"`
	Data              map[string]string    `json:"data"`
	Items             []object             `json:"items"`
	Spec              map[string]any       `json:"spec"`
	Status            map[string]any       `json:"status"`
	Columns           []map[string]any     `json:"columnDefinitions"`
	Rows              []metav1.TableRow    `json:"rows"`
	Target            map[string]any       `json:"target"`
	Groups            []metav1.APIGroup    `json:"groups"`
	Versions          []any                `json:"versions"`
	GroupVersion      string               `json:"groupVersion"`
	Resources         []metav1.APIResource `json:"resources"`
}

// names returns the names of a list's items.
func (o object) names() string {
	var all []string
	for _, item := range o.Items {
		all = append(all, item.Name)
	}
	return strings.Join(all, " ")
}

const (
	configMaps  = "/api/v1/namespaces/default/configmaps"
	pods        = "/api/v1/namespaces/default/pods"
	deployments = "/apis/apps/v1/namespaces/default/deployments"
)

// configMap returns the JSON of one; metadata is what its metadata has beside the name.
func configMap(name, metadata, data string) string {
	if metadata != "" {
		metadata = ", " + metadata
	}
	return toJSON(fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: %s%s}, data: {%s}}`, name, metadata, data))
}

func pod(name, spec string) string {
	if spec != "" {
		spec += ", "
	}
	return toJSON(fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {app: %s}}, spec: {%scontainers: [{name: c, image: "i:1"}]}}`, name, name, spec))
}

func deployment(name, spec string) string {
	return toJSON(fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s}, spec: {%s selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "i:1"}]}}}}`, name, spec))
}

// toJSON lets the tests write YAML. It panics if they wrote it wrong.
func toJSON(text string) string {
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		panic(err)
	}
	return string(data)
}

// bind gives a pod to a node, as the scheduler does.
func (w *world) bind(name, node string) {
	w.t.Helper()
	w.post(pods+"/"+name+"/binding", toJSON(`{target: {name: `+node+`}}`)).ok()
}

func TestServerMakesTheNamespacesThatEveryClusterHas(t *testing.T) {
	w := newWorld(t)
	if got := w.get("/api/v1/namespaces").object().names(); got != "default kube-node-lease kube-public kube-system" {
		t.Errorf("got %s", got)
	}
	before := w.get("/api/v1/namespaces").object().ResourceVersion
	if _, err := apiserver.New(w.ctx, apiserver.Config{Store: w.store}); err != nil {
		t.Fatalf("over a store that has them: %v", err)
	}
	if after := w.get("/api/v1/namespaces").object().ResourceVersion; after != before {
		t.Errorf("the second server has written: %s, %s", before, after)
	}
}

func TestPanicIsAnsweredWithAStatus(t *testing.T) {
	w := newWorld(t)
	w.store.get = func() { panic("the roof is on fire") }
	w.get(configMaps+"/a").fails(500, metav1.StatusReasonInternalError, "the roof is on fire")
	w.store.get = nil
	w.get(configMaps+"/a").fails(404, metav1.StatusReasonNotFound)
}

func TestReadyTellsWhetherTheStoreAnswers(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if a := w.get(path).ok(); string(a.body) != "ok" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	w.store.Close()
	if a := w.get("/readyz"); a.code != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte("the store does not answer")) {
		t.Errorf("%d %s", a.code, a.body)
	}
	w.get("/healthz").ok()
}

func TestUnknownPathIsNotFoundInAStatus(t *testing.T) {
	w := newWorld(t)
	for path, words := range map[string]string{
		"/nowhere":                                              "could not find the requested resource",
		"/apis/nothing.example.org/v1/things":                   "could not find the requested resource",
		"/apis/batch/v1/namespaces/default/jobs":                "jobs.batch is out of scope in mini-k8s: a Pod with restartPolicy",
		"/apis/batch/v1/cronjobs":                               "cronjobs.batch is out of scope in mini-k8s",
		"/apis/storage.k8s.io/v1/storageclasses/a":              "storageclasses.storage.k8s.io is out of scope in mini-k8s",
		"/apis/apps/v1/namespaces/default/statefulsets/a/scale": "statefulsets.apps is out of scope in mini-k8s",
		configMaps + "/a/status":                                "configmaps/status is not served in this version of mini-k8s",
		pods + "/a/proxy/some/path":                             "pods/proxy/some/path is not served in this version of mini-k8s",
		"/api/v1/namespaces/default/nodes":                      "namespaces/nodes is not served in this version of mini-k8s",
	} {
		t.Run(path, func(t *testing.T) {
			w := w.in(t)
			for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
				w.call("admin", method, path, "{}").fails(404, metav1.StatusReasonNotFound, words)
			}
		})
	}
}

func TestMethodThatDoesNotFitIsNotAllowed(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ method, path string }{
		{"PUT", configMaps}, {"PATCH", pods}, {"POST", configMaps + "/a"}, {"OPTIONS", pods}, {"DELETE", pods + "/a/status"},
		{"GET", pods + "/a/binding"}, {"POST", pods + "/a/log"}, {"DELETE", "/api/v1/namespaces"}, {"DELETE", "/api/v1/pods"}, {"PUT", "/api/v1/nodes"},
	} {
		t.Run(row.method+" "+row.path, func(t *testing.T) {
			w := w.in(t)
			w.call("admin", row.method, row.path, "{}").fails(405, metav1.StatusReasonMethodNotAllowed, row.method+" is not supported on resources of kind")
		})
	}
}

func TestAnswerIsInAFormatThatTheClientTakes(t *testing.T) {
	w := newWorld(t)
	for _, accept := range []string{"", "*/*", "application/*", "application/json", "text/html, */*;q=0.8", "application/vnd.kubernetes.protobuf,application/json"} {
		t.Run(accept, func(t *testing.T) { w.in(t).call("admin", "GET", pods, "", "Accept: "+accept).ok() })
	}
	for _, accept := range []string{"application/vnd.kubernetes.protobuf", "application/yaml", "text/plain"} {
		t.Run(accept, func(t *testing.T) {
			w := w.in(t)
			w.call("admin", "GET", pods, "", "Accept: "+accept).fails(406, metav1.StatusReasonNotAcceptable, "answers are application/json")
		})
	}
}

func TestRootListsThePaths(t *testing.T) {
	var root metav1.RootPaths
	w := newWorld(t)
	if err := json.Unmarshal(w.get("/").ok().body, &root); err != nil {
		t.Fatal(err)
	}
	for _, path := range root.Paths {
		w.get(path).ok()
	}
	for _, path := range []string{"/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/readyz"} {
		if !slices.Contains(root.Paths, path) {
			t.Errorf("%s is not among %v", path, root.Paths)
		}
	}
}

func TestWritersOfOneObjectAllSucceedWithoutARevision(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	const writers = 8 // fewer than the server's tries: each conflict is another's success
	var running sync.WaitGroup
	failures := make([]error, writers)
	maps := client.Of[*corev1.ConfigMap](w.admin)
	for i := range writers {
		running.Go(func() {
			_, failures[i] = maps.Patch(w.ctx, "default", "a", "", "application/merge-patch+json", map[string]any{"data": map[string]string{fmt.Sprint(i): "x"}})
		})
	}
	running.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	if got := w.get(configMaps + "/a").object().Data; len(got) != writers {
		t.Errorf("a write was lost: %v", got)
	}
}

func TestEveryKindIsServed(t *testing.T) {
	w := newWorld(t)
	for _, kind := range api.Kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			w := w.in(t)
			list := w.get(kind.Path("", "", "")).object()
			if list.Kind != kind.Kind+"List" || list.APIVersion != kind.GroupVersion().String() || list.Items == nil {
				t.Errorf("a list of all namespaces: %s %s", list.Kind, list.APIVersion)
			}
			w.get(kind.Path("default", "", "")).ok()
			w.get(kind.Path("default", "none", "")).fails(404, metav1.StatusReasonNotFound, kind.GroupResource().String()+` "none" not found`)
		})
	}
}
