package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// newClient returns an admin's client of an API server in memory, and a context that bounds the test.
func newClient(t *testing.T) (context.Context, *client.Client) {
	t.Helper()
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(func() { cancel(); s.Close() })
	server, err := apiserver.New(ctx, apiserver.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, client.New(client.Config{Server: "http://in-memory/", Name: "tester", Transport: client.InMemory(server.As("admin"))})
}

// answering returns a client of a server that is the handler.
func answering(handler http.HandlerFunc) *client.Client {
	return client.New(client.Config{Server: "http://in-memory", Transport: client.InMemory(handler)})
}

func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"name": name}}, Data: map[string]string{"key": value}}
}

func TestLifeOfAnObject(t *testing.T) {
	ctx, c := newClient(t)
	maps, ok := client.Of[*corev1.ConfigMap](c), must[*corev1.ConfigMap](t)
	sent := configMap("a", "1")
	created := ok(maps.Create(ctx, sent))
	if created.UID == "" || created.ResourceVersion == "" || sent.UID != "" {
		t.Errorf("created %v, sent %v", created, sent)
	}
	if _, err := maps.Create(ctx, sent); !apierrors.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	changed := created.DeepCopy()
	changed.Data["key"] = "2"
	updated := ok(maps.Update(ctx, changed))
	if _, err := maps.Update(ctx, created); !apierrors.IsConflict(err) {
		t.Errorf("update of what was read before: %v", err)
	}
	patched := ok(maps.Patch(ctx, "default", "a", "", types.MergePatchType, map[string]any{"data": map[string]any{"other": "3"}}))
	if got := ok(maps.Get(ctx, "default", "a")); got.Data["key"] != "2" || got.Data["other"] != "3" || got.ResourceVersion != patched.ResourceVersion || updated.ResourceVersion == patched.ResourceVersion {
		t.Errorf("got %v", got)
	}
	ok(maps.Create(ctx, configMap("b", "1")))
	list := must[client.List[*corev1.ConfigMap]](t)(maps.List(ctx, client.Selection{Namespace: "default", Labels: "name=b"}))
	if len(list.Items) != 1 || list.Items[0].Name != "b" || list.ResourceVersion == "" {
		t.Errorf("list: %v", list)
	}
	list = must[client.List[*corev1.ConfigMap]](t)(maps.List(ctx, client.Selection{Fields: "metadata.name=a"}))
	if len(list.Items) != 1 || list.Items[0].Name != "a" {
		t.Errorf("list by field: %v", list)
	}
	revision, err := maps.Delete(ctx, "default", "a", metav1.DeleteOptions{})
	if err != nil || revision == "" || revision == patched.ResourceVersion {
		t.Errorf("deleted at %q, %v", revision, err)
	}
	if _, err := maps.Get(ctx, "default", "a"); !apierrors.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
}

func TestUpdateStatusLeavesTheRestAlone(t *testing.T) {
	ctx, c := newClient(t)
	pods, ok := client.Of[*corev1.Pod](c), must[*corev1.Pod](t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	pod = ok(pods.Create(ctx, pod))
	pod.Status.Phase, pod.Labels = corev1.PodRunning, map[string]string{"a": "b"}
	if got := ok(pods.UpdateStatus(ctx, pod)); got.Status.Phase != corev1.PodRunning || got.Labels != nil {
		t.Errorf("got %v", got)
	}
	if err := pods.CreateSubresource(ctx, "default", "web", "binding", &corev1.Binding{Target: corev1.ObjectReference{Name: "node-1"}}); err != nil {
		t.Fatal(err)
	}
	if got := ok(pods.Get(ctx, "default", "web")).Spec.NodeName; got != "node-1" {
		t.Errorf("bound to %q", got)
	}
}

func TestWatchYieldsUntilTheCallerBreaksOff(t *testing.T) {
	ctx, c := newClient(t)
	maps, ok := client.Of[*corev1.ConfigMap](c), must[*corev1.ConfigMap](t)
	ok(maps.Create(ctx, configMap("a", "1")))
	created := ok(maps.Create(ctx, configMap("b", "1")))
	var seen []string
	for event, err := range maps.Watch(ctx, client.Selection{Namespace: "default"}, "0") {
		if err != nil {
			t.Fatal(err)
		}
		if seen = append(seen, string(event.Type)+" "+event.Object.Name); len(seen) == 2 {
			break
		}
	}
	if got := strings.Join(seen, ", "); got != "ADDED a, ADDED b" {
		t.Errorf("saw %s", got)
	}
	next := must[string](t)(maps.Delete(ctx, "default", "b", metav1.DeleteOptions{}))
	for event, err := range maps.Watch(ctx, client.Selection{Namespace: "default", Labels: "name=b"}, created.ResourceVersion) {
		if err != nil || event.Type != watch.Deleted || event.Object.ResourceVersion != next {
			t.Errorf("%v %v", event, err)
		}
		break
	}
}

func TestWatchEndsWithTheReason(t *testing.T) {
	const gone = `{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,"reason":"Expired","message":"too old"}`
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		is      func(error) bool
	}{
		{"server ends the connection", func(w http.ResponseWriter, r *http.Request) {}, func(err error) bool { return err == io.EOF }},
		{"refused", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(410); w.Write([]byte(gone)) }, apierrors.IsResourceExpired},
		{"overtaken by compaction", func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(`{"type":"ERROR","object":` + gone + "}\n"))
		}, apierrors.IsResourceExpired},
		{"nonsense", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("nonsense\n")) },
			func(err error) bool { return strings.Contains(err.Error(), "unreadable event") }},
	} {
		t.Run(row.name, func(t *testing.T) {
			events := 0
			for _, err := range client.Of[*corev1.Pod](answering(row.handler)).Watch(t.Context(), client.Selection{}, "5") {
				events++
				if err == nil || !row.is(err) {
					t.Fatalf("got %v", err)
				}
			}
			if events != 1 {
				t.Errorf("%d events", events)
			}
		})
	}
}

func TestWatchGetsBookmarksOnlyIfItAsks(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		c := answering(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Get("watch") != "true" || q.Get("resourceVersion") != "5" || q.Get("labelSelector") != "a=b" || r.URL.Path != "/api/v1/namespaces/shop/pods" {
				http.Error(w, "asked "+r.URL.String(), 400)
				return
			}
			if q.Get("allowWatchBookmarks") == "true" {
				w.Write([]byte(`{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}` + "\n"))
			}
			w.Write([]byte(`{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"8"}}}` + "\n"))
		})
		var got []string
		selection := client.Selection{Namespace: "shop", Labels: "a=b", Bookmarks: wanted}
		for event, err := range client.Of[*corev1.Pod](c).Watch(t.Context(), selection, "5") {
			if err != nil {
				break // it has ended
			}
			got = append(got, string(event.Type)+event.Object.ResourceVersion)
		}
		if want := map[bool]string{false: "ADDED8", true: "BOOKMARK7 ADDED8"}[wanted]; strings.Join(got, " ") != want {
			t.Errorf("bookmarks wanted: %v; got %v", wanted, got)
		}
	}
}

func TestErrorsAreThoseOfTheServer(t *testing.T) {
	for _, row := range []struct {
		name, body string
		code       int
		says       string
		is         func(error) bool
	}{
		{"status", `{"kind":"Status","status":"Failure","code":409,"reason":"Conflict","message":"changed"}`, 409, "changed", apierrors.IsConflict},
		{"no status", `<html>bad gateway</html>`, 502, "<html>bad gateway</html>", func(err error) bool {
			var status *apierrors.StatusError
			return errors.As(err, &status) && status.ErrStatus.Code == 502
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := answering(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(row.code); w.Write([]byte(row.body)) })
			_, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", "web")
			if err == nil || !row.is(err) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	unreadable := answering(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("nonsense")) })
	if _, err := client.Of[*corev1.Pod](unreadable).List(t.Context(), client.Selection{}); err == nil || !strings.Contains(err.Error(), "GET /api/v1/pods: unreadable answer") {
		t.Errorf("got %v", err)
	}
}

func TestWarningsAreReadAsTheServerWroteThem(t *testing.T) {
	c := answering(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Warning", `299 - "unknown field \"a\\b\""`)
		w.Header().Add("Warning", `199 - "something else"`)
		w.Write([]byte("{}"))
	})
	_, warnings, err := c.Do(t.Context(), client.Request{Method: "GET", Path: "/"})
	if err != nil || len(warnings) != 2 || warnings[0] != `unknown field "a\b"` || warnings[1] != `something else` {
		t.Errorf("%q %v", warnings, err)
	}
}

func TestRequestSaysWhoCallsAndWhatItIs(t *testing.T) {
	var got http.Header
	c := answering(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone(); w.Write([]byte("{}")) })
	if _, _, err := c.Named("scheduler").Do(t.Context(), client.Request{Method: "POST", Path: "/", Body: []byte("{}"), ContentType: "application/yaml", Accept: "text/plain"}); err != nil {
		t.Fatal(err)
	}
	if got.Get("User-Agent") != "scheduler" || got.Get("Content-Type") != "application/yaml" || got.Get("Accept") != "text/plain" {
		t.Errorf("got %v", got)
	}
	if _, _, err := c.Do(t.Context(), client.Request{Method: "GET", Path: "/"}); err != nil {
		t.Fatal(err)
	}
	if got.Get("Accept") != "application/json" || got.Get("Content-Type") != "" {
		t.Errorf("by default %v", got)
	}
}

func TestNoCallOutlivesItsContext(t *testing.T) {
	entered, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	c := answering(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streaming" {
			w.WriteHeader(200)
		}
		entered <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	for _, path := range []string{"/silent", "/streaming"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		if _, _, err := c.Do(ctx, client.Request{Method: "GET", Path: path}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		<-ended // the handler was told
	}
}

func TestInMemoryHandsOverWhatIsWrittenAtOnce(t *testing.T) {
	more := make(chan struct{})
	c := answering(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Test", "yes")
		w.WriteHeader(201)
		w.Write([]byte("first"))
		<-more
		w.Write([]byte("second"))
	})
	response, err := c.Stream(t.Context(), client.Request{Method: "GET", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 201 || response.Header.Get("X-Test") != "yes" {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
		t.Errorf("%s %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "second" {
		t.Errorf("%s %v", rest, err)
	}
}

func TestMetadataOfAnyKind(t *testing.T) {
	ctx, c := newClient(t)
	must[*corev1.ConfigMap](t)(client.Of[*corev1.ConfigMap](c).Create(ctx, configMap("a", "1")))
	of := client.MetadataOf(c, api.Lookup("cm"))
	got := must[client.Metadata](t)(of.Get(ctx, "default", "a"))
	if got.Name != "a" || got.Labels["name"] != "a" || of.Kind() != api.Lookup("configmaps") {
		t.Errorf("got %v", got)
	}
	must[client.Metadata](t)(of.Patch(ctx, "default", "a", "", types.MergePatchType, json.RawMessage(`{"metadata":{"labels":{"b":"c"}}}`)))
	if got := must[*corev1.ConfigMap](t)(client.Of[*corev1.ConfigMap](c).Get(ctx, "default", "a")); got.Data["key"] != "1" || got.Labels["b"] != "c" {
		t.Errorf("patched by its metadata: %v", got)
	}
}
