package kubelet

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// What containers are given by a kubelet whose containers are hollow; their files are real.

// withFiles is withKubelet for one that has a directory for the files of pods.
func withFiles(t *testing.T, test func(t *testing.T, b *kubeletBench)) {
	dir := volumes.Dir(t.TempDir())
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.stop()
		b.dir = dir
		b.start()
		test(t, b)
	})
}

// spec changes a pod's as YAML says.
func spec(t *testing.T, text string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
			t.Fatal(err)
		}
	}
}

func configMap(pairs ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		m.Data[pairs[i]] = pairs[i+1]
	}
	return m
}

// reads returns what a file of the pod's volume v has in it.
func (b *kubeletBench) reads(pod *corev1.Pod, name string) string {
	data, err := os.ReadFile(filepath.Join(string(b.dir), string(pod.UID), "v", name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// told says whether an event about the pod has this reason and message.
func (b *kubeletBench) told(reason, message string) bool {
	return slices.ContainsFunc(mastertest.Events(b.t, b.Client, "web"), func(e *corev1.Event) bool { return e.Reason == reason && e.Message == message })
}

const (
	withVariable = `{containers: [{name: app, image: "hello:1", env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}]}]}`
	withVolume   = `{containers: [{name: app, image: "hello:1", volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, configMap: {name: settings}}]}`
)

func TestAContainerWaitsForWhatItRefersTo(t *testing.T) {
	for _, row := range []struct{ name, spec, state, message, reason, event string }{
		{"in its environment", withVariable, "waiting CreateContainerConfigError", `configmap "settings" not found`, "Failed", `Error: configmap "settings" not found`},
		{"in its volumes", withVolume, "waiting ContainerCreating", `MountVolume.SetUp failed for volume "v" : configmap "settings" not found`,
			"FailedMount", `MountVolume.SetUp failed for volume "v" : configmap "settings" not found`},
	} {
		t.Run(row.name, func(t *testing.T) {
			withFiles(t, func(t *testing.T, b *kubeletBench) {
				b.create(spec(t, row.spec))
				b.waitState(row.state, 0)
				if said := b.pod().Status.ContainerStatuses[0].State.Waiting.Message; said != row.message || b.pod().Status.Phase != corev1.PodPending {
					t.Errorf("the pod is %s, its container says %q", b.pod().Status.Phase, said)
				}
				b.eventually("an event says so", func() bool { return b.told(row.reason, row.event) })
				time.Sleep(time.Hour) // it does not give up, nor does it wait ever longer
				mastertest.Create(t, b.Client, configMap("a", "1"))
				start := time.Now()
				b.waitState("running", 0)
				if took := time.Since(start); took > 11*time.Second {
					t.Errorf("it was seen after %v", took)
				}
			})
		})
	}
}

func TestAPodSeesAChangedConfigMapWithinTwoMinutes(t *testing.T) {
	withFiles(t, func(t *testing.T, b *kubeletBench) {
		mastertest.Create(t, b.Client, configMap("a", "1"))
		pod := b.create(spec(t, withVolume))
		b.waitState("running", 0)
		if got := b.reads(pod, "a"); got != "1" {
			t.Fatalf("it reads %q", got)
		}
		for _, restarted := range []bool{false, true} {
			if restarted {
				b.stop()
				b.start()
				time.Sleep(time.Minute)
			}
			now := time.Now().String()
			mastertest.Change(t, b.Client, "default", "settings", func(m *corev1.ConfigMap) { m.Data["a"] = now })
			start := time.Now()
			b.eventually("the pod reads what is new", func() bool { return b.reads(pod, "a") == now })
			if took := time.Since(start); took > 2*time.Minute {
				t.Errorf("it took %v", took)
			}
		}
		mastertest.Delete[*corev1.ConfigMap](t, b.Client, "default", "settings", "")
		before := b.reads(pod, "a")
		b.eventually("an event says that it is gone", func() bool {
			return b.told("FailedMount", `MountVolume.SetUp failed for volume "v" : configmap "settings" not found`)
		})
		if now := b.reads(pod, "a"); now != before || say(b.pod().Status.ContainerStatuses[0].State) != "running" {
			t.Errorf("then it reads %q, and is %s", now, say(b.pod().Status.ContainerStatuses[0].State))
		}
	})
}

func TestAContainerStartsAgainWhileTheAPIServerIsAway(t *testing.T) {
	withFiles(t, func(t *testing.T, b *kubeletBench) {
		mastertest.Create(t, b.Client, configMap("a", "1"))
		pod := b.create(spec(t, withVolume), spec(t, `{containers: [{name: app, image: "hello:1", env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}]}]}`))
		b.waitState("running", 0)
		var away atomic.Bool
		away.Store(true)
		b.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if away.Load() {
				return nil, errors.New("no route to the API server")
			}
			return do()
		})
		b.runtime.Exit(pod.UID, "app", 1)
		b.eventually("its container runs again", func() bool {
			c := b.held(pod.UID).Containers
			return len(c) > 0 && c[0].Attempt == 1 && c[0].State == "Running"
		})
		away.Store(false)
		b.waitState("running", 1)
	})
}

func TestFilesGoWithTheirPod(t *testing.T) {
	withFiles(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(spec(t, `{containers: [{name: app, image: "hello:1"}], volumes: [{name: v, emptyDir: {}}]}`))
		b.waitState("running", 0)
		if err := os.WriteFile(filepath.Join(string(b.dir), string(pod.UID), "v", "data"), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.runtime.Exit(pod.UID, "app", 1)
		b.waitState("running", 1)
		b.runtime.KillSandbox(pod.UID)
		b.waitState("running", 2)
		if got := b.reads(pod, "data"); got != "mine" {
			t.Errorf("after a restart and in a new sandbox it reads %q", got)
		}
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		b.waitGone(pod.UID)
		b.eventually("so are its files", func() bool { return len(b.dir.Pods()) == 0 })

		b.stop()
		if err := os.MkdirAll(filepath.Join(string(b.dir), "gone-uid", "v"), 0o700); err != nil { // its pod went while no kubelet ran
			t.Fatal(err)
		}
		b.start()
		b.eventually("what was left of it is gone", func() bool {
			return len(b.dir.Pods()) == 0
		})
	})
}

func TestADirectoryThatCannotBeWrittenKeepsThePodWaiting(t *testing.T) {
	withFiles(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(spec(t, `{containers: [{name: app, image: "does-not-exist"}], volumes: [{name: v, emptyDir: {}}]}`))
		b.waitState("waiting ErrImagePull", 0)
		inTheWay := filepath.Join(string(b.dir), string(pod.UID))
		if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		mastertest.Change(t, b.Client, "default", "web", image("hello:1"))
		b.waitState("waiting ContainerCreating", 0)
		b.eventually("an event says why", func() bool {
			return slices.ContainsFunc(mastertest.Events(t, b.Client, "web"), func(e *corev1.Event) bool {
				return e.Reason == "FailedMount" && strings.Contains(e.Message, "not a directory")
			})
		})
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		b.waitState("running", 0)
	})
}

func TestAPodAtRestWritesNothingForItsFiles(t *testing.T) {
	withFiles(t, func(t *testing.T, b *kubeletBench) {
		mastertest.Create(t, b.Client, configMap("a", "1"))
		b.create(spec(t, withVolume))
		b.waitState("running", 0)
		time.Sleep(time.Minute)
		var asked atomic.Int32
		b.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if mastertest.Is(r, http.MethodGet, "/configmaps/settings") {
				asked.Add(1)
			}
			return do()
		})
		if wrote := b.writesAfter(10 * time.Minute); len(wrote) > 0 || asked.Load() < 5 || asked.Load() > 11 {
			t.Errorf("in ten minutes it wrote %v and asked %d times for the ConfigMap", wrote, asked.Load())
		}
	})
}
