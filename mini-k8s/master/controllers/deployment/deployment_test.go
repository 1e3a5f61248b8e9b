package deployment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// start runs the controller with that of the ReplicaSets and kubelets whose pods get ready when serves says so.
func start(bench *mastertest.Bench, serves func(*corev1.Pod) bool) {
	deps := bench.Deps()
	bench.Start(mastertest.Kubelet(deps, serves))
	bench.Start(replicaset.New(deps).Run)
	bench.Start(New(deps).Run)
}

// image sets what the pods of a Deployment run.
func image(t *testing.T, bench *mastertest.Bench, image string) {
	t.Helper()
	change(t, bench, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
}

func change(t *testing.T, bench *mastertest.Bench, how func(*appsv1.Deployment)) *appsv1.Deployment {
	t.Helper()
	return mastertest.Change(t, bench.Client, "default", "web", how)
}

// versions returns the ReplicaSets as "revision:image=replicas", the oldest first.
func versions(t *testing.T, bench *mastertest.Bench) string {
	t.Helper()
	var all []string
	for _, rs := range oldestFirst(mastertest.List[*appsv1.ReplicaSet](t, bench.Client)) {
		all = append(all, fmt.Sprintf("%d:%s=%d", revisionOf(rs), strings.TrimPrefix(rs.Spec.Template.Spec.Containers[0].Image, "hello:"), *rs.Spec.Replicas))
	}
	return strings.Join(all, " ")
}

// expect waits until all is quiet and compares the versions; the Deployment is complete unless the rollout halts.
func expect(t *testing.T, bench *mastertest.Bench, want string) *appsv1.Deployment {
	t.Helper()
	mastertest.Settle()
	if got := versions(t, bench); got != want {
		t.Errorf("versions: %s, want %s", got, want)
	}
	d := mastertest.Get[*appsv1.Deployment](t, bench.Client, "default", "web")
	if d.Status.ObservedGeneration != d.Generation {
		t.Errorf("generation %d, observed %d", d.Generation, d.Status.ObservedGeneration)
	}
	return d
}

func condition(d *appsv1.Deployment, kind appsv1.DeploymentConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

func TestRolloutReplacesTheOldVersionAndRollbackBringsItBack(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, nil)
		mastertest.Create(t, bench.Client, mastertest.Deployment("web", 5, "hello:1"))
		d := expect(t, bench, "1:1=5")
		if s := d.Status; s.Replicas != 5 || s.UpdatedReplicas != 5 || s.ReadyReplicas != 5 || s.AvailableReplicas != 5 || s.UnavailableReplicas != 0 {
			t.Errorf("status: %+v", s)
		}
		first := mastertest.List[*appsv1.ReplicaSet](t, bench.Client)[0]
		image(t, bench, "hello:2")
		expect(t, bench, "1:1=0 2:2=5")
		image(t, bench, "hello:3")
		d = expect(t, bench, "1:1=0 2:2=0 3:3=5")
		if revisionOf(d) != 3 {
			t.Errorf("the Deployment is at revision %d", revisionOf(d))
		}
		image(t, bench, "hello:1") // as `kubectl rollout undo --to-revision=1` does
		d = expect(t, bench, "2:2=0 3:3=0 4:1=5")
		if revisionOf(d) != 4 {
			t.Errorf("the Deployment is at revision %d", revisionOf(d))
		}
		back := mastertest.Get[*appsv1.ReplicaSet](t, bench.Client, "default", first.Name)
		if back.UID != first.UID || *back.Spec.Replicas != 5 {
			t.Error("the rollback did not use the ReplicaSet of old")
		}
		if got := condition(d, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
			t.Errorf("progressing: %s", got)
		}
		if got := condition(d, appsv1.DeploymentAvailable); got != "True MinimumReplicasAvailable" {
			t.Errorf("available: %s", got)
		}
		before := len(bench.Wire.Writes())
		change(t, bench, func(d *appsv1.Deployment) { d.Labels = map[string]string{"look": "again"} })
		time.Sleep(time.Hour)
		if writes := bench.Wire.Writes()[before:]; len(writes) > 0 {
			t.Errorf("writes though all is as it should be: %v", writes)
		}
	})
}

// judge follows pods and ReplicaSets over the watch, and fails the test at the moment when there are too many or too
// few.
type judge struct {
	t           *testing.T
	mu          sync.Mutex
	sizes       map[string]int32
	serving     map[string]bool
	most, least int
}

func (j *judge) watch(bench *mastertest.Bench) {
	sets := control.NewInformer(client.Of[*appsv1.ReplicaSet](bench.Client), client.Selection{})
	sets.Subscribe(j.t.Context(), func(old, rs *appsv1.ReplicaSet) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if rs == nil {
			delete(j.sizes, old.Name)
			return
		}
		j.sizes[rs.Name] = *rs.Spec.Replicas
		total := 0
		for _, size := range j.sizes {
			total += int(size)
		}
		if total > j.most {
			j.t.Errorf("%d pods are asked for, at most %d may be: %v", total, j.most, j.sizes)
		}
	})
	pods := control.NewInformer(client.Of[*corev1.Pod](bench.Client), client.Selection{})
	pods.Subscribe(j.t.Context(), func(old, pod *corev1.Pod) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if pod == nil {
			pod = old.DeepCopy()
			pod.DeletionTimestamp = &metav1.Time{}
		}
		before := len(j.serving)
		delete(j.serving, pod.Name)
		if pod.DeletionTimestamp == nil && api.PodReady(pod) {
			j.serving[pod.Name] = true
		}
		if now := len(j.serving); now < before && now < j.least {
			j.t.Errorf("%d pods serve, at least %d must", now, j.least)
		}
	})
	bench.Start(sets.Run)
	bench.Start(pods.Run)
}

func TestRolloutUnderWayKeepsEnoughPodsServingAndNotTooManyInAll(t *testing.T) {
	for _, row := range []struct {
		name               string
		surge, unavailable int
	}{{"surge", 2, 0}, {"unavailable", 0, 2}, {"both", 3, 2}} {
		t.Run(row.name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(seed, 0))
				bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					response, err := do()
					if err == nil && r.URL.Query().Get("watch") != "" {
						mastertest.Lag(response, func() time.Duration {
							mu.Lock()
							defer mu.Unlock()
							return time.Duration(random.IntN(50)) * time.Millisecond
						})
					}
					return response, err
				})
				start(bench, nil)
				d := rolling(8, fmt.Sprint(row.surge), fmt.Sprint(row.unavailable))
				mastertest.Create(t, bench.Client, d)
				time.Sleep(10 * time.Second)
				j := &judge{t: t, sizes: map[string]int32{}, serving: map[string]bool{}, most: 8 + row.surge, least: 8 - row.unavailable}
				j.watch(bench)
				for _, version := range []string{"hello:2", "hello:3", "hello:1"} {
					image(t, bench, version)
					time.Sleep(time.Minute)
				}
				expect(t, bench, "2:2=0 3:3=0 4:1=8")
			})
		})
	}
}

func TestVersionThatNeverServesHaltsTheRollout(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != "hello:bad" })
		mastertest.Create(t, bench.Client, rolling(4, "1", "1"))
		expect(t, bench, "1:1=4")
		image(t, bench, "hello:bad")
		d := expect(t, bench, "1:1=3 2:bad=2")
		if got := condition(d, appsv1.DeploymentAvailable); got != "True MinimumReplicasAvailable" {
			t.Errorf("available: %s", got)
		}
		if got := condition(d, appsv1.DeploymentProgressing); got != "True ReplicaSetUpdated" {
			t.Errorf("progressing: %s", got)
		}
		change(t, bench, func(d *appsv1.Deployment) { *d.Spec.Replicas = 8 }) // in the middle of it
		expect(t, bench, "1:1=5 2:bad=4")
		change(t, bench, func(d *appsv1.Deployment) { *d.Spec.Replicas = 2 })
		expect(t, bench, "1:1=1 2:bad=2")
		image(t, bench, "hello:1")
		expect(t, bench, "2:bad=0 3:1=2")
	})
}

func TestRolloutThatDoesNotGetOnSaysSoAfterItsDeadline(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != "hello:bad" })
		progress := func(want string) {
			t.Helper()
			mastertest.Settle()
			if got := condition(mastertest.Get[*appsv1.Deployment](t, bench.Client, "default", "web"), appsv1.DeploymentProgressing); got != want {
				t.Errorf("progressing: %s, want %s", got, want)
			}
		}
		deadline := int32(60)
		d := rolling(4, "1", "1")
		d.Spec.ProgressDeadlineSeconds = &deadline
		mastertest.Create(t, bench.Client, d)
		progress("True NewReplicaSetAvailable")
		time.Sleep(5 * time.Minute)
		progress("True NewReplicaSetAvailable")
		image(t, bench, "hello:bad")
		progress("True ReplicaSetUpdated")
		time.Sleep(50 * time.Second)
		progress("True ReplicaSetUpdated")
		time.Sleep(10 * time.Second)
		progress("False ProgressDeadlineExceeded")
		before := len(bench.Wire.Writes())
		time.Sleep(time.Hour)
		if writes := bench.Wire.Writes()[before:]; len(writes) > 0 {
			t.Errorf("writes while nothing gets on: %v", writes)
		}
		change(t, bench, func(d *appsv1.Deployment) { d.Spec.Paused = true })
		progress("Unknown DeploymentPaused")
		change(t, bench, func(d *appsv1.Deployment) { d.Spec.Paused = false })
		progress("True ReplicaSetUpdated") // its time begins anew
		time.Sleep(time.Minute)
		progress("False ProgressDeadlineExceeded")
		image(t, bench, "hello:1")
		progress("True NewReplicaSetAvailable")
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) { // a pod that is lost is no matter of the rollout
			mastertest.Change(t, bench.Client, "default", p.Name, func(p *corev1.Pod) { p.Labels = nil })
			break
		}
		progress("True NewReplicaSetAvailable")
	})
}

func TestPodsThatCannotBeMadeAreToldUntilThatIsOver(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, nil)
		mastertest.Create(t, bench.Client, rolling(2, "1", "0"))
		expect(t, bench, "1:1=2")
		var full atomic.Bool
		full.Store(true)
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if full.Load() && mastertest.Is(r, "POST", "/pods") {
				return mastertest.Refusal(apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("exceeded quota"))), nil
			}
			return do()
		})
		image(t, bench, "hello:2")
		d := expect(t, bench, "1:1=2 2:2=1")
		if got := condition(d, appsv1.DeploymentReplicaFailure); got != "True FailedCreate" {
			t.Errorf("failure: %q", got)
		}
		if got := condition(d, appsv1.DeploymentProgressing); got != "True ReplicaSetUpdated" {
			t.Errorf("progressing: %s", got)
		}
		full.Store(false)
		time.Sleep(time.Minute)
		d = expect(t, bench, "1:1=0 2:2=2")
		if got := condition(d, appsv1.DeploymentReplicaFailure); got != "" {
			t.Errorf("failure that is over: %q", got)
		}
	})
}

func TestPodsCountWhenTheyHaveBeenReadyForLongEnough(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, nil)
		d := rolling(3, "1", "0")
		d.Spec.MinReadySeconds = 30
		mastertest.Create(t, bench.Client, d)
		if s := expect(t, bench, "1:1=3").Status; s.ReadyReplicas != 3 || s.AvailableReplicas != 0 {
			t.Errorf("at once: %d ready, %d available", s.ReadyReplicas, s.AvailableReplicas)
		}
		time.Sleep(30 * time.Second)
		if s := expect(t, bench, "1:1=3").Status; s.AvailableReplicas != 3 {
			t.Errorf("after 30 s: %d available", s.AvailableReplicas)
		}
		image(t, bench, "hello:2")
		for i, want := range []string{"1:1=3 2:2=1", "1:1=2 2:2=2", "1:1=1 2:2=3", "1:1=0 2:2=3"} {
			if i > 0 {
				time.Sleep(28 * time.Second) // and 3 s to settle: each step waits for the one before
			}
			expect(t, bench, want)
		}
		change(t, bench, func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 0 }) // makes no other version
		expect(t, bench, "1:1=0 2:2=3")
	})
}

func TestOldVersionsBeyondTheHistoryAreDropped(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, nil)
		d := mastertest.Deployment("web", 2, "hello:1")
		d.Spec.RevisionHistoryLimit = new(int32)
		*d.Spec.RevisionHistoryLimit = 2
		mastertest.Create(t, bench.Client, d)
		for i := range 5 {
			image(t, bench, fmt.Sprint("hello:", i+1))
			mastertest.Settle()
		}
		expect(t, bench, "3:3=0 4:4=0 5:5=2")
		change(t, bench, func(d *appsv1.Deployment) { *d.Spec.RevisionHistoryLimit = 0 })
		expect(t, bench, "5:5=2")
	})
}

func TestPausedRolloutStandsStillAndGoesOn(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		serves := make(chan struct{})
		start(bench, func(p *corev1.Pod) bool {
			select {
			case <-serves:
				return true
			default:
				return p.Spec.Containers[0].Image == "hello:1"
			}
		})
		mastertest.Create(t, bench.Client, rolling(3, "1", "0"))
		expect(t, bench, "1:1=3")
		image(t, bench, "hello:2")
		expect(t, bench, "1:1=3 2:2=1")
		change(t, bench, func(d *appsv1.Deployment) { d.Spec.Paused = true })
		close(serves)
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) { // so that the kubelets look
			mastertest.Change(t, bench.Client, "default", p.Name, func(p *corev1.Pod) { p.Annotations = map[string]string{"look": "again"} })
		}
		expect(t, bench, "1:1=3 2:2=1")
		image(t, bench, "hello:3") // no version is made while it is paused
		expect(t, bench, "1:1=3 2:2=1")
		change(t, bench, func(d *appsv1.Deployment) { d.Spec.Paused = false })
		expect(t, bench, "1:1=0 2:2=0 3:3=3")
	})
}

func TestRecreateStartsNothingNewBeforeTheLastOldPodIsWhollyGone(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		deps := bench.Deps() // without kubelets: who stops is not gone until the test says so
		bench.Start(replicaset.New(deps).Run)
		bench.Start(New(deps).Run)
		d := recreate(2)
		d.Spec.Template.Spec.NodeName = "node-1"
		mastertest.Create(t, bench.Client, d)
		d = expect(t, bench, "1:1=2")
		if got := condition(d, appsv1.DeploymentAvailable); got != "False MinimumReplicasUnavailable" {
			t.Errorf("with no pod available: %s", got)
		}
		image(t, bench, "hello:2")
		expect(t, bench, "1:1=0 2:2=0")
		for i, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
			if p.DeletionTimestamp == nil {
				t.Fatalf("%s does not stop", p.Name)
			}
			if _, err := client.Of[*corev1.Pod](bench.Client).Delete(t.Context(), "default", p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
			expect(t, bench, []string{"1:1=0 2:2=0", "1:1=0 2:2=2"}[i])
		}
		image(t, bench, "hello:3")
		image(t, bench, "hello:4") // before anything of 3 has come to be
		mastertest.Settle()
		for _, p := range mastertest.List[*corev1.Pod](t, bench.Client) {
			if p.Spec.Containers[0].Image != "hello:2" {
				t.Errorf("a pod of %s beside those of hello:2", p.Spec.Containers[0].Image)
			}
		}
	})
}

func TestVersionWhoseNameIsTakenGetsAnother(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		// The hash is that of the stored template, which has its defaults.
		stored := mastertest.Create(t, bench.Client, mastertest.Deployment("web", 2, "hello:1"))
		taken := mastertest.ReplicaSet(api.JoinName("web", hashOf(stored)), 0)
		taken.Spec.Selector.MatchLabels["app"], taken.Spec.Template.Labels["app"] = "other", "other"
		mastertest.Create(t, bench.Client, taken)
		start(bench, nil)
		mastertest.Settle()
		d := mastertest.Get[*appsv1.Deployment](t, bench.Client, "default", "web")
		if c := d.Status.CollisionCount; c == nil || *c != 1 || d.Status.AvailableReplicas != 2 {
			t.Errorf("status: %+v", d.Status)
		}
		if sets := mastertest.List[*appsv1.ReplicaSet](t, bench.Client); len(sets) != 2 {
			t.Errorf("%d ReplicaSets, want the stranger and one of its own", len(sets))
		}
	})
}

func TestOneVersionIsMadeHoweverLateTheWatchTells(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "replicasets") {
				mastertest.Lag(response, func() time.Duration { return time.Second })
			}
			return response, err
		})
		start(bench, nil)
		mastertest.Create(t, bench.Client, mastertest.Deployment("web", 3, "hello:1"))
		for i := range 20 {
			change(t, bench, func(d *appsv1.Deployment) { d.Labels = map[string]string{"look": fmt.Sprint(i)} })
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		d := expect(t, bench, "1:1=3")
		if d.Status.CollisionCount != nil {
			t.Errorf("a collision with itself was counted: %d", *d.Status.CollisionCount)
		}
		made := slices.DeleteFunc(bench.Wire.Writes(), func(w string) bool {
			return !strings.HasPrefix(w, "POST") || !strings.Contains(w, "/replicasets ")
		})
		if len(made) != 1 {
			t.Errorf("asked %d times for the ReplicaSet", len(made))
		}
	})
}

func TestWritesThatAreRefusedAreTriedAgainAndToldOnce(t *testing.T) {
	for _, row := range []struct{ name, method, path string }{
		{"scaling", "PUT", "/replicasets/"},
		{"noting the revision", "PUT", "/deployments/web"},
		{"the status", "PUT", "/deployments/web/status"},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				meant := func(r *http.Request) bool {
					return r.Method == row.method && strings.Contains(r.URL.Path, row.path) && r.UserAgent() == "deployment-controller" &&
						(row.path == "/replicasets/" || strings.HasSuffix(r.URL.Path, row.path))
				}
				bench.Wire.Intercept(mastertest.Once(meant, mastertest.Refuse(apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "web", errors.New("faster")))))
				start(bench, nil)
				mastertest.Create(t, bench.Client, recreate(2))
				expect(t, bench, "1:1=2")
				image(t, bench, "hello:2")
				expect(t, bench, "1:1=0 2:2=2")
				for _, e := range mastertest.Events(t, bench.Client, "web") {
					if e.Reason != "ScalingReplicaSet" || e.Count != 1 {
						t.Errorf("event %s, %d times: %s", e.Reason, e.Count, e.Message)
					}
				}
				if n := len(mastertest.Events(t, bench.Client, "web")); n != 4 {
					t.Errorf("%d events, want 4: up from 0 to 2, down to 0, the new one with 0, up to 2", n)
				}
			})
		})
	}
}

func TestHistoryTellsTheCauseOfEachChange(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		start(bench, nil)
		const cause = "kubernetes.io/change-cause"
		tell := func(text string) {
			t.Helper()
			change(t, bench, func(d *appsv1.Deployment) {
				d.Annotations[cause], d.Annotations[corev1.LastAppliedConfigAnnotation] = text, "{}"
			})
			mastertest.Settle()
		}
		mastertest.Create(t, bench.Client, mastertest.Deployment("web", 1, "hello:1"))
		mastertest.Settle()
		tell("first") // after the change, as `kubectl annotate` does
		image(t, bench, "hello:2")
		mastertest.Settle()
		tell("second")
		for i, rs := range oldestFirst(mastertest.List[*appsv1.ReplicaSet](t, bench.Client)) {
			if got, want := rs.Annotations[cause], []string{"first", "second"}[i]; got != want {
				t.Errorf("revision %d: %q, want %q", i+1, got, want)
			}
			if _, ok := rs.Annotations[corev1.LastAppliedConfigAnnotation]; ok {
				t.Error("the last applied manifest was copied")
			}
		}
	})
}

func TestPercentagesFollowTheSize(t *testing.T) {
	d := rolling(10, "30%", "10%")
	if got := *d.Spec.Strategy.RollingUpdate.MaxSurge; got.Type != intstr.String {
		t.Fatalf("the test does not test percentages: %v", got)
	}
	for replicas, want := range map[int32][2]int32{10: {3, 1}, 4: {2, 0}, 100: {30, 10}} {
		*d.Spec.Replicas = replicas
		if surge, unavailable := limits(d); [2]int32{surge, unavailable} != want {
			t.Errorf("%d replicas: %d and %d, want %v", replicas, surge, unavailable, want)
		}
	}
}
