package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const webManifest = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {terminationGracePeriodSeconds: 3, containers: [{name: app, image: %s}]}}"

// directory is one of manifests.
type directory struct {
	t    *testing.T
	path string
}

func (d directory) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.path, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d directory) remove(name string) {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.path, name)); err != nil {
		d.t.Fatal(err)
	}
}

// imagesOf returns the images of the containers that run, by pod.
func imagesOf(t *testing.T, r runtime.Runtime) string {
	t.Helper()
	pods, err := r.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, pod := range pods {
		for _, c := range pod.Containers {
			if c.State == runtime.Running {
				found[pod.Name] += c.Image
			}
		}
	}
	return fmt.Sprint(found)
}

func TestAKubeletAloneFollowsItsManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := directory{t, t.TempDir()}, newBreakable()
		shows := func(what, want string) {
			t.Helper()
			eventually(t, what+": "+want, func() bool { return imagesOf(t, r) == want })
		}
		d.write("web.yaml", fmt.Sprintf(webManifest, "one"))
		start := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- New(Config{Node: "node-1", Runtime: r, Check: AllIsWell, Manifests: d.path}).Run(ctx)
			}()
			return func() {
				t.Helper()
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		stop := start()
		shows("at its start", "map[web-node-1:one]")
		d.write("web.yaml", fmt.Sprintf(webManifest, "two"))
		d.write("other.json", strings.ReplaceAll(fmt.Sprintf(webManifest, "three"), "web", "other"))
		shows("one has changed, another has come", "map[other-node-1:three web-node-1:two]")

		before, _ := r.Pods(t.Context())
		d.write("web.yaml", "{apiVersion: v1, kind: Pod, met") // somebody is writing it
		d.write("third.yaml", strings.ReplaceAll(fmt.Sprintf(webManifest, "four"), "web", "other"))
		d.write("fourth.yaml", "kind: Deployment")
		d.write("notes.txt", "no manifest")
		time.Sleep(time.Minute)
		shows("some are wrong", "map[other-node-1:three web-node-1:two]")
		d.write("web.yaml", fmt.Sprintf(webManifest, "two"))
		stop()
		stop = start()
		time.Sleep(time.Minute)
		if after, _ := r.Pods(t.Context()); len(after) != len(before) {
			t.Errorf("after a restart of the kubelet there are\n%v\nbefore it were\n%v", after, before)
		}
		for _, pod := range before {
			if now, _ := r.Pod(t.Context(), pod.UID); len(now.Containers) != 1 || now.Containers[0].ID != pod.Containers[0].ID {
				t.Errorf("after a restart of the kubelet pod %s is %+v, it was %+v", pod.Name, now, pod)
			}
		}
		r.Exit(before[0].UID, "app", 1)
		shows("one has failed", "map[other-node-1:three web-node-1:two]")
		d.remove("web.yaml")
		d.remove("other.json")
		shows("the other file of the name counts now", "map[other-node-1:four]")
		d.remove("third.yaml")
		shows("all are gone", "map[]")
		if pods, _ := r.Pods(t.Context()); len(pods) > 0 {
			t.Errorf("there is left %v", pods)
		}
		stop()
	})
}

func TestAStaticPodHasAMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directory{t, t.TempDir()}
		b := &kubeletBench{Bench: mastertest.New(t), t: t, runtime: newBreakable(), manifests: d.path}
		d.write("web.yaml", fmt.Sprintf(webManifest, "one"))
		b.start()
		b.create() // one named web, which is no static pod
		b.waitState("running", 0)
		mirror := func() *corev1.Pod { return mastertest.Get[*corev1.Pod](t, b.Client, "default", "web-node-1") }
		shown := func() *corev1.Pod {
			t.Helper()
			var now *corev1.Pod
			b.eventually("the mirror says that the pod runs", func() bool {
				list, _ := client.Of[*corev1.Pod](b.Client).List(t.Context(), client.Selection{Fields: "metadata.name=web-node-1"})
				return len(list.Items) == 1 && list.Items[0].Status.Phase == corev1.PodRunning
			})
			if now = mirror(); now.Spec.NodeName != "node-1" || now.Annotations[corev1.MirrorPodAnnotationKey] == "" {
				t.Errorf("the mirror is %+v", now.ObjectMeta)
			}
			return now
		}
		first := shown()
		container := b.held(uidOf(first)).Containers[0].ID
		if writes := b.writesAfter(10 * time.Minute); len(writes) > 0 {
			t.Errorf("with nothing to do the kubelet has written %v", writes)
		}
		if _, err := client.Of[*corev1.Pod](b.Client).Delete(t.Context(), "default", "web-node-1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		b.eventually("there is another mirror", func() bool {
			list, _ := client.Of[*corev1.Pod](b.Client).List(t.Context(), client.Selection{Fields: "metadata.name=web-node-1"})
			return len(list.Items) == 1 && list.Items[0].UID != first.UID
		})
		if now := b.held(uidOf(shown())); len(now.Containers) != 1 || now.Containers[0].ID != container {
			t.Errorf("after its mirror was deleted the pod is %+v", now)
		}
		b.stop()
		d.write("web.yaml", fmt.Sprintf(webManifest, "two"))
		b.start()
		b.eventually("the mirror shows what the file says now", func() bool {
			list, _ := client.Of[*corev1.Pod](b.Client).List(t.Context(), client.Selection{Fields: "metadata.name=web-node-1"})
			return len(list.Items) == 1 && list.Items[0].Spec.Containers[0].Image == "two" && list.Items[0].Status.Phase == corev1.PodRunning
		})
		d.remove("web.yaml")
		b.eventually("pod and mirror are gone", func() bool {
			list, _ := client.Of[*corev1.Pod](b.Client).List(t.Context(), client.Selection{Fields: "metadata.name=web-node-1"})
			return len(list.Items) == 0 && imagesOf(t, b.runtime) == "map[web:"+b.pod().Spec.Containers[0].Image+"]"
		})
		b.stop()
	})
}

func TestAPodThatSaysItIsTheMirrorOfAnotherHarmsNone(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create()
		b.waitState("running", 0)
		id := b.held(pod.UID).Containers[0].ID
		for i := range 5 {
			mastertest.Create(t, b.Client, mastertest.Pod(fmt.Sprint("false-", i), func(p *corev1.Pod) {
				p.Spec.NodeName, p.Annotations = "node-1", map[string]string{corev1.MirrorPodAnnotationKey: string(pod.UID)}
			}))
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		if now := b.held(pod.UID); len(now.Containers) != 1 || now.Containers[0].ID != id {
			t.Errorf("the pod is %+v, its container was %s", now, id)
		}
	})
}

func TestWhatAManifestMayNotSay(t *testing.T) {
	const spec = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i%s}]%s}}"
	for _, row := range []struct{ name, text, words string }{
		{"another kind", "{apiVersion: apps/v1, kind: Deployment}", "kind Pod"},
		{"two pods", fmt.Sprintf(spec, "", "") + "\n---\n" + fmt.Sprintf(spec, "", ""), "one object"},
		{"a field that there is not", fmt.Sprintf(spec, ", imagine: this", ""), "imagine"},
		{"no name", "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, image: i}]}}", "metadata.name"},
		{"no container", "{apiVersion: v1, kind: Pod, metadata: {name: a}}", "spec.containers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := podOf([]byte(row.text), "node-1"); err == nil || !strings.Contains(err.Error(), row.words) {
				t.Errorf("the error is %v, want %q", err, row.words)
			}
		})
	}
}
