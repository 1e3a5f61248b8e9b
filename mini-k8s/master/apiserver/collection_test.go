package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"workshop/mini-k8s/client"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDeletingACollectionDeletesWhatTheSelectorsMatch(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.post(configMaps, configMap(name, "labels: {app: "+name+"}", "")).ok()
		w.post("/api/v1/namespaces/kube-system/configmaps", configMap(name, "", "")).ok()
	}
	gone := w.delete(configMaps + "?labelSelector=app%20in%20(a,b)").object()
	if gone.Kind != "ConfigMapList" || gone.names() != "a b" {
		t.Errorf("the answer is %s of %s", gone.Kind, gone.names())
	}
	if left := w.get(configMaps).object().names(); left != "c" {
		t.Errorf("left after a selector by label: %s", left)
	}
	w.delete(configMaps + "?fieldSelector=metadata.name=none").ok()
	w.delete(configMaps+"?fieldSelector=data=none").fails(400, metav1.StatusReasonBadRequest, "field label not supported")
	w.delete(configMaps + "?dryRun=All").ok()
	w.call("admin", "DELETE", configMaps, `{"dryRun":["All"]}`).ok()
	if left := w.get(configMaps).object().names(); left != "c" {
		t.Errorf("left after a selector that matches nothing, a mistake and dry runs: %s", left)
	}
	w.delete(configMaps).ok()
	if left, others := w.get(configMaps).object().names(), w.get("/api/v1/namespaces/kube-system/configmaps").object().names(); left != "" || others != "a b c" {
		t.Errorf("left: %q; in another namespace: %q", left, others)
	}
}

// Each object goes the way that it would go alone.
func TestDeletingACollectionKeepsToTheRulesOfEachObject(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("runs", "")).ok()
	w.post(pods, pod("waits", "")).ok()
	w.bind("runs", "node-1")
	w.post(configMaps, configMap("kept", "finalizers: [example.org/one]", "")).ok()
	w.post(configMaps, configMap("other", "", "")).ok()
	w.call("admin", "DELETE", pods, `{"gracePeriodSeconds":7}`).ok()
	if left := w.get(pods).object(); left.names() != "runs" || *left.Items[0].DeletionGracePeriodSeconds != 7 {
		t.Errorf("left: %+v", left.Items)
	}
	w.delete(configMaps).ok()
	if left := w.get(configMaps).object(); left.names() != "kept" || left.Items[0].DeletionTimestamp == nil {
		t.Errorf("left: %+v", left.Items)
	}
	w.call("viewer", "DELETE", configMaps, "").fails(403, metav1.StatusReasonForbidden)
	w.call("node:node-1", "DELETE", pods, "").fails(403, metav1.StatusReasonForbidden)
}

func TestAnotherMayDeleteWhileACollectionIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	w.post(configMaps, configMap("b", "", "")).ok()
	w.store.get = func() { // the first time, just before "a" is deleted
		w.store.get = nil
		w.delete(configMaps + "/a").ok()
	}
	w.delete(configMaps).ok()
	if left := w.get(configMaps).object().names(); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestNamespacesThatEveryClusterNeedsStay(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		w.delete("/api/v1/namespaces/"+name).fails(403, metav1.StatusReasonForbidden, `namespaces "`+name+`" is forbidden: this namespace may not be deleted`)
		if ns := w.get("/api/v1/namespaces/" + name).object(); ns.DeletionTimestamp != nil {
			t.Errorf("%s is being deleted", name)
		}
	}
	w.delete("/api/v1/namespaces/kube-node-lease").ok()
}

func TestListIsAnsweredWhole(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	w.post(configMaps, configMap("b", "", "")).ok()
	if got := w.get(configMaps + "?limit=1&pretty=true&nonsense=1").object().names(); got != "a b" {
		t.Errorf("got %s", got)
	}
	w.get(configMaps+"?limit=1&continue=abc").fails(400, metav1.StatusReasonBadRequest, "continue")
}

const asMetadata = "Accept: application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

func TestMetadataAlone(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "labels: {app: a}", "k: v")).ok()
	w.post(configMaps, configMap("b", "labels: {app: b}", "k: v")).ok()
	whole := w.get(configMaps + "/a").object()
	check := func(what string, o object) {
		t.Helper()
		if o.Kind != "PartialObjectMetadata" || o.APIVersion != "meta.k8s.io/v1" || o.Data != nil || fmt.Sprint(o.ObjectMeta) != fmt.Sprint(whole.ObjectMeta) {
			t.Errorf("%s: got %+v", what, o)
		}
	}
	check("get", w.call("admin", "GET", configMaps+"/a", "", asMetadata).object())
	list := w.call("admin", "GET", configMaps+"?labelSelector=app=a", "", asMetadata).object()
	if list.Kind != "PartialObjectMetadataList" || list.APIVersion != "meta.k8s.io/v1" || list.names() != "a" || list.ResourceVersion != w.get(configMaps).object().ResourceVersion {
		t.Fatalf("list: got %+v", list)
	}
	check("list", list.Items[0])

	w.post(deployments, deployment("web", "replicas: 2,")).ok()
	if scale := w.call("admin", "GET", deployments+"/web/scale", "", asMetadata).object(); scale.Kind != "Scale" || scale.Spec["replicas"] != 2.0 {
		t.Errorf("a scale, which has no such form: %+v", scale)
	}

	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://in-memory"+configMaps+"?watch=true&fieldSelector=metadata.name=a", nil)
	r.Header.Set("Accept", strings.TrimPrefix(asMetadata, "Accept: "))
	response, err := client.InMemory(w.server.As("admin")).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	line, err := bufio.NewReader(response.Body).ReadBytes('\n')
	var event struct {
		Type   string
		Object object
	}
	if err := json.Unmarshal(line, &event); err != nil || event.Type != "ADDED" {
		t.Fatalf("%v: %s", err, line)
	}
	check("watch", event.Object)
}
