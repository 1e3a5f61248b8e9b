package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// breakable is a hollow runtime of which a test can break parts.
type breakable struct {
	*runtime.Hollow
	machine  error
	stubborn bool         // containers do not end at SIGTERM
	noImages atomic.Bool  // images cannot be pulled
	sandbox  atomic.Int32 // so many sandboxes fail to start

	mu      sync.Mutex
	signals []string
	logs    []runtime.LogOptions
}

func newBreakable() *breakable {
	return &breakable{Hollow: runtime.NewHollow(runtime.HollowOptions{})}
}

func (b *breakable) Machine(context.Context) (runtime.Machine, error) {
	return runtime.Machine{}, b.machine
}

func (b *breakable) EnsureImage(ctx context.Context, image string, policy corev1.PullPolicy) (string, error) {
	if b.noImages.Load() {
		return "", errors.New("the registry is down")
	}
	return b.Hollow.EnsureImage(ctx, image, policy)
}

func (b *breakable) StartSandbox(ctx context.Context, pod *corev1.Pod) (runtime.Sandbox, error) {
	if b.sandbox.Add(-1) >= 0 {
		return runtime.Sandbox{}, errors.New("no address is free")
	}
	return b.Hollow.StartSandbox(ctx, pod)
}

func (b *breakable) Signal(ctx context.Context, id, signal string) error {
	b.mu.Lock()
	b.signals = append(b.signals, signal)
	b.mu.Unlock()
	if b.stubborn && signal == "SIGTERM" {
		return nil
	}
	return b.Hollow.Signal(ctx, id, signal)
}

func (b *breakable) sent() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.signals)
}

// kubeletBench is a kubelet over an API server and a runtime with nothing in it.
type kubeletBench struct {
	*mastertest.Bench
	t       *testing.T
	runtime *breakable
	oracle  oracle
	kubelet *Kubelet
	dir     volumes.Dir
	stop    func()

	manifests string // directory of static pods
}

// withKubelet runs a test in a bubble, where waiting costs no time, with a kubelet that runs.
func withKubelet(t *testing.T, test func(t *testing.T, b *kubeletBench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &kubeletBench{Bench: mastertest.New(t), t: t, runtime: newBreakable()}
		b.start()
		test(t, b)
		b.stop()
	})
}

// start starts a kubelet that knows nothing of those before it.
func (b *kubeletBench) start() {
	b.t.Helper()
	b.kubelet = New(Config{Node: "node-1", Address: "192.0.2.1", Port: 10250, Client: b.Loops(), Runtime: b.runtime, Check: b.oracle.check, Dir: b.dir, Manifests: b.manifests})
	b.stop = b.Start(b.kubelet.Run)
}

// create makes a pod that is bound to the node.
func (b *kubeletBench) create(changes ...func(*corev1.Pod)) *corev1.Pod {
	b.t.Helper()
	return mastertest.Create(b.t, b.Client, mastertest.Pod("web", append(changes, func(p *corev1.Pod) { p.Spec.NodeName = "node-1" })...))
}

func (b *kubeletBench) pod() *corev1.Pod {
	b.t.Helper()
	return mastertest.Get[*corev1.Pod](b.t, b.Client, "default", "web")
}

// waitState waits until the container is as say tells it, after so many restarts.
func (b *kubeletBench) waitState(want string, restarts int32) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("the container is %s, restarts: %d", want, restarts), func() bool {
		containers := b.pod().Status.ContainerStatuses
		return len(containers) > 0 && say(containers[0].State) == want && containers[0].RestartCount == restarts
	})
}

func (b *kubeletBench) eventually(what string, holds func() bool) {
	b.t.Helper()
	eventually(b.t, what, holds)
}

// eventually returns when the condition holds. It looks twenty times a second, for ten minutes of a bubble's time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (b *kubeletBench) held(uid types.UID) runtime.Pod {
	b.t.Helper()
	pod, err := b.runtime.Pod(b.t.Context(), uid)
	if err != nil {
		b.t.Fatal(err)
	}
	return pod
}

// writesAfter lets so much time pass and returns what was written meanwhile.
func (b *kubeletBench) writesAfter(wait time.Duration) []string {
	synctest.Wait()
	before := len(b.Wire.Writes())
	time.Sleep(wait)
	synctest.Wait()
	return b.Wire.Writes()[before:]
}

func TestPodsOfOtherNodesAreNotTouched(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		mastertest.Create(t, b.Client, mastertest.Pod("theirs", func(p *corev1.Pod) { p.Spec.NodeName = "node-2" }))
		mastertest.Create(t, b.Client, mastertest.Pod("nobodys"))
		b.create()
		b.waitState("running", 0)
		if pods, _ := b.runtime.Pods(t.Context()); len(pods) != 1 || pods[0].Name != "web" {
			t.Errorf("the node runs %+v", pods)
		}
	})
}

func TestAContainerThatIsRemovedComesBack(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create()
		b.waitState("running", 0)
		before := time.Now()
		b.runtime.RemoveContainer(t.Context(), b.held(pod.UID).Containers[0].ID)
		b.waitState("running", 1)
		if waited := time.Since(before); waited > time.Second {
			t.Errorf("it came back after %v", waited)
		}
		if last := say(b.pod().Status.ContainerStatuses[0].LastTerminationState); last != "terminated ContainerStatusUnknown 137" {
			t.Errorf("its last state is %s", last)
		}
	})
}

// waitGone waits until neither the API server nor the runtime knows the pod.
func (b *kubeletBench) waitGone(uid types.UID) {
	b.t.Helper()
	b.eventually("the pod is gone", func() bool {
		pod, found := mastertest.Find[*corev1.Pod](b.t, b.Client, "default", "web")
		return (!found || pod.UID != uid) && b.held(uid).Sandbox == nil
	})
}

func TestAStubbornContainerIsKilledWhenItsGraceIsOver(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.stubborn = true
		grace := int64(7)
		pod := b.create(func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &grace })
		b.waitState("running", 0)
		start := time.Now()
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		b.waitGone(pod.UID)
		if took := time.Since(start); took < 6*time.Second || took > 9*time.Second { // the API server counts whole seconds
			t.Errorf("it took %v", took)
		}
		if got := strings.Join(b.runtime.sent(), " "); got != "SIGTERM SIGKILL" {
			t.Errorf("its container was sent %s", got)
		}
	})
}

func TestADeletionWithLessGraceHurries(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.stubborn = true
		pod := b.create()
		b.waitState("running", 0)
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		b.eventually("it was told to stop", func() bool { return len(b.runtime.sent()) == 1 })
		start, seconds := time.Now(), int64(1)
		if _, err := client.Of[*corev1.Pod](b.Client).Delete(t.Context(), "default", "web", metav1.DeleteOptions{GracePeriodSeconds: &seconds}); err != nil {
			t.Fatal(err)
		}
		b.waitGone(pod.UID)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAStubbornContainerWithAnOldImageIsReplaced(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.stubborn = true
		pod := b.create()
		b.waitState("running", 0)
		mastertest.Change(t, b.Client, "default", "web", image("hello:2"))
		b.waitState("running", 1)
		if c := b.held(pod.UID).Containers[0]; c.Image != "hello:2" {
			t.Errorf("it runs %s", c.Image)
		}
		if got := strings.Join(b.runtime.sent(), " "); got != "SIGTERM SIGKILL" {
			t.Errorf("its container was sent %s", got)
		}
	})
}

func TestImagesThatCannotBePulledAreTriedAgain(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.noImages.Store(true)
		b.create()
		b.waitState("waiting ErrImagePull", 0)
		if message := b.pod().Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(message, "the registry is down") {
			t.Errorf("the reason is %q", message)
		}
		b.waitState("waiting ImagePullBackOff", 0)
		b.runtime.noImages.Store(false)
		b.waitState("running", 0)
	})
}

func TestAnotherImageIsTriedAtOnce(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.runtime.noImages.Store(true)
		b.create(image("helo:1"))
		b.waitState("waiting ErrImagePull", 0)
		time.Sleep(20 * time.Minute) // waits 5 minutes between tries now
		b.runtime.noImages.Store(false)
		start := time.Now()
		mastertest.Change(t, b.Client, "default", "web", image("hello:1"))
		b.waitState("running", 0)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTheNextKubeletSeesWhatHappenedMeanwhile(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create()
		b.waitState("running", 0)
		b.stop()
		b.runtime.Exit(pod.UID, "app", 5)
		b.start()
		b.waitState("running", 1)
		b.stop()
		mastertest.Delete[*corev1.Pod](t, b.Client, "default", "web", "")
		b.start()
		b.waitGone(pod.UID)
	})
}

func TestOrphansAreRemovedOnlyAfterTheAPIServerHasTold(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create()
		b.waitState("running", 0)
		b.stop()
		orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", UID: "orphan-uid"}}
		if _, err := b.runtime.StartSandbox(t.Context(), orphan); err != nil {
			t.Fatal(err)
		}
		var silent atomic.Bool
		silent.Store(true)
		b.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if silent.Load() && mastertest.Is(r, http.MethodGet, "/pods") {
				return nil, errors.New("no route to the API server")
			}
			return do()
		})
		b.start()
		time.Sleep(5 * time.Minute)
		if b.held(orphan.UID).Sandbox == nil || b.held(pod.UID).Sandbox == nil {
			t.Fatal("a pod was removed though the API server has told nothing")
		}
		silent.Store(false)
		b.eventually("the orphan is gone", func() bool { return b.held(orphan.UID).Sandbox == nil })
		if b.held(pod.UID).Sandbox == nil {
			t.Error("the pod that the API server knows went as well")
		}
	})
}

func TestTheStatusIsTheKubeletsAlone(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		b.create()
		b.waitState("running", 0)
		before := b.pod().Status
		mastertest.ChangeStatus(t, b.Client, "default", "web", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodFailed, nil
			find(p.Status.Conditions, corev1.PodReady).Status = corev1.ConditionFalse
		})
		b.waitState("running", 0)
		if got := b.pod().Status; got.Phase != corev1.PodRunning || find(got.Conditions, corev1.PodReady).LastTransitionTime != find(before.Conditions, corev1.PodReady).LastTransitionTime {
			t.Errorf("the status was\n%+v and is\n%+v", before, got)
		}
	})
}

func TestAKubeletThatEndsLeavesTheContainers(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) { // a bubble does not end before all of its goroutines have
		pod := b.create()
		b.waitState("running", 0)
		b.stop()
		time.Sleep(time.Hour)
		if held := b.held(pod.UID); held.Sandbox == nil || held.Containers[0].State != runtime.Running {
			t.Errorf("of the pod there is %+v", held)
		}
	})
}
