package apiserver_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDeleteRemovesAtOnceWhatNothingKeeps(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "k: v")).ok()
	if got := w.delete(configMaps + "/a").object(); got.Name != "a" || got.Data["k"] != "v" {
		t.Errorf("the answer is not what was deleted: %v", got)
	}
	w.get(configMaps+"/a").fails(404, metav1.StatusReasonNotFound)
	w.delete(configMaps+"/a").fails(404, metav1.StatusReasonNotFound, `configmaps "a" not found`)
}

func TestGracePeriodOfAPod(t *testing.T) {
	for _, row := range []struct {
		name, spec string
		bound      bool
		query      string
		want       int64 // -1: gone at once
	}{
		{"on no node", "", false, "", -1},
		{"default", "", true, "", 30},
		{"its own", "terminationGracePeriodSeconds: 5", true, "", 5},
		{"that of the request", "terminationGracePeriodSeconds: 5", true, "?gracePeriodSeconds=7", 7},
		{"none of its own", "terminationGracePeriodSeconds: 0", true, "", -1},
		{"forced", "", true, "?gracePeriodSeconds=0", -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.post(pods, pod("web", row.spec)).ok()
			if row.bound {
				w.bind("web", "node-1")
			}
			before := time.Now().Truncate(time.Second)
			w.delete(pods + "/web" + row.query).ok()
			if row.want < 0 {
				w.get(pods+"/web").fails(404, metav1.StatusReasonNotFound)
				return
			}
			o := w.get(pods + "/web").object()
			if o.DeletionGracePeriodSeconds == nil || *o.DeletionGracePeriodSeconds != row.want {
				t.Fatalf("grace period %v", o.DeletionGracePeriodSeconds)
			}
			if end := before.Add(time.Duration(row.want) * time.Second); o.DeletionTimestamp.Time.Before(end) || o.DeletionTimestamp.After(end.Add(patience)) {
				t.Errorf("deletionTimestamp %v, asked at %v", o.DeletionTimestamp, before)
			}
		})
	}
}

func TestSecondDeleteShortensTheGracePeriodAndNeverExtendsIt(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("web", "")).ok()
	w.bind("web", "node-1")
	grace := func(query string) int64 {
		t.Helper()
		return *w.delete(pods + "/web?gracePeriodSeconds=" + query).object().DeletionGracePeriodSeconds
	}
	if first, longer, shorter := grace("20"), grace("60"), grace("5"); first != 20 || longer != 20 || shorter != 5 {
		t.Errorf("got %d, %d, %d", first, longer, shorter)
	}
	if again, before := w.delete(pods+"/web").ok(), w.get(pods+"/web"); string(again.body) != string(before.body) {
		t.Error("a delete that changes nothing writes")
	}
	w.patch("merge", pods+"/web", `{"metadata":{"deletionTimestamp":null,"labels":{"a":"b"}}}`).ok()
	if w.get(pods+"/web").object().DeletionTimestamp == nil {
		t.Error("an update has undone the deletion")
	}
	w.post(pods+"/web/binding", toJSON(`{target: {name: node-2}}`)).fails(409, metav1.StatusReasonConflict, "being deleted")
	grace("0")
	w.get(pods+"/web").fails(404, metav1.StatusReasonNotFound)
}

func TestFinishedPodIsDeletedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("web", "")).ok()
	w.bind("web", "node-1")
	w.patch("merge", pods+"/web/status", `{"status":{"phase":"Succeeded"}}`).ok()
	w.delete(pods + "/web").ok()
	w.get(pods+"/web").fails(404, metav1.StatusReasonNotFound)
}

func TestObjectStaysUntilItsLastFinalizerIsTakenAway(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "finalizers: [example.org/one, example.org/two]", "")).ok()
	o := w.delete(configMaps + "/a").object()
	if o.DeletionTimestamp == nil || managers(o) != "test/Update" {
		t.Errorf("not marked: %+v", o.ObjectMeta)
	}
	w.patch("merge", configMaps+"/a", `{"metadata":{"finalizers":["example.org/two"]}}`).ok()
	w.get(configMaps + "/a").ok()
	w.patch("merge", configMaps+"/a", `{"metadata":{"finalizers":null}}`).ok()
	w.get(configMaps+"/a").fails(404, metav1.StatusReasonNotFound)
}

func TestPropagationSetsTheFinalizerForTheGarbageCollector(t *testing.T) {
	for _, row := range []struct{ name, query, body, want string }{
		{"background", "", `{"propagationPolicy":"Background"}`, ""},
		{"foreground", "", `{"propagationPolicy":"Foreground"}`, "foregroundDeletion"},
		{"orphan", "", `{"propagationPolicy":"Orphan"}`, "orphan"},
		{"orphan in the old way", "", `{"orphanDependents":true}`, "orphan"},
		{"in the query", "?propagationPolicy=Foreground", "", "foregroundDeletion"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.post(deployments, deployment("web", "")).ok()
			w.call("admin", "DELETE", deployments+"/web"+row.query, row.body).ok()
			if row.want == "" {
				w.get(deployments+"/web").fails(404, metav1.StatusReasonNotFound)
				return
			}
			o := w.get(deployments + "/web").object()
			if got := strings.Join(o.Finalizers, " "); got != row.want || o.DeletionTimestamp == nil {
				t.Errorf("finalizers %s, deleted %v", got, o.DeletionTimestamp)
			}
		})
	}
}

func TestDeleteKeepsToItsPreconditions(t *testing.T) {
	w := newWorld(t)
	o := w.post(configMaps, configMap("a", "", "")).object()
	w.call("admin", "DELETE", configMaps+"/a", `{"preconditions":{"uid":"other"}}`).fails(409, metav1.StatusReasonConflict, "UID in the precondition (other)")
	w.call("admin", "DELETE", configMaps+"/a", `{"preconditions":{"resourceVersion":"1"}}`).fails(409, metav1.StatusReasonConflict, "the object has been modified")
	w.call("admin", "DELETE", configMaps+"/a", `{"preconditions":{"uid":"`+string(o.UID)+`","resourceVersion":"`+o.ResourceVersion+`"}}`).ok()
}

func TestNamespaceStaysUntilItIsFinalized(t *testing.T) {
	w := newWorld(t)
	const shop = "/api/v1/namespaces/shop"
	created := w.post("/api/v1/namespaces", toJSON(`{metadata: {name: shop}}`)).object()
	if created.Status["phase"] != "Active" || created.Labels[corev1.LabelMetadataName] != "shop" {
		t.Errorf("created: %v", created)
	}
	w.post(shop+"/configmaps", configMap("a", "", "")).ok()
	w.put(shop, toJSON(`{metadata: {name: shop}}`)).ok() // as `kubectl replace` does: it takes away no finalizer
	if o := w.delete(shop).object(); o.Status["phase"] != "Terminating" || o.DeletionTimestamp == nil {
		t.Errorf("being deleted: %v", o)
	}
	w.post(shop+"/configmaps", configMap("b", "", "")).fails(403, metav1.StatusReasonForbidden, "unable to create new content in namespace shop because it is being terminated")
	w.put(shop+"/configmaps/a", configMap("a", "", "still: writable")).ok()
	w.put(shop+"/finalize", toJSON(`{metadata: {name: shop}, spec: {finalizers: [kubernetes]}}`)).ok()
	w.get(shop).ok()
	w.put(shop+"/finalize", toJSON(`{metadata: {name: shop}, spec: {}}`)).ok()
	w.get(shop).fails(404, metav1.StatusReasonNotFound)
}

func TestEvictionDeletesAsTheOptionsSay(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("web", "")).ok()
	w.bind("web", "node-1")
	w.post(pods+"/web/eviction", toJSON(`{apiVersion: policy/v1, kind: Eviction, metadata: {name: web}, deleteOptions: {gracePeriodSeconds: 3}}`)).ok()
	if got := *w.get(pods + "/web").object().DeletionGracePeriodSeconds; got != 3 {
		t.Errorf("grace period %d", got)
	}
	w.post(pods+"/web/eviction", `[]`).fails(400, metav1.StatusReasonBadRequest, "the body is not an Eviction")
	w.post(pods+"/none/eviction", `{}`).fails(404, metav1.StatusReasonNotFound)
}
