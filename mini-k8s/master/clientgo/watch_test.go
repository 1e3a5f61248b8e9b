package clientgo_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// next returns the next event of a watch as "ADDED a=1"; the end of the watch is "".
func (c *cluster) next(w watch.Interface) string {
	c.t.Helper()
	select {
	case event, going := <-w.ResultChan():
		if !going {
			return ""
		}
		if m, ok := event.Object.(*corev1.ConfigMap); ok {
			return fmt.Sprintf("%s %s", event.Type, textOf(m))
		}
		return fmt.Sprintf("%s %s", event.Type, apierrors.ReasonForError(apierrors.FromObject(event.Object)))
	case <-c.ctx.Done():
		c.t.Fatal("no event in time")
		return ""
	}
}

// What each resourceVersion means to a get, a list and a watch: see "Resource Versions" in the Kubernetes API concepts.
func TestResourceVersionsMeanWhatKubernetesSays(t *testing.T) {
	c := newCluster(t)
	forgotten := c.put("a", "web", "1").ResourceVersion
	c.put("a", "web", "2")
	c.forget()
	exact := c.put("a", "web", "3").ResourceVersion
	newest := c.put("a", "web", "4").ResourceVersion
	number, err := strconv.Atoi(newest)
	if err != nil {
		t.Fatal(err)
	}
	future := strconv.Itoa(number + 1000)

	const now = "ADDED a=4"
	for _, row := range []struct {
		name, revision string
		watch          string           // its first event
		refused        func(error) bool // nil: granted
	}{
		{"none", "", now, nil},
		{"any", "0", now, nil},
		{"exact", exact, "MODIFIED a=4", nil},
		{"newest", newest, "", nil},
		{"future", future, "", apierrors.IsTimeout},
		{"garbage", "latest", "", apierrors.IsBadRequest},
		{"negative", "-1", "", apierrors.IsBadRequest},
		{"out of range", "9223372036854775808", "", apierrors.IsBadRequest},
		{"forgotten", forgotten, "ERROR Expired", nil}, // in the stream, where clients look for it
	} {
		t.Run("watch from "+row.name, func(t *testing.T) {
			second := int64(1) // the watch from the newest revision shall end by itself
			w, err := c.maps().Watch(c.ctx, metav1.ListOptions{ResourceVersion: row.revision, TimeoutSeconds: &second})
			if row.refused != nil {
				if err == nil || !row.refused(err) {
					t.Errorf("not refused as it should be: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			if got := c.next(w); got != row.watch {
				t.Errorf("got %q first, want %q", got, row.watch)
			}
		})
	}
	for name, revision := range map[string]string{"none": "", "any": "0", "exact": exact, "newest": newest, "forgotten": forgotten} {
		t.Run("get and list at "+name, func(t *testing.T) { // or newer
			m, err := c.maps().Get(c.ctx, "a", metav1.GetOptions{ResourceVersion: revision})
			if err != nil || m.ResourceVersion != newest {
				t.Errorf("get: %v, %v", m, err)
			}
			list, err := c.maps().List(c.ctx, metav1.ListOptions{ResourceVersion: revision})
			if err != nil || len(list.Items) != 1 || list.Items[0].ResourceVersion != newest || list.ResourceVersion != newest {
				t.Errorf("list: %v, %v", list, err)
			}
		})
	}
}

func TestBookmarkMovesTheRevisionOfAnInformerOverChangesOfOtherKinds(t *testing.T) {
	c := newCluster(t)
	c.put("a", "web", "1")
	pod, err := c.core.Pods("default").Create(c.ctx, newPod("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := c.inform("") // the list that it streams ends with a bookmark
	c.eventually("it is where the store is", func() bool { return i.LastSyncResourceVersion() == pod.ResourceVersion })
}

func TestRetryWatcherMissesNothingWhenItsConnectionIsCut(t *testing.T) {
	c := newCluster(t)
	from := c.put("a", "web", "1").ResourceVersion
	w, err := toolswatch.NewRetryWatcherWithContext(c.ctx, from, &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return c.maps().Watch(ctx, options)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for n := 2; n < 6; n++ {
		c.put("a", "web", strconv.Itoa(n))
		if n == 3 {
			c.cut()
		}
		if got, want := c.next(w), fmt.Sprintf("MODIFIED a=%d", n); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	c.delete("a")
	if got := c.next(w); got != "DELETED a=5" {
		t.Errorf("got %s", got)
	}
}

func TestRetryWatcherIsToldThatItsPlaceIsGone(t *testing.T) {
	c := newCluster(t)
	from := c.put("a", "web", "1").ResourceVersion
	c.put("a", "web", "2")
	c.forget()
	w, err := toolswatch.NewRetryWatcherWithContext(c.ctx, from, &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return c.maps().Watch(ctx, options)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if got := c.next(w); got != "ERROR Expired" {
		t.Errorf("got %s", got)
	}
}

func TestDynamicWatchSeesStatusesOfEveryWriter(t *testing.T) {
	c := newCluster(t)
	deployments := c.apps.Deployments("default")
	created, err := deployments.Create(c.ctx, newDeployment("web"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.dynamic.Resource(appsv1.SchemeGroupVersion.WithResource("deployments")).Watch(c.ctx, metav1.ListOptions{ResourceVersion: created.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	created.Status.Replicas = 4
	updated, err := deployments.UpdateStatus(c.ctx, created, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	event := <-w.ResultChan()
	if object, ok := event.Object.(metav1.Object); event.Type != watch.Modified || !ok || object.GetResourceVersion() != updated.ResourceVersion {
		t.Errorf("got %+v", event)
	}
}

func TestMetadataClientGetsTheMetadataOfEveryKind(t *testing.T) {
	c := newCluster(t)
	c.put("a", "web", "1")
	client, err := metadata.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace("default")
	list, err := maps.List(c.ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Labels["app"] != "web" {
		t.Fatalf("list: %v, %v", list, err)
	}
	one, err := maps.Get(c.ctx, "a", metav1.GetOptions{})
	if err != nil || one.ResourceVersion != list.Items[0].ResourceVersion {
		t.Errorf("get: %v, %v", one, err)
	}
}
