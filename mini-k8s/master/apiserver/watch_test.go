package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watching is a watch under way.
type watching struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Reader
}

// watch begins one; the query comes without "watch=true".
func (w *world) watch(path, query string, headers ...string) *watching {
	w.t.Helper()
	accept := "application/json"
	if len(headers) > 0 {
		accept = strings.TrimPrefix(headers[0], "Accept: ")
	}
	response, err := w.admin.Stream(w.ctx, client.Request{Method: http.MethodGet, Path: path + "?watch=true&" + query, Accept: accept})
	if err != nil {
		w.t.Fatalf("watch %s: %v", query, err)
	}
	w.t.Cleanup(func() { response.Body.Close() })
	return &watching{w.t, response.Body, bufio.NewReader(response.Body)}
}

type event struct {
	Type   string
	Object object
}

func (w *watching) next() event {
	w.t.Helper()
	line, err := w.lines.ReadBytes('\n')
	if err != nil {
		w.t.Fatalf("the watch has ended: %v", err)
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		w.t.Fatalf("%v: %s", err, line)
	}
	return e
}

// expect checks the next events, each as "TYPE name".
func (w *watching) expect(want ...string) {
	w.t.Helper()
	for _, text := range want {
		e := w.next()
		if got := e.Type + " " + e.Object.Name; got != text {
			w.t.Fatalf("got %s, want %s", got, text)
		}
		if e.Object.ResourceVersion == "" {
			w.t.Errorf("%s has no resourceVersion", text)
		}
	}
}

func TestWatchTellsEveryChangeAfterItsRevision(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("before", "", "")).ok()
	revision := w.get(configMaps).object().ResourceVersion
	early := w.watch(configMaps, "resourceVersion="+revision)
	w.post(configMaps, configMap("a", "", "")).ok()
	w.put(configMaps+"/a", configMap("a", "", "k: v")).ok()
	w.post("/api/v1/namespaces/kube-public/configmaps", configMap("elsewhere", "", "")).ok()
	w.post(pods, pod("other-kind", "")).ok()
	w.delete(configMaps + "/a").ok()
	w.delete(configMaps + "/before").ok()
	for name, watch := range map[string]*watching{"early": early, "late": w.watch(configMaps, "resourceVersion="+revision)} {
		t.Run(name, func(t *testing.T) {
			watch.t = t
			watch.expect("ADDED a", "MODIFIED a", "DELETED a", "DELETED before")
		})
	}
	w.watch("/api/v1/configmaps", "resourceVersion="+revision).expect("ADDED a", "MODIFIED a", "ADDED elsewhere", "DELETED a", "DELETED before")
}

func TestDeletedObjectComesAsItLastWasWithTheRevisionOfItsDeletion(t *testing.T) {
	w := newWorld(t)
	created := w.post(configMaps, configMap("a", "", "k: v")).object()
	watch := w.watch(configMaps, "resourceVersion="+created.ResourceVersion)
	w.delete(configMaps + "/a").ok()
	e := watch.next()
	before, _ := strconv.Atoi(created.ResourceVersion)
	after, _ := strconv.Atoi(e.Object.ResourceVersion)
	if e.Type != "DELETED" || e.Object.Data["k"] != "v" || after <= before {
		t.Errorf("got %+v, created at %d", e, before)
	}
}

func TestWatchWithoutARevisionBeginsWithTheState(t *testing.T) {
	for _, revision := range []string{"", "0"} {
		t.Run("resourceVersion="+revision, func(t *testing.T) {
			w := newWorld(t)
			w.post(pods, pod("a", "")).ok()
			w.post(pods, pod("b", "")).ok()
			all := w.watch(pods, "resourceVersion="+revision)
			one := w.watch(pods, "fieldSelector=metadata.name%3Db&resourceVersion="+revision)
			all.expect("ADDED a", "ADDED b")
			one.expect("ADDED b")
			w.post(pods, pod("c", "")).ok()
			w.delete(pods + "/b").ok()
			all.expect("ADDED c", "DELETED b")
			one.expect("DELETED b")
		})
	}
}

func TestStateCanComeInPlaceOfAListAndItsEndIsMarked(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	revision := w.get(configMaps).object().ResourceVersion
	for _, from := range []string{"", revision} {
		watch := w.watch(configMaps, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion="+from)
		watch.expect("ADDED a")
		e := watch.next()
		if e.Type != "BOOKMARK" || e.Object.Annotations[metav1.InitialEventsAnnotationKey] != "true" || e.Object.ResourceVersion != revision || e.Object.Kind != "ConfigMap" {
			t.Errorf("from %q: %+v", from, e)
		}
	}
}

func TestSilentWatchSendsBookmarksToThoseWhoWantThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(context.Background()) // the world's patience is at an end after one bookmark
		defer cancel()
		w.ctx = ctx
		revision := w.get(configMaps).object().ResourceVersion
		started := time.Now()
		watch := w.watch(configMaps, "allowWatchBookmarks=true&resourceVersion="+revision)
		table := w.watch(configMaps, "allowWatchBookmarks=true&resourceVersion="+revision, asTable)
		silent := w.watch(configMaps, "timeoutSeconds=100&resourceVersion="+revision)
		other := w.post(pods, pod("a", "")).object().ResourceVersion // moves the store on, but not the watch's kind
		e := watch.next()
		if e.Type != "BOOKMARK" || e.Object.ResourceVersion != other || e.Object.Kind != "ConfigMap" || e.Object.APIVersion != "v1" || e.Object.Name != "" {
			t.Errorf("got %+v, the store is at %s", e, other)
		}
		if waited := time.Since(started); waited < time.Minute || waited > time.Minute+time.Second {
			t.Errorf("after %v", waited)
		}
		if e := table.next(); e.Type != "BOOKMARK" || e.Object.Kind != "Table" || e.Object.ResourceVersion != other || len(e.Object.Rows) != 1 {
			t.Errorf("in a table: %+v", e)
		}
		if line, err := silent.lines.ReadBytes('\n'); err != io.EOF {
			t.Errorf("unasked: %v %s", err, line)
		}
		if waited := time.Since(started); waited != 100*time.Second {
			t.Errorf("timeoutSeconds=100 has ended the watch after %v", waited)
		}
		cancel()
		watch.body.Close()
		table.body.Close()
		w.store.Close()
	})
}

func TestWatchFromAForgottenRevisionIsGone(t *testing.T) {
	w := newWorld(t)
	first := w.post(configMaps, configMap("a", "", "")).object().ResourceVersion
	for i := range 3 {
		w.put(configMaps+"/a", configMap("a", "", fmt.Sprintf(`n: "%d"`, i))).ok()
	}
	now := w.get(configMaps).object().ResourceVersion
	revision, err := strconv.ParseInt(now, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Compact(w.ctx, revision); err != nil {
		t.Fatal(err)
	}
	gone, err := w.watch(configMaps, "resourceVersion="+first).lines.ReadString('\n')
	if err != nil || !strings.Contains(gone, `"type":"ERROR"`) || !strings.Contains(gone, `"reason":"Expired","code":410`) {
		t.Errorf("got %s, %v", gone, err)
	}
	w.get(configMaps + "/a").ok()
	watch := w.watch(configMaps, "resourceVersion="+now)
	w.delete(configMaps + "/a").ok()
	watch.expect("DELETED a")
}

func TestWatchFromARevisionThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	w.get(configMaps+"?watch=true&resourceVersion=999999").fails(504, metav1.StatusReasonTimeout, "Too large resource version")
	w.get(configMaps+"?watch=true&resourceVersion=latest").fails(400, metav1.StatusReasonBadRequest, `"latest" is not a revision`)
	w.get(configMaps+"?watch=true&resourceVersion=-1").fails(400, metav1.StatusReasonBadRequest, `"-1" is not a revision`)
}

func TestTableWatchSendsItsColumnsOnce(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("a", "")).ok()
	watch := w.watch(pods, "resourceVersion=0", asTable)
	first := watch.next()
	w.post(pods, pod("b", "")).ok()
	second := watch.next()
	for i, e := range []event{first, second} {
		if e.Type != "ADDED" || e.Object.Kind != "Table" || len(e.Object.Rows) != 1 || e.Object.Rows[0].Cells[0] != []string{"a", "b"}[i] || e.Object.ResourceVersion == "" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if len(first.Object.Columns) == 0 || len(second.Object.Columns) != 0 {
		t.Errorf("%d columns first, then %d", len(first.Object.Columns), len(second.Object.Columns))
	}
}

func TestClientThatLeavesEndsItsHandler(t *testing.T) {
	for _, row := range []struct {
		name  string
		leave func(cancel func(), body io.Closer)
	}{
		{"gives up the request", func(cancel func(), _ io.Closer) { cancel() }},
		{"closes the body, as the next write shows", func(_ func(), body io.Closer) { body.Close() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			ended := make(chan struct{})
			handler := w.server.As("admin")
			watcher := client.New(client.Config{Server: "http://in-memory", Name: "test", Transport: client.InMemory(
				http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { defer close(ended); handler.ServeHTTP(rw, r) }))})
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			response, err := watcher.Stream(ctx, client.Request{Method: http.MethodGet, Path: configMaps + "?watch=true&resourceVersion=0"})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
				t.Fatal("the handler has ended before the client left")
			default:
			}
			row.leave(cancel, response.Body)
			w.post(configMaps, configMap("a", "", "")).ok()
			select {
			case <-ended:
			case <-w.ctx.Done():
				t.Fatal("the handler runs on")
			}
			response.Body.Close()
		})
	}
}

func TestClosedStoreEndsTheWatches(t *testing.T) {
	w := newWorld(t)
	watch := w.watch(configMaps, "resourceVersion=0")
	w.store.Close()
	if line, err := watch.lines.ReadBytes('\n'); err != io.EOF {
		t.Errorf("%v %s", err, line)
	}
}

func TestTypedWatchEndsWithTheServersReason(t *testing.T) {
	w := newWorld(t)
	maps := client.Of[*corev1.ConfigMap](w.admin)
	for _, err := range maps.Watch(w.ctx, client.Selection{Namespace: "default"}, "999999") {
		if err == nil || !strings.Contains(err.Error(), "Too large resource version") {
			t.Errorf("got %v", err)
		}
	}
}
