package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/labs/labtest"
	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The tests of lab 04, in the order of its tasks. The store below the server is the real one, in a temporary directory;
// requests reach the server without a network.

// limit is how long a test waits for what must happen; only a test that fails takes so long.
const limit = 10 * time.Second

// site is a server over a store of its own.
type site struct {
	*labtest.T
	*Server
	ctx   context.Context
	store *between
}

// between lets a test step between the server and its store.
type between struct {
	store.Store
	beforeUpdate func() // called before each update, if not nil
	gets         atomic.Int32
	updates      atomic.Int32
}

func (s *between) Get(ctx context.Context, key string) (store.Object, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *between) Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error) {
	s.updates.Add(1)
	if s.beforeUpdate != nil {
		s.beforeUpdate()
	}
	return s.Store.Update(ctx, key, value, expected, who)
}

func newSite(t *testing.T, task int) *site {
	return siteOn(labtest.Task(t, "04", task), filepath.Join(t.TempDir(), "state.db"))
}

func siteOn(lab *labtest.T, path string) *site {
	lab.Helper()
	sqlite, err := store.OpenSQLite(path)
	if err != nil {
		lab.Fatal(err)
	}
	lab.Cleanup(func() { sqlite.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	lab.Cleanup(cancel)
	s := &site{T: lab, ctx: ctx, store: &between{Store: sqlite}}
	if s.Server, err = New(ctx, Config{Store: s.store}); err != nil {
		lab.Fatal(err)
	}
	return s
}

// seed stores an object past the functions of this lab, and returns its revision.
func seed[T api.Object](s *site, object T) int64 {
	s.Helper()
	kind := api.KindOf[T]()
	object.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	if kind.Namespaced && object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	prepareCreate(kind, object)
	value, err := encode(object)
	if err != nil {
		s.Fatal(err)
	}
	revision, err := s.store.Create(s.ctx, keyOf(kind, object.GetNamespace(), object.GetName()), value, "seed")
	if err != nil {
		s.Fatal(err)
	}
	return revision
}

func configMap(name, app string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}}, Data: map[string]string{"k": "v"}}
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i:1"}}}}
}

// reply is an answer, read to its end: as an object of any kind, or a Status.
type reply struct {
	code int
	body []byte
	object
}

type object struct {
	Kind     string
	Metadata metav1.ObjectMeta
	Data     map[string]string
	Spec     map[string]any
	Items    []object
	Rows     []metav1.TableRow
	Reason   metav1.StatusReason
	Message  string
}

// names returns what a list or a table has.
func (o object) names() string {
	var all []string
	for _, item := range o.Items {
		all = append(all, item.Metadata.Name)
	}
	for _, row := range o.Rows {
		all = append(all, fmt.Sprint(row.Cells[0]))
	}
	return strings.Join(all, " ")
}

// brief says in a line what came.
func (r reply) brief() string {
	if r.Kind == "Status" {
		return fmt.Sprintf("%d %s: %s", r.code, r.Reason, r.Message)
	}
	return fmt.Sprintf("%d %s %s", r.code, r.Kind, r.Metadata.Name)
}

// send sends a request; headers are "Name: value".
func (s *site) send(method, path, body string, headers ...string) reply {
	s.Helper()
	r, err := http.NewRequestWithContext(s.ctx, method, "http://in-memory"+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "test/1.0")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	response, err := client.InMemory(s.As("admin")).RoundTrip(r)
	if err != nil {
		s.Must(false, labtest.Report{Did: method + " " + path, Want: "an answer", Got: err.Error(), Cause: "does a loop not end? Each try reads, changes, saves and returns"})
	}
	defer response.Body.Close()
	answer := reply{code: response.StatusCode}
	if answer.body, err = io.ReadAll(response.Body); err != nil {
		s.Fatal(err)
	}
	json.Unmarshal(answer.body, &answer.object) // what is no JSON has no kind
	return answer
}

// expect checks the code of an answer, and that it says the words.
func (s *site) expect(did string, got reply, code int, words, cause string) {
	s.Helper()
	want := fmt.Sprint(code)
	if words != "" {
		want += ", with the words " + words
	}
	s.Must(got.code == code && strings.Contains(string(got.body), words), labtest.Report{Did: did, Want: want, Got: got.brief(), Cause: cause})
}

const (
	configMaps = "/api/v1/namespaces/default/configmaps"
	pods       = "/api/v1/namespaces/default/pods"
	table      = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	merge      = "Content-Type: application/merge-patch+json"
)

// Task 1

func TestTask1GetAnswersWithWhatIsStored(t *testing.T) {
	s := newSite(t, 1)
	revision := seed(s, configMap("a", "web"))
	seed(s, configMap("b", "web"))
	got := s.send("GET", configMaps+"/a", "")
	s.expect("GET configmaps/a, which is stored", got, 200, "", "get it from the store at keyOf(r.kind, r.namespace, r.name), and respond with http.StatusOK")
	s.Check(got.Kind == "ConfigMap" && got.Metadata.Name == "a" && got.Data["k"] == "v", labtest.Report{Did: "read the answer to GET configmaps/a", Want: "the config map a, with its data",
		Got: string(got.body), Cause: "respond writes a stored object as it is"})
	s.Equal("looked at its resourceVersion", got.Metadata.ResourceVersion, fmt.Sprint(revision), "it is the revision of the stored object: give respond what Store.Get has returned")
	s.expect("GET configmaps/none", s.send("GET", configMaps+"/none", ""), 404, `configmaps \"none\" not found`, "return the error of the store: who called makes a Status of it")
}

func TestTask1ListHasTheRevisionOfTheStore(t *testing.T) {
	s := newSite(t, 1)
	seed(s, configMap("b", "web"))
	seed(s, configMap("a", "web"))
	elsewhere := configMap("c", "web")
	elsewhere.Namespace = "kube-public"
	seed(s, elsewhere)
	newest := fmt.Sprint(seed(s, pod("p", "")))
	for _, list := range []struct{ path, names string }{{configMaps, "a b"}, {"/api/v1/configmaps", "a b c"}, {"/api/v1/namespaces/kube-system/configmaps", ""}} {
		got := s.send("GET", list.path, "")
		s.expect("GET "+list.path, got, 200, `"items":[`, "list keyOf(r.kind, r.namespace, \"\"), filter, and write listJSON with http.StatusOK")
		s.Equal("GET "+list.path+", and read the names", got.names(), list.names, "the prefix is that of the kind and, if the path has one, the namespace; without a name")
		s.Equal("GET "+list.path+", and read its metadata.resourceVersion", got.Metadata.ResourceVersion, newest,
			"it is the revision that Store.List returns, which is that of the whole store: a watch after it misses nothing, and tells nothing twice")
		if s.Failed() {
			return
		}
	}
}

func TestTask1SelectorsChoose(t *testing.T) {
	s := newSite(t, 1)
	seed(s, configMap("a", "web"))
	seed(s, configMap("b", "db"))
	seed(s, pod("p", "node-1"))
	newest := fmt.Sprint(seed(s, pod("q", "")))
	for _, list := range []struct{ path, names string }{
		{configMaps + "?labelSelector=app%3Dweb", "a"}, {configMaps + "?labelSelector=app!%3Dweb", "b"}, {configMaps + "?fieldSelector=metadata.name%3Db", "b"},
		{pods + "?fieldSelector=spec.nodeName%3Dnode-1", "p"}, {pods + "?labelSelector=app", ""},
	} {
		got := s.send("GET", list.path, "")
		s.expect("GET "+list.path, got, 200, `"items":[`, "a selector that nothing matches gives an empty list")
		s.Equal("GET "+list.path, got.names(), list.names, "selected.filter keeps what the selectors of readOptions match")
		s.Equal("GET "+list.path+", and read its metadata.resourceVersion", got.Metadata.ResourceVersion, newest, "what is left out does not change the state at which the list was read")
		if s.Failed() {
			return
		}
	}
	s.expect("GET with a selector that cannot be read", s.send("GET", pods+"?labelSelector=a+in", ""), 400, "labelSelector", "the error of readOptions is the answer")
}

func TestTask1KubectlGetsTables(t *testing.T) {
	s := newSite(t, 1)
	seed(s, pod("p", "node-1"))
	seed(s, pod("q", ""))
	for _, get := range []struct{ path, names string }{{pods, "p q"}, {pods + "/p", "p"}, {pods + "?fieldSelector=spec.nodeName%3D", "q"}} {
		got := s.send("GET", get.path, "", table)
		s.expect("GET "+get.path+" as a table", got, 200, `"kind":"Table"`, "if r.wantsTable(), answer with answerTable")
		s.Equal("GET "+get.path+" as a table, and read its first column", got.names(), get.names, "the table has what the list would have: filter first")
	}
	replicas := s.send("GET", "/apis/apps/v1/namespaces/default/deployments/none/scale", "", table)
	s.expect("GET a scale that is not there", replicas, 404, "not found", "return the error of the store")
}

// Task 2

// stored returns what the store has under a key, or nil.
func (s *site) stored(key string) []byte {
	found, err := s.store.Store.Get(s.ctx, key)
	if err != nil {
		return nil
	}
	return found.Value
}

// revision returns that of the store.
func (s *site) revision() int64 {
	_, revision, err := s.store.List(s.ctx, "")
	if err != nil {
		s.Fatal(err)
	}
	return revision
}

const podJSON = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","uid":"mine"},"spec":{"containers":[{"name":"c","image":"i:1"}]},"status":{"phase":"Running"}}`

func TestTask2CreatedObjectIsComplete(t *testing.T) {
	s := newSite(t, 2)
	got := s.send("POST", pods, podJSON)
	s.expect("POST a pod", got, 201, "", "what is new is answered with http.StatusCreated")
	s.Check(got.Metadata.UID != "" && got.Metadata.UID != "mine" && !got.Metadata.CreationTimestamp.IsZero() && got.Metadata.Generation == 1, labtest.Report{
		Did: "POST a pod that says it has the UID mine, and read the answer", Want: "another UID, a creationTimestamp, generation 1",
		Got: fmt.Sprintf("the UID is the client's: %v, a timestamp: %v, generation %d", got.Metadata.UID == "mine", !got.Metadata.CreationTimestamp.IsZero(), got.Metadata.Generation), Cause: "prepareCreate sets what the server alone decides"})
	s.Check(got.Spec["restartPolicy"] == "Always" && !strings.Contains(string(got.body), "Running"), labtest.Report{Did: "looked at the pod's restartPolicy, and at the status that the client had set",
		Want: "the default, Always; and no status of the client's", Got: fmt.Sprintf("%v; Running is in it: %v", got.Spec["restartPolicy"], strings.Contains(string(got.body), "Running")), Cause: "prepareCreate also sets the defaults, and takes away the status"})
	s.Equal("looked at the resourceVersion of the answer", got.Metadata.ResourceVersion, fmt.Sprint(s.revision()), "respond with what save returns: the revision is known only when it is stored")
	s.Check(bytes.Contains(s.stored("pods/default/web"), []byte(`"uid":"`+got.Metadata.UID+`"`)), labtest.Report{Did: "looked into the store at pods/default/web", Want: "the pod of the answer", Got: "it is not there",
		Cause: "save it at keyOf(r.kind, r.namespace, r.name)"})
}

func TestTask2GeneratedNameIsTheNameFromThenOn(t *testing.T) {
	s := newSite(t, 2)
	for i, body := range []string{`{"metadata":{"generateName":"a-"}}`, `{"metadata":{"generateName":"b-"}}`} {
		got := s.send("POST", configMaps, body)
		did := "POST a config map that has no name but the generateName " + []string{"a-", "b-"}[i]
		s.expect(did, got, 201, "", "prepareCreate makes the name: until then it is empty. Were two objects stored in the same place?")
		s.Check(strings.HasPrefix(got.Metadata.Name, []string{"a-", "b-"}[i]) && s.stored("configmaps/default/"+got.Metadata.Name) != nil, labtest.Report{Did: did + ", and looked for it in the store", Want: "it is stored under its name",
			Got: "it is not", Cause: "the request's name is that of the path, which is empty here: set r.name = object.GetName() after prepareCreate, and before the key is made"})
	}
}

func TestTask2WhatIsRefusedLeavesNothing(t *testing.T) {
	s := newSite(t, 2)
	seed(s, configMap("there", "web"))
	doomed := seed(s, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}})
	now := metav1.Now().Rfc3339Copy()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed", DeletionTimestamp: &now, Finalizers: []string{"test/keep"}}}
	namespace.GetObjectKind().SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	value, err := encode(namespace)
	if err == nil {
		_, err = s.store.Update(s.ctx, "namespaces/doomed", value, doomed, "test")
	}
	if err != nil {
		s.Fatal(err)
	}
	before := s.revision()
	for _, row := range []struct {
		did, path, body string
		code            int
		words, cause    string
	}{
		{"POST what is no JSON", configMaps, `{"metadata":`, 400, "cannot be handled as a ConfigMap", "the error of readNew is the answer"},
		{"POST a pod without an image", pods, strings.Replace(podJSON, `,"image":"i:1"`, "", 1), 422, "spec.containers[0].image", "all that Validate finds goes into one apierrors.NewInvalid, with the kind and the name"},
		{"POST a pod with a bad name", pods, strings.Replace(podJSON, `"web"`, `"We_b"`, 1), 422, `Pod \"We_b\" is invalid: metadata.name`, "NewInvalid takes the name that the object has"},
		{"POST into a namespace that is not there", "/api/v1/namespaces/none/configmaps", `{"metadata":{"name":"a"}}`, 404, `namespaces \"none\" not found`, "checkNamespace comes before save"},
		{"POST into a namespace that is being deleted", "/api/v1/namespaces/doomed/configmaps", `{"metadata":{"name":"a"}}`, 403, "being terminated", "checkNamespace comes before save"},
		{"POST what is there already", configMaps, `{"metadata":{"name":"there"}}`, 409, `configmaps \"there\" already exists`, "save it in the place of nothing: a store.Object with revision 0. The store refuses that if there is something"},
	} {
		s.expect(row.did, s.send("POST", row.path, row.body), row.code, row.words, row.cause)
		s.Must(s.revision() == before, labtest.Report{Did: row.did + ", and looked whether the store has changed", Want: "it has not", Got: "it has a new revision", Cause: "refuse first, save last"})
	}
}

// Task 3

func TestTask3UpdateReplacesWhatTheClientHasSeen(t *testing.T) {
	s := newSite(t, 3)
	first := seed(s, configMap("a", "web"))
	body := func(revision int64, value string) string {
		return fmt.Sprintf(`{"metadata":{"name":"a","resourceVersion":"%d"},"data":{"k":%q}}`, revision, value)
	}
	got := s.send("PUT", configMaps+"/a", body(first, "two"))
	s.expect("PUT a config map at its revision", got, 200, `"k":"two"`, "read, change, save, and respond with what was saved and http.StatusOK")
	s.Equal("read the resourceVersion of the answer", got.Metadata.ResourceVersion, fmt.Sprint(s.revision()), "respond with what save returns: it has the new revision")
	gets := s.store.gets.Load()
	s.expect("PUT it at its first revision, which it no longer has", s.send("PUT", configMaps+"/a", body(first, "three")), 409, "the object has been modified", "change compares the revisions and fails: return its error")
	s.Equal("counted how often the store was asked for the object in that request", s.store.gets.Load()-gets, int32(1),
		"the client asked for a revision that is gone, and will be gone on the next try: only a conflict of save is tried again, not one of change")
	s.expect("PUT one that is not there", s.send("PUT", configMaps+"/none", `{"data":{"k":"v"}}`), 404, "not found", "return the error of Store.Get")
}

func TestTask3ConflictIsTriedAgainOnWhatTheOtherWrote(t *testing.T) {
	s := newSite(t, 3)
	seed(s, configMap("a", "web"))
	s.store.beforeUpdate = func() { // another writer comes first, once
		s.store.beforeUpdate = nil
		s.send("PATCH", configMaps+"/a", `{"data":{"theirs":"x"}}`, merge)
	}
	got := s.send("PATCH", configMaps+"/a", `{"data":{"mine":"x"}}`, merge)
	s.expect("PATCH a config map, while another writer came between the reading and the saving", got, 200, "", "the client named no revision: begin again with what is there now. Read inside the loop: the first object stays as old as it was")
	s.Equal("read the data of the answer", got.Data, map[string]string{"k": "v", "mine": "x", "theirs": "x"}, "each try reads the object anew, and change makes the new one from that: else the other's write is lost")
}

func TestTask3GivesUpWithTheConflict(t *testing.T) {
	s := newSite(t, 3)
	seed(s, configMap("a", "web"))
	others := 0
	s.store.beforeUpdate = func() { // another writer always comes first
		if others++; others > 3*maxTries {
			return // or the test would never end
		}
		found, err := s.store.Store.Get(s.ctx, "configmaps/default/a")
		if err == nil {
			_, err = s.store.Store.Update(s.ctx, found.Key, bytes.Replace(found.Value, []byte(`"k":"`), []byte(`"k":"x`), 1), found.Revision, "other")
		}
		if err != nil {
			s.Error(err)
		}
	}
	got := s.send("PATCH", configMaps+"/a", `{"data":{"mine":"x"}}`, merge)
	s.expect("PATCH a config map, while another writer came first, every time", got, 409, "the object has been modified", "after maxTries the conflict is the answer")
	s.Equal("counted how often the server tried to store it", s.store.updates.Load(), int32(maxTries), "maxTries is the number of tries, the first included")
}

func TestTask3WhatCannotBeChangedIsNotTriedAgain(t *testing.T) {
	s := newSite(t, 3)
	seed(s, pod("p", "node-1"))
	before := s.revision()
	gets := s.store.gets.Load()
	got := s.send("POST", pods+"/p/binding", `{"target":{"name":"node-2"}}`)
	s.expect("bound a pod that is on a node already", got, 409, "already assigned to node", "change has decided that this cannot be: its error is the answer, as it is")
	s.Equal("counted how often the store was asked for the pod", s.store.gets.Load()-gets, int32(1), "an error of change ends it, be it a conflict or not")
	s.Equal("looked at the revision of the store", s.revision(), before, "nothing is saved if change fails")
	s.expect("DELETE it with no grace", s.send("DELETE", pods+"/p?gracePeriodSeconds=0", ""), 200, "", "a deletion is a change as well: it comes here, and save does what is to be done")
	s.Check(s.stored("pods/default/p") == nil, labtest.Report{Did: "looked for the pod in the store", Want: "it is gone", Got: "it is there", Cause: "give save what change has returned, and what was stored"})
}

// Task 4

func selecting(labels, fields string) selection {
	selected, err := parseSelection(api.KindOf[*corev1.Pod](), metav1.ListOptions{LabelSelector: labels, FieldSelector: fields})
	if err != nil {
		panic(err)
	}
	return selected
}

// side returns a pod as it is stored; "" is none.
func side(app, node string) []byte {
	if app == "" && node == "" {
		return nil
	}
	return fmt.Appendf(nil, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"app":%q}},"spec":{"nodeName":%q,"containers":null},"status":{}}`, app, node)
}

func TestTask4ChangeIsTheEventThatTheWatcherSees(t *testing.T) {
	lab := labtest.Task(t, "04", 4)
	web, notWeb, unlabelled, onNode := selecting("app=web", ""), selecting("app!=web", ""), selecting("!none", ""), selecting("", "spec.nodeName=n")
	all := selecting("", "")
	for _, row := range []struct {
		did           string
		selected      selection
		before, after []byte
		want          string
	}{
		{"created a pod, for a watcher of all", all, nil, side("web", "n"), "ADDED"},
		{"changed a pod, for a watcher of all", all, side("web", ""), side("db", ""), "MODIFIED"},
		{"deleted a pod, for a watcher of all", all, side("web", ""), nil, "DELETED"},
		{"created a pod with app=web, for a watcher of app=web", web, nil, side("web", ""), "ADDED"},
		{"created a pod with app=db, for a watcher of app=web", web, nil, side("db", ""), ""},
		{"changed a pod that had app=web and has it still, for a watcher of app=web", web, side("web", ""), side("web", "n"), "MODIFIED"},
		{"changed a pod from app=db to app=web, for a watcher of app=web", web, side("db", ""), side("web", ""), "ADDED"},
		{"changed a pod from app=web to app=db, for a watcher of app=web", web, side("web", ""), side("db", ""), "DELETED"},
		{"changed a pod from app=db to app=cache, for a watcher of app=web", web, side("db", ""), side("cache", ""), ""},
		{"deleted a pod with app=web, for a watcher of app=web", web, side("web", ""), nil, "DELETED"},
		{"deleted a pod with app=db, for a watcher of app=web", web, side("db", ""), nil, ""},
		{"created a pod with app=db, for a watcher of app!=web", notWeb, nil, side("db", ""), "ADDED"},
		{"deleted a pod that has no label none, for a watcher of !none", unlabelled, side("web", ""), nil, "DELETED"},
		{"gave a pod the node n, for a watcher of spec.nodeName=n", onNode, side("web", ""), side("web", "n"), "ADDED"},
	} {
		got, err := row.selected.eventOf(&store.Change{Revision: 7, Previous: row.before, Value: row.after})
		lab.NoError(row.did, err, "both sides can be decoded")
		lab.Must(string(got) == row.want, labtest.Report{Did: row.did, Want: fmt.Sprintf("%q", row.want), Got: fmt.Sprintf("%q", got),
			Cause: "two questions: did the watcher see it before (it was there, and matched), and does it see it after? Not: was it there. Where there is no object, there is nothing that matches, whatever the selector"})
	}
}

func TestTask4WhoWatchesAllDecodesNothing(t *testing.T) {
	lab := labtest.Task(t, "04", 4)
	broken := func() *store.Change { return &store.Change{Previous: []byte(`{`), Value: []byte(`{`)} }
	got, err := selecting("", "").eventOf(broken())
	lab.NoError("took the event of a change that cannot be decoded, for a watcher of all", err, "if s.everything(), there is nothing to ask of the object")
	lab.Equal("took the event of a change that cannot be decoded, for a watcher of all", string(got), "MODIFIED", "there was an object before, and there is one after")
	_, err = selecting("app=web", "").eventOf(broken())
	lab.Check(err != nil, labtest.Report{Did: "took the same event for a watcher of app=web", Want: "an error", Got: "none", Cause: "sidesOf keeps the error of decoding in its field err: return it"})
}

// Task 5

// wire is the connection to a client: what was flushed has arrived.
type wire struct {
	mu       sync.Mutex // guards all below
	buffered bytes.Buffer
	arrived  []string
	flushes  int
	broken   bool
	more     chan struct{} // closed, and replaced, when something arrives
}

func (w *wire) Header() http.Header { return http.Header{} }
func (w *wire) WriteHeader(int)     {}

func (w *wire) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return 0, errors.New("the client has left")
	}
	return w.buffered.Write(data)
}

// FlushError is what http.ResponseController calls. So many flushes are a loop without a pause: it breaks that off.
func (w *wire) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flushes++; w.flushes > 1000 || w.broken {
		return errors.New("the client has left")
	}
	for line := range strings.Lines(w.buffered.String()) {
		var event struct {
			Type   string
			Object object
		}
		json.Unmarshal([]byte(line), &event) // what is no JSON has no type
		told := strings.TrimSpace(fmt.Sprintf("%s %s@%s", event.Type, event.Object.Metadata.Name, event.Object.Metadata.ResourceVersion))
		if event.Type == "ERROR" {
			told = fmt.Sprintf("ERROR %s", event.Object.Reason)
		}
		w.arrived = append(w.arrived, told)
	}
	w.buffered.Reset()
	close(w.more)
	w.more = make(chan struct{})
	return nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
}

// told waits until so many events have arrived, and returns all.
func (w *wire) told(count int, ended <-chan struct{}) string {
	timeout := time.After(limit)
	for {
		w.mu.Lock()
		arrived, more := strings.Join(w.arrived, ", "), w.more
		enough := len(w.arrived) >= count
		w.mu.Unlock()
		if enough {
			return arrived
		}
		select {
		case <-more:
		case <-ended:
			count = 0
		case <-timeout:
			count = 0
		}
	}
}

// following calls follow for the config maps, after a revision.
func (s *site) following(ctx context.Context, labels string, after int64) (*wire, <-chan struct{}) {
	s.Helper()
	kind := api.KindOf[*corev1.ConfigMap]()
	selected, err := parseSelection(kind, metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		s.Fatal(err)
	}
	watcher, err := s.store.Watch(keyOf(kind, "default", ""), after)
	if err != nil {
		s.Fatal(err)
	}
	w, ended := &wire{more: make(chan struct{})}, make(chan struct{})
	out := &stream{w: w, r: &request{Request: httptest.NewRequest("GET", configMaps, nil), kind: kind}, bookmarks: true}
	go func() {
		defer close(ended)
		follow(ctx, watcher, selected, out)
	}()
	return w, ended
}

func (s *site) ends(did, cause string, ended <-chan struct{}) {
	s.Helper()
	select {
	case <-ended:
	case <-time.After(limit):
		s.Must(false, labtest.Report{Did: did, Want: "that follow returns", Got: fmt.Sprintf("it goes on after %v", limit), Cause: cause})
	}
}

// write changes the label of a config map in the store, or deletes it.
func (s *site) write(name, app string, at int64) int64 {
	s.Helper()
	key := "configmaps/default/" + name
	revision, err := int64(0), error(nil)
	if app == "" {
		revision, err = s.store.Delete(s.ctx, key, at, "test")
	} else {
		value := fmt.Appendf(nil, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"labels":{"app":%q}}}`, name, app)
		revision, err = s.store.Update(s.ctx, key, value, at, "test")
	}
	if err != nil {
		s.Fatal(err)
	}
	return revision
}

func TestTask5EachChangeIsSentAsItsEvent(t *testing.T) {
	s := newSite(t, 5)
	start := s.revision()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	allOf, allEnded := s.following(ctx, "", start)
	web, webEnded := s.following(ctx, "app=web", start)
	a := seed(s, configMap("a", "db"))
	b := seed(s, configMap("b", "web"))
	seed(s, pod("other-kind", ""))
	a2 := s.write("a", "web", a)
	b2 := s.write("b", "db", b)
	a3 := s.write("a", "", a2)
	const cause = "send each change that is an event for the selection, with change.Object(): of what was deleted that is the last state, at the revision of the deletion. And flush before you wait: else what was sent stays here"
	s.Equal("followed a watch of all config maps, while some were created, changed and deleted; read what had arrived", allOf.told(5, allEnded),
		fmt.Sprintf("ADDED a@%d, ADDED b@%d, MODIFIED a@%d, MODIFIED b@%d, DELETED a@%d", a, b, a2, b2, a3), cause)
	s.Equal("followed a watch of app=web in the same time; read what had arrived", web.told(4, webEnded),
		fmt.Sprintf("ADDED b@%d, ADDED a@%d, DELETED b@%d, DELETED a@%d", b, a2, b2, a3), cause+". What is no event for the selection is not sent")
	cancel()
	s.ends("ended the context of a watch", "ask ctx.Err() after Next: when ctx has ended, return", allEnded)
	s.ends("ended the context of a watch", "ask ctx.Err() after Next: when ctx has ended, return", webEnded)
}

func TestTask5SilentWatchSendsBookmarks(t *testing.T) {
	labtest.Begun(t, "04")
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 5)
		start := s.revision()
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
		defer cancel()
		w, ended := s.following(ctx, "", start)
		synctest.Wait()
		other := seed(s, pod("other-kind", "")) // moves the store on, but tells this watch nothing
		<-ended
		s.Equal("followed a watch for 150 seconds, in which nothing of its kind happened, but something else did; read what had arrived", w.told(0, ended), fmt.Sprintf("BOOKMARK @%d, BOOKMARK @%d", other, other),
			"Next gets a context of its own, which ends after bookmarkEvery: then send a bookmark with watcher.Revision(), which moves on over other kinds, and wait again. When ctx itself has ended, send nothing")
	})
}

func TestTask5WatchEndsAsItShould(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := siteOn(labtest.Task(t, "04", 5), path)
	start := s.revision()
	first := seed(s, configMap("a", "web"))
	second := s.write("a", "db", first)

	w, ended := s.following(s.ctx, "", second)
	w.cut()
	s.write("a", "web", second)
	s.ends("broke the connection, and changed an object", "out.flush() is false when the client has left: end then", ended)

	w, ended = s.following(s.ctx, "", s.revision())
	w.told(0, ended)
	s.store.Store.Close()
	s.ends("closed the store", "store.ErrClosed from Next ends the watch", ended)
	s.Equal("closed the store, and read what had arrived", w.told(0, ended), "", "a master that stops says nothing: the client comes back, and goes on from where it was")

	again := siteOn(s.T, path) // with an empty tail
	watched, err := again.store.Watch(keyOf(api.KindOf[*corev1.ConfigMap](), "default", ""), start)
	if err == nil {
		err = again.store.Compact(again.ctx, again.revision())
	}
	if err != nil {
		again.Fatal(err)
	}
	w, done := &wire{more: make(chan struct{})}, make(chan struct{})
	go func() {
		defer close(done)
		follow(again.ctx, watched, selecting("", ""), &stream{w: w, r: &request{Request: httptest.NewRequest("GET", configMaps, nil), kind: api.KindOf[*corev1.ConfigMap]()}})
	}()
	again.ends("compacted the changes that a watch was about to read", "any other error of Next ends the watch", done)
	again.Equal("compacted the changes that a watch was about to read, and read what had arrived", w.told(0, done), "ERROR Expired", "the client must learn that it has missed something: out.fail sends the error that makes it list again")
}
