package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// history returns what the history of an object tells the user, up to the present.
func (w *world) history(user apiserver.User, path string) (entries []api.HistoryEntry) {
	w.t.Helper()
	for line := range bytes.Lines(w.call(user, "GET", path+"/history", "").ok().body) {
		var event struct {
			Type   string
			Object api.HistoryEntry
		}
		if err := json.Unmarshal(line, &event); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		if event.Type == "ADDED" {
			entries = append(entries, event.Object)
		}
	}
	return entries
}

// told writes entries down, each as "verb Kind/name path: from -> to".
func told(entries []api.HistoryEntry) (all []string) {
	for _, e := range entries {
		text := e.Verb + " " + e.Kind + "/" + e.Name
		if e.Event != nil {
			text = fmt.Sprintf("%s/%s %s %d", e.Kind, e.Name, e.Event.Reason, e.Event.Count)
		}
		for _, d := range slices.Concat(e.Changes, e.Columns) {
			text += fmt.Sprintf(" %s: %v -> %v", d.Path, d.From, d.To)
		}
		all = append(all, strings.ReplaceAll(text, "<nil>", "none"))
	}
	return all
}

func (w *world) mustTell(user apiserver.User, path string, want ...string) {
	w.t.Helper()
	if got := told(w.history(user, path)); !slices.Equal(got, want) {
		w.t.Errorf("%s is told\n  %s\nwant\n  %s", user, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// owned returns an object like the one of the JSON, but owned.
func owned(child string, owner object) string {
	reference := fmt.Sprintf(`"ownerReferences":[{"apiVersion":"v1","kind":%q,"name":%q,"uid":%q}]`, owner.Kind, owner.Name, owner.UID)
	return strings.Replace(child, `"metadata":{`, `"metadata":{`+reference+`,`, 1)
}

func eventAbout(name, reason string, about object) string {
	return toJSON(fmt.Sprintf(`{metadata: {name: %s, namespace: default}, reason: %s, message: m, count: 1, source: {component: scheduler},
		involvedObject: {kind: %s, namespace: default, name: %s, uid: %s}}`, name, reason, about.Kind, about.Name, about.UID))
}

const replicaSets, events = "/apis/apps/v1/namespaces/default/replicasets", "/api/v1/namespaces/default/events"

func replicaSet(name string) string {
	return strings.Replace(deployment(name, ""), `"Deployment"`, `"ReplicaSet"`, 1)
}

func TestHistoryTellsTheLifeOfAnObjectAndOfAllThatBelongsToIt(t *testing.T) {
	w := newWorld(t)
	web := w.post(deployments, deployment("web", "replicas: 1,")).object()
	w.post(deployments, deployment("web-2", "")).ok() // its key begins with that of the other
	rs := w.post(replicaSets, owned(replicaSet("web-1"), web)).object()
	a := w.post(pods, owned(pod("a", ""), rs)).object()
	other := w.post(pods, pod("other", "")).object()
	w.post(events, eventAbout("e1", "Scheduled", a)).ok()
	w.post(events, eventAbout("e2", "Scheduled", other)).ok()
	w.bind("a", "node-1")
	w.patch("merge", events+"/e1", `{"count":2}`).ok()
	w.patch("merge", deployments+"/web/scale", `{"spec":{"replicas":3}}`).ok()
	w.patch("strategic-merge", deployments+"/web", toJSON(`{spec: {template: {spec: {containers: [{name: c, image: "i:2"}, {name: d, image: x}]}}}}`)).ok()
	w.delete(events + "/e1").ok()
	w.delete(deployments + "/web").ok()
	w.delete(replicaSets + "/web-1").ok()
	w.delete(pods + "/a?gracePeriodSeconds=0").ok()
	w.post(events, eventAbout("e3", "Killing", a)).ok()
	w.post(deployments, deployment("web", "")).ok() // another, of the same name
	want := []string{
		"created Deployment/web",
		"created ReplicaSet/web-1",
		"created Pod/a",
		"Pod/a Scheduled 1",
		"updated Pod/a spec.nodeName: none -> node-1 status.conditions[PodScheduled].status: none -> True",
		"Pod/a Scheduled 2",
		"updated Deployment/web spec.replicas: 1 -> 3 Ready: 0/1 -> 0/3",
		"updated Deployment/web spec.template.spec.containers[c].image: i:1 -> i:2" +
			" spec.template.spec.containers[d].image: none -> x spec.template.spec.containers[d].imagePullPolicy: none -> Always" +
			" spec.template.spec.containers[d].resources: none -> map[]" +
			" spec.template.spec.containers[d].terminationMessagePath: none -> /dev/termination-log" +
			" spec.template.spec.containers[d].terminationMessagePolicy: none -> File",
		"deleted Deployment/web",
		"deleted ReplicaSet/web-1",
		"deleted Pod/a",
		"Pod/a Killing 1",
		"created Deployment/web",
	}
	w.mustTell("admin", deployments+"/web", want...)
	w.mustTell("viewer", deployments+"/web", want...)
	w.mustTell("admin", pods+"/a", want[2], want[3], want[4], want[5], want[10], want[11])
	entries := w.history("admin", deployments+"/web")
	for i, e := range entries {
		who := "test"
		if e.Event != nil {
			who = "scheduler"
		}
		if e.Who != who || e.Time.IsZero() || e.Namespace != "default" || i > 0 && e.Revision <= entries[i-1].Revision {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func TestWhatIsAdoptedBelongsFromThenOnAndToItsEnd(t *testing.T) {
	w := newWorld(t)
	rs := w.post(replicaSets, replicaSet("rs")).object()
	w.post(pods, pod("a", "")).ok()
	w.patch("merge", pods+"/a", `{"metadata":{"labels":{"n":"1"}}}`).ok() // nobody's yet
	reference := `{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"` + string(rs.UID) + `"}`
	w.patch("merge", pods+"/a", `{"metadata":{"ownerReferences":[`+reference+`]}}`).ok()
	w.patch("merge", pods+"/a", `{"metadata":{"ownerReferences":null}}`).ok()
	w.patch("merge", pods+"/a", `{"metadata":{"labels":{"n":"2"}}}`).ok()
	got := told(w.history("admin", replicaSets+"/rs"))
	if len(got) != 4 || !strings.HasPrefix(got[1], "updated Pod/a metadata.ownerReferences[rs].apiVersion: none -> apps/v1") ||
		!strings.Contains(got[2], "metadata.ownerReferences[rs].kind: ReplicaSet -> none") || got[3] != "updated Pod/a metadata.labels.n: 1 -> 2" {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestHistorySaysWhoItWas(t *testing.T) {
	w := newWorld(t)
	w.call("component:master", "POST", pods, pod("a", ""), "User-Agent: replicaset-controller").ok()
	w.post(pods+"/a/binding?fieldManager=me", toJSON(`{target: {name: node-1}}`)).ok()
	w.call("node:node-1", "PATCH", pods+"/a/status", `{"status":{"phase":"Running"}}`, "User-Agent: kubelet/v1", "Content-Type: application/merge-patch+json").ok()
	a := w.get(pods + "/a").object()
	w.call("node:node-1", "POST", events, strings.Replace(eventAbout("e", "Started", a), "scheduler", "kubelet", 1), "User-Agent: kubelet").ok()
	var who []string
	for _, e := range w.history("admin", pods+"/a") {
		who = append(who, e.Who)
	}
	if got := strings.Join(who, ", "); got != "replicaset-controller, me, kubelet (node-1), kubelet (node-1)" {
		t.Errorf("got %s", got)
	}
	if got := managers(a); strings.Contains(got, "node-1") {
		t.Errorf("the managers are %s", got)
	}
}

func TestHistoryHidesWhatSecretsHold(t *testing.T) {
	w := newWorld(t)
	const secrets = "/api/v1/namespaces/default/secrets"
	owner := w.post(configMaps, configMap("owner", "", "")).object()
	w.post(secrets, owned(toJSON(`{metadata: {name: s, annotations: {kubectl.kubernetes.io/last-applied-configuration: hunter2}}, data: {a: aHVudGVyMg==, b: aHVudGVyMg==}}`), owner)).ok()
	w.patch("merge", secrets+"/s", `{"metadata":{"labels":{"x":"y"},"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter3"}},"data":{"a":"aHVudGVyMw==","b":null}}`).ok()
	w.delete(secrets + "/s").ok()
	want := []string{"created ConfigMap/owner", "created Secret/s",
		"updated Secret/s data.a: (hidden) -> (hidden) data.b: (hidden) -> none metadata.labels.x: none -> y Data: 2 -> 1", "deleted Secret/s"}
	w.mustTell("admin", configMaps+"/owner", want...)
	w.mustTell("admin", secrets+"/s", want[1:]...)
	w.mustTell("viewer", configMaps+"/owner", want[0])
	for _, path := range []string{configMaps + "/owner", secrets + "/s"} {
		if body := string(w.get(path + "/history").ok().body); strings.Contains(body, "aHVudGVy") || strings.Contains(body, "hunter") {
			t.Errorf("the history of %s shows a secret: %s", path, body)
		}
		w.call("node:node-1", "GET", path+"/history", "").fails(403, metav1.StatusReasonForbidden)
	}
	w.call("viewer", "GET", secrets+"/s/history", "").fails(403, metav1.StatusReasonForbidden)
}

func TestHeartbeatsAreNoNews(t *testing.T) {
	w := newWorld(t)
	const nodes, leases = "/api/v1/nodes", "/apis/coordination.k8s.io/v1/namespaces/default/leases"
	node := w.post(nodes, toJSON(`{metadata: {name: node-1}}`)).object()
	status := `{"status":{"conditions":[{"type":"Ready","status":%q,"lastHeartbeatTime":"2026-01-01T00:00:%02dZ"}]}}`
	w.patch("merge", nodes+"/node-1/status", fmt.Sprintf(status, "True", 1)).ok()
	w.patch("merge", nodes+"/node-1/status", fmt.Sprintf(status, "True", 2)).ok()
	w.post(leases, owned(toJSON(`{metadata: {name: node-1}, spec: {renewTime: "2026-01-01T00:00:00.000000Z"}}`), node)).ok()
	w.patch("merge", leases+"/node-1", `{"spec":{"renewTime":"2026-01-01T00:00:10.000000Z"}}`).ok()
	w.patch("merge", nodes+"/node-1/status", fmt.Sprintf(status, "False", 3)).ok()
	w.post(configMaps, owned(configMap("c", "", "generation: '1'"), node)).ok()
	w.patch("merge", configMaps+"/c", `{"data":{"generation":"2"}}`).ok() // is not that of an object
	w.mustTell("admin", nodes+"/node-1", "created Node/node-1",
		"updated Node/node-1 status.conditions[Ready].status: none -> True Status: Unknown -> Ready",
		"created Lease/node-1",
		"updated Node/node-1 status.conditions[Ready].status: True -> False Status: Ready -> NotReady",
		"created ConfigMap/c", "updated ConfigMap/c data.generation: 1 -> 2")
}

func TestElementsOfListsGoByTheirNames(t *testing.T) {
	w := newWorld(t)
	template := `{spec: {template: {spec: {volumes: [{name: v}], containers: [{name: c, image: "i:1", command: [%s], volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: %s}]%s}]}}}}`
	w.post(deployments, deployment("web", "")).ok()
	w.patch("merge", deployments+"/web", toJSON(fmt.Sprintf(template, "a", "/b", ", env: [{name: P, value: '1'}, {name: Q, value: '2'}]"))).ok()
	w.patch("merge", deployments+"/web", toJSON(fmt.Sprintf(template, "a, b", "/c", ", env: [{name: Q, value: '2'}, {name: P, value: '3'}]"))).ok()
	entries := w.history("admin", deployments+"/web")
	want := "updated Deployment/web" +
		" spec.template.spec.containers[c].command: [a] -> [a b]" +
		" spec.template.spec.containers[c].env[P].value: 1 -> 3" +
		" spec.template.spec.containers[c].volumeMounts[1].mountPath: /b -> /c"
	if got := told(entries); got[2] != want {
		t.Errorf("got\n%s\nwant\n%s", got[2], want)
	}
}

// After a compaction the states that were replaced are gone, and so are the objects that were deleted.
func TestWhatWasThereBeforeTheLogIsToldAsKnown(t *testing.T) {
	w := newWorld(t)
	web := w.post(deployments, deployment("web", "replicas: 1,")).object()
	rs := w.post(replicaSets, owned(replicaSet("web-1"), web)).object()
	a := w.post(pods, owned(pod("a", ""), rs)).object() // its key comes before its owner's
	w.post(pods, owned(pod("gone", ""), rs)).ok()
	w.delete(pods + "/gone").ok()
	w.patch("merge", deployments+"/web/scale", `{"spec":{"replicas":2}}`).ok()
	mark := w.get(pods).object().ResourceVersion
	w.patch("merge", pods+"/a", `{"metadata":{"labels":{"app":"b"}}}`).ok()
	w.compact(mark)
	w.mustTell("admin", deployments+"/web", "known ReplicaSet/web-1", "known Pod/a", "known Deployment/web",
		"updated Pod/a metadata.labels.app: a -> b")
	if first := w.history("admin", pods+"/a")[0]; first.Verb != "known" || !first.Time.Equal(a.CreationTimestamp.Time) || first.Revision == 0 {
		t.Errorf("got %+v", first)
	}
	w.get(pods+"/gone/history").fails(404, metav1.StatusReasonNotFound, `pods "gone" not found`)
}

func (w *world) compact(revision string) {
	w.t.Helper()
	mark, err := strconv.ParseInt(revision, 10, 64)
	if err == nil {
		err = w.store.Compact(w.ctx, mark)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestHistoryGoesOnForWhoWatches(t *testing.T) {
	w := newWorld(t)
	w.get(configMaps+"/a/history?watch=true").fails(404, metav1.StatusReasonNotFound)
	w.post(configMaps, configMap("a", "", "")).ok()
	watch := w.watch(configMaps+"/a/history", "")
	next := func(want string) {
		t.Helper()
		var entry api.HistoryEntry
		line, err := watch.lines.ReadBytes('\n')
		if err != nil || json.Unmarshal(line, &struct{ Object *api.HistoryEntry }{&entry}) != nil || entry.Verb != want {
			t.Fatalf("got %s %v, want %s", line, err, want)
		}
	}
	next("created")
	if e := watch.next(); e.Type != "BOOKMARK" || e.Object.ResourceVersion != w.get(configMaps).object().ResourceVersion {
		t.Errorf("the present is %+v", e)
	}
	w.post(configMaps, configMap("b", "", "")).ok()
	w.patch("merge", configMaps+"/a", `{"data":{"k":"v"}}`).ok()
	next("updated")
	w.delete(configMaps + "/a").ok()
	next("deleted")
	w.store.Close()
	if line, err := watch.lines.ReadBytes('\n'); err != io.EOF {
		t.Errorf("after the end of the store: %s %v", line, err)
	}
}

// leaver is a client that leaves when it has the first answer.
type leaver struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l leaver) Flush() { l.leave() }

func TestHistoryEndsWithItsClient(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	ctx, leave := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := httptest.NewRequestWithContext(ctx, "GET", configMaps+"/a/history?watch=true", nil)
		w.server.As("admin").ServeHTTP(leaver{httptest.NewRecorder(), leave}, r)
	}()
	select {
	case <-ended:
	case <-w.ctx.Done():
		t.Error("it goes on for nobody")
	}
}

// The server keeps other things in the store than objects.
func TestHistoryPassesOverWhatIsNoObject(t *testing.T) {
	w := newWorld(t)
	a := w.post(configMaps, configMap("a", "", "")).object()
	for key, value := range map[string]string{"claims/1": `{"metadata":{"uid":%q}}`, "configmaps/default/b": `of "uid":%q`} {
		if _, err := w.store.Create(w.ctx, key, fmt.Appendf(nil, value, a.UID), "test"); err != nil {
			t.Fatal(err)
		}
	}
	w.mustTell("admin", configMaps+"/a", "created ConfigMap/a")
}

func TestListAsOfAnEarlierRevision(t *testing.T) {
	w := newWorld(t)
	first := w.post(configMaps, configMap("a", "labels: {tier: db}", "n: one")).object().ResourceVersion
	w.post(configMaps, configMap("b", "", "")).ok()
	then := w.patch("merge", configMaps+"/a", `{"data":{"n":"two"}}`).object().ResourceVersion
	w.delete(configMaps + "/b").ok()
	w.put(configMaps+"/a", configMap("a", "labels: {tier: web}", "n: three")).ok()
	exact := "?resourceVersionMatch=Exact&resourceVersion=" + then
	for path, want := range map[string]string{
		configMaps + exact: "a b",
		configMaps + exact + "&labelSelector=tier%3Ddb":                           "a",
		configMaps + exact + "&labelSelector=tier%3Dweb":                          "",
		configMaps + exact + "&fieldSelector=metadata.name%3Db":                   "b",
		"/api/v1/configmaps" + exact:                                              "a b",
		"/api/v1/namespaces/kube-public/configmaps" + exact:                       "",
		configMaps + "?resourceVersion=" + then:                                   "a",
		configMaps + "?resourceVersion=0":                                         "a",
		configMaps + "?resourceVersion=0&resourceVersionMatch=NotOlderThan":       "a",
		configMaps + "?resourceVersionMatch=NotOlderThan&resourceVersion=" + then: "a",
	} {
		if got := w.get(path).object(); got.names() != want || strings.Contains(path, "Exact") != (got.ResourceVersion == then) {
			t.Errorf("%s: %q at %s", path, got.names(), got.ResourceVersion)
		}
	}
	if got := w.get(configMaps + exact).object().Items[0]; got.Data["n"] != "two" || got.ResourceVersion != then {
		t.Errorf("then it was %v at %s", got.Data, got.ResourceVersion)
	}
	if table := w.call("admin", "GET", configMaps+exact, "", asTable).object(); len(table.Rows) != 2 || table.ResourceVersion != then {
		t.Errorf("as a table: %+v", table)
	}
	w.compact(then)
	if got := w.get(configMaps + exact).object().names(); got != "a b" {
		t.Errorf("after the compaction up to there: %q", got)
	}
	w.get(configMaps+"?resourceVersionMatch=Exact&resourceVersion="+first).fails(410, metav1.StatusReasonExpired)
	if got := w.get(configMaps + "?resourceVersion=" + first).object().names(); got != "a" {
		t.Errorf("not older than a forgotten revision: %q", got)
	}
}

func TestRevisionOfAListIsChecked(t *testing.T) {
	w := newWorld(t)
	const invalid = metav1.StatusReasonInvalid
	for query, word := range map[string]string{
		"resourceVersionMatch=Exact":                                   "forbidden unless resourceVersion is provided",
		"resourceVersionMatch=NotOlderThan":                            "forbidden unless resourceVersion is provided",
		"resourceVersionMatch=Newest&resourceVersion=1":                `Unsupported value: "Newest"`,
		"resourceVersionMatch=Exact&resourceVersion=0":                 `forbidden for resourceVersion "0"`,
		"resourceVersionMatch=Exact&resourceVersion=1&watch=true":      "forbidden for watch",
		"sendInitialEvents=true":                                       "sendInitialEvents is forbidden for list",
		"sendInitialEvents=true&watch=true":                            "requires setting resourceVersionMatch to NotOlderThan",
		"sendInitialEvents=true&watch=true&resourceVersionMatch=Exact": "requires setting resourceVersionMatch to NotOlderThan",
	} {
		w.get(configMaps+"?"+query).fails(422, invalid, word)
	}
	for _, query := range []string{"", "&watch=true", "&resourceVersionMatch=Exact", "&resourceVersionMatch=NotOlderThan"} {
		w.get(configMaps+"?resourceVersion=x"+query).fails(400, metav1.StatusReasonBadRequest, `"x" is not a revision`)
		w.get(configMaps+"?resourceVersion=-1"+query).fails(400, metav1.StatusReasonBadRequest, `"-1" is not a revision`)
		future := w.get(configMaps+"?resourceVersion=1000"+query).fails(504, metav1.StatusReasonTimeout, "Too large resource version")
		var status metav1.Status
		if err := json.Unmarshal(future.body, &status); err != nil || status.Details.RetryAfterSeconds != 1 ||
			status.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
			t.Errorf("%s: %+v", query, status.Details)
		}
	}
}
