package replicaset

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"workshop/labs/labtest"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The tests of lab 06, in the order of its tasks. The API server in them is the real one; time is that of a bubble of
// testing/synctest, in which a second costs nothing.

// onBench runs a test of a task against an API server of its own.
func onBench(t *testing.T, task int, test func(lab *labtest.T, bench *mastertest.Bench)) {
	labtest.Begun(t, "06")
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) { test(labtest.Task(t, "06", task), bench) })
}

// controller returns a controller whose caches show all that is there, and that does nothing by itself.
func controller(lab *labtest.T, bench *mastertest.Bench) *Controller {
	lab.Helper()
	c := New(bench.Deps())
	if err := errors.Join(c.pods.WaitSynced(lab.Context()), c.sets.WaitSynced(lab.Context())); err != nil {
		lab.Fatal(err)
	}
	synctest.Wait()
	return c
}

// running starts a controller, and kubelets that make every pod ready at once.
func running(bench *mastertest.Bench) (stop func()) {
	deps := bench.Deps()
	bench.Start(mastertest.Kubelet(deps, nil))
	return bench.Start(New(deps).Run)
}

type change = func(*corev1.Pod)

// web returns a pod with the labels that the ReplicaSet web selects.
func web(name string, changes ...change) *corev1.Pod {
	pod := mastertest.Pod(name, changes...)
	pod.Labels = map[string]string{"app": "web"}
	return pod
}

func ownedBy(owner metav1.Object) change {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, controllerKind)}
	}
}

// owned returns the pods that a ReplicaSet controls.
func owned(t testing.TB, bench *mastertest.Bench, rs *appsv1.ReplicaSet) []*corev1.Pod {
	t.Helper()
	return slices.DeleteFunc(mastertest.List[*corev1.Pod](t, bench.Client), func(p *corev1.Pod) bool { return !metav1.IsControlledBy(p, rs) })
}

func names(pods []*corev1.Pod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}

func sorted(pods []*corev1.Pod) string {
	all := strings.Fields(names(pods))
	slices.Sort(all)
	return strings.Join(all, " ")
}

func scale(t testing.TB, bench *mastertest.Bench, replicas int32) {
	t.Helper()
	mastertest.Change(t, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = &replicas })
}

func isCreation(r *http.Request) bool { return mastertest.Is(r, "POST", "/pods") }

var faster = mastertest.Refuse(apierrors.NewConflict(schema.GroupResource{Resource: "replicasets"}, "web", errors.New("somebody was faster")))

var full = mastertest.Refuse(apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("exceeded quota")))

// Task 1

func TestTask1VictimsAreThoseWhoServeLeast(t *testing.T) {
	lab := labtest.Task(t, "06", 1)
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	on := func(node string) change { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	phase := func(phase corev1.PodPhase) change { return func(p *corev1.Pod) { p.Status.Phase = phase } }
	made := func(minute int) change {
		return func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(noon.Add(time.Duration(minute) * time.Minute))
		}
	}
	ready, pod := mastertest.MakeReady, mastertest.Pod
	for _, row := range []struct {
		are  string
		pods []*corev1.Pod
		want string
		rule string
	}{
		{"a runs on a node, b has none yet", []*corev1.Pod{pod("a", on("n"), ready), pod("b")}, "b a", "rule 1: not on a node before on one"},
		{"a runs, b is pending, nobody knows how c is", []*corev1.Pod{pod("a", on("n"), phase(corev1.PodRunning)), pod("b", on("n"), phase(corev1.PodPending)), pod("c", on("n"), phase(corev1.PodUnknown))}, "b c a", "rule 2: Pending before Unknown before Running"},
		{"a is ready, b is not", []*corev1.Pod{pod("a", on("n"), ready), pod("b", on("n"), phase(corev1.PodRunning))}, "b a", "rule 3: not ready before ready"},
		{"a is alone on its node, b and c share one", []*corev1.Pod{pod("a", on("n"), ready), pod("b", on("m"), ready), pod("c", on("m"), ready)}, "b c a", "rule 4: where more of them are before where fewer are"},
		{"a was made first, then c, then b", []*corev1.Pod{pod("a", on("n"), ready, made(1)), pod("b", on("n"), ready, made(3)), pod("c", on("n"), ready, made(2))}, "b c a", "rule 5: the younger before the older"},
		{"all are alike but for their names", []*corev1.Pod{pod("c", on("n")), pod("a", on("n")), pod("b", on("n"))}, "a b c", "all else being equal, the name decides"},
		{"none is on a node, and all are alike but for their names", []*corev1.Pod{pod("c"), pod("a"), pod("b")}, "a b c", "two that are alike by a rule go on to the next one: that holds for two without a node as well"},
		{"a and b are ready and share a node, c is alone and not ready", []*corev1.Pod{pod("a", on("n"), ready), pod("b", on("n"), ready), pod("c", on("m"), phase(corev1.PodRunning))}, "c a b", "the rules count in their order, each only among those that are alike by all before it: rule 3 comes before rule 4"},
	} {
		lab.Check(names(victims(row.pods)) == row.want, labtest.Report{
			Did: "asked for the victims among pods: " + row.are, Want: row.want, Got: names(victims(row.pods)), Cause: row.rule})
	}
}

func TestTask1VictimsLeavesWhatItGotAsItWas(t *testing.T) {
	lab := labtest.Task(t, "06", 1)
	pods := []*corev1.Pod{mastertest.Pod("c"), mastertest.Pod("b"), mastertest.Pod("a")}
	got := victims(pods)
	lab.Equal("asked for the victims among three pods, and counted them", len(got), 3, "all pods are ranked; who calls takes as many from the front as must go")
	lab.Equal("looked at the slice that victims was given", names(pods), "c b a", "it was sorted in place: it belongs to the caller, perhaps to a cache; sort a copy")
}

// Task 2

func TestTask2PodsThatMatchAndBelongToNobodyAreAdopted(t *testing.T) {
	onBench(t, 2, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
		other := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("other", 3))
		mastertest.Create(lab, bench.Client, web("mine", ownedBy(rs)))
		mastertest.Create(lab, bench.Client, web("orphan"))
		mastertest.Create(lab, bench.Client, web("somebodys", ownedBy(other)))
		mastertest.Create(lab, bench.Client, web("elsewhere", func(p *corev1.Pod) { p.Namespace = "kube-system" }))
		mastertest.Create(lab, bench.Client, mastertest.Pod("stranger"))
		mastertest.Create(lab, bench.Client, web("finished"))
		mastertest.ChangeStatus(lab, bench.Client, "default", "finished", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		mastertest.Create(lab, bench.Client, web("leaving", func(p *corev1.Pod) { p.Finalizers = []string{"test/keep"} }))
		mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", "leaving", "")
		c := controller(lab, bench)
		got, err := c.claim(lab.Context(), rs)
		lab.NoError("claimed the pods of a ReplicaSet", err, "was a write tried that must not be? Only pods without a controller may be adopted, those of c.pods.Controlled(\"\")")
		lab.Must(sorted(got) == "mine orphan", labtest.Report{Did: "claimed, where mine is owned already, orphan matches and has no owner, and others match but are somebody's, elsewhere, finished or leaving",
			Want: "mine orphan", Got: sorted(got), Cause: "of those that match, only active ones of the same namespace that have no controller are adopted"})
		lab.Equal("asked the API server whose pods are the ReplicaSet's now", sorted(owned(lab, bench, rs)), "mine orphan", "adopting is a write: the owner reference has to be in the API server")
		lab.Equal("looked whose the pod is that belongs to another ReplicaSet", metav1.IsControlledBy(mastertest.Get[*corev1.Pod](lab, bench.Client, "default", "somebodys"), other), true,
			"a pod with a controller is not to be had, whatever its labels say")
	})
}

func TestTask2PodThatNoLongerMatchesIsLetGo(t *testing.T) {
	onBench(t, 2, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
		mastertest.Create(lab, bench.Client, web("mine", ownedBy(rs)))
		mastertest.Create(lab, bench.Client, mastertest.Pod("sick", ownedBy(rs), func(p *corev1.Pod) {
			p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "c"})
		}))
		c := controller(lab, bench)
		got, err := c.claim(lab.Context(), rs)
		lab.NoError("claimed the pods of a ReplicaSet", err, "letting go is an update of the pod; a conflict would be returned, but nobody else writes here")
		lab.Equal("claimed, where the labels of the owned pod sick were changed", sorted(got), "mine", "what the selector does not match is not claimed, whoever owns it")
		sick, there := mastertest.Find[*corev1.Pod](lab, bench.Client, "default", "sick")
		lab.Must(there, labtest.Report{Did: "looked for the pod that was let go", Want: "that it is still there", Got: "it is gone", Cause: "letting go takes the owner reference away, and leaves the pod: somebody wants to look at it"})
		lab.Check(len(sick.OwnerReferences) == 1 && sick.OwnerReferences[0].UID == "c", labtest.Report{Did: "looked at the owners of the pod that was let go, which had a second one", Want: "the second one alone",
			Got: fmt.Sprintf("%d owners", len(sick.OwnerReferences)), Cause: "only the reference with the ReplicaSet's own UID goes"})
	})
}

func TestTask2ReplicaSetThatIsBeingDeletedAdoptsNothing(t *testing.T) {
	onBench(t, 2, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.ReplicaSet("web", 3)
		rs.Finalizers = []string{"test/keep"}
		mastertest.Create(lab, bench.Client, rs)
		mastertest.Delete[*appsv1.ReplicaSet](lab, bench.Client, "default", "web", "")
		rs = mastertest.Get[*appsv1.ReplicaSet](lab, bench.Client, "default", "web")
		mastertest.Create(lab, bench.Client, web("mine", ownedBy(rs)))
		mastertest.Create(lab, bench.Client, web("orphan"))
		c := controller(lab, bench)
		got, err := c.claim(lab.Context(), rs)
		lab.NoError("claimed for a ReplicaSet that is being deleted", err, "there is nothing to write")
		lab.Equal("claimed for a ReplicaSet that is being deleted, with an orphan that matches", sorted(got), "mine", "what it adopted would be deleted with it; its own pods it still has")
	})
}

// Task 3

func TestTask3PodsAreMadeFromTheTemplate(t *testing.T) {
	onBench(t, 3, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
		c := controller(lab, bench)
		err := c.createPods(lab.Context(), rs, 3)
		lab.NoError("created three pods", err, "the error of a creation is returned; which one failed?")
		made := owned(lab, bench, rs)
		lab.Equal("created three pods, and counted those that the ReplicaSet owns", len(made), 3, "each is a pod of podOf, created with c.pods")
		for _, pod := range made {
			lab.Check(pod.Labels["app"] == "web" && pod.Spec.Containers[0].Image == "hello:1", labtest.Report{Did: "looked at a pod that was created", Want: "the labels and containers of the template",
				Got: fmt.Sprintf("labels %v, image %s", pod.Labels, pod.Spec.Containers[0].Image), Cause: "podOf makes a pod of the template"})
		}
		synctest.Wait()
		lab.Equal("counted the events SuccessfulCreate", count(lab, bench, "SuccessfulCreate"), 3, "each creation is told: c.events.Normal(rs, ...)")
		lab.Check(c.pods.CatchUp(lab.Context()) == nil && len(c.pods.Controlled(rs.UID)) == 3, labtest.Report{Did: "asked the cache for the pods, after it had caught up with the controller's own writes",
			Want: "3", Got: fmt.Sprint(len(c.pods.Controlled(rs.UID))), Cause: "write with c.pods, which notes the revision, and not with a client of your own"})
	})
}

// count returns how often a reason was told of the ReplicaSet web.
func count(lab *labtest.T, bench *mastertest.Bench, reason string) int {
	lab.Helper()
	n := 0
	for _, event := range mastertest.Events(lab, bench.Client, "web") {
		if event.Reason == reason {
			n += int(event.Count)
		}
	}
	return n
}

func TestTask3OneCreationThatFailsDoesNotStopTheOthers(t *testing.T) {
	onBench(t, 3, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 5))
		c := controller(lab, bench)
		bench.Wire.Intercept(mastertest.Once(isCreation, full))
		err := c.createPods(lab.Context(), rs, 5)
		lab.Check(err != nil && strings.Contains(err.Error(), "exceeded quota"), labtest.Report{Did: "created five pods, of which the API server refused one", Want: "an error that says why: exceeded quota",
			Got: fmt.Sprint(err), Cause: "the error of the one creation is to be returned, wrapped with %w"})
		lab.Equal("counted the pods after one of five creations was refused", len(owned(lab, bench, rs)), 4, "the creations do not depend on each other: let all be tried")
		synctest.Wait()
		lab.Equal("counted the events FailedCreate", count(lab, bench, "FailedCreate"), 1, "a failure is told as well: c.events.Warning(rs, ...)")
	})
}

func TestTask3DeletionIsOfThePodThatWasCounted(t *testing.T) {
	onBench(t, 3, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 0))
		counted := mastertest.Create(lab, bench.Client, web("a", ownedBy(rs)))
		gone := mastertest.Create(lab, bench.Client, web("b", ownedBy(rs)))
		mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", "b", "")
		mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", "a", "")
		mastertest.Create(lab, bench.Client, web("a"))
		extra := mastertest.Create(lab, bench.Client, web("c", ownedBy(rs)))
		c := controller(lab, bench)
		_ = c.deletePods(lab.Context(), rs, []*corev1.Pod{counted, gone, extra})
		left := sorted(mastertest.List[*corev1.Pod](lab, bench.Client))
		lab.Equal("deleted a, b and c, where b was gone already and another pod had taken the name of a", left, "a", "c.pods.Delete deletes this very pod, by its UID; give it the pod that was counted")
		synctest.Wait()
		lab.Check(count(lab, bench, "FailedDelete") >= 1, labtest.Report{Did: "looked for an event FailedDelete, of the pod a that was counted and could not be deleted any more", Want: "one or more", Got: "none", Cause: "a failure is told as well: c.events.Warning(rs, ...)"})
		lab.Check(count(lab, bench, "SuccessfulDelete") >= 1, labtest.Report{Did: "looked for an event SuccessfulDelete", Want: "one or more", Got: "none", Cause: "each deletion is told: c.events.Normal(rs, ...)"})
	})
}

// Task 4

// expect checks that there are so many pods, all ready, and that the status says so.
func expect(lab *labtest.T, bench *mastertest.Bench, did string, want int32, cause string) {
	lab.Helper()
	mastertest.Settle()
	rs := mastertest.Get[*appsv1.ReplicaSet](lab, bench.Client, "default", "web")
	active := slices.DeleteFunc(owned(lab, bench, rs), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed })
	lab.Equal(did+", and counted its pods", len(active), int(want), cause)
	lab.Check(rs.Status.Replicas == want && rs.Status.ReadyReplicas == want && rs.Status.ObservedGeneration == rs.Generation, labtest.Report{
		Did: did + ", and read its status", Want: fmt.Sprintf("%d replicas, %d ready, of generation %d", want, want, rs.Generation),
		Got:   fmt.Sprintf("%d replicas, %d ready, of generation %d", rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.ObservedGeneration),
		Cause: "updateStatus gets the active pods that stay: not those that are finished or being deleted, nor those that this look has just deleted"})
}

func TestTask4ReplicaSetHasAsManyPodsAsItAsksFor(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		running(bench)
		mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 5))
		expect(lab, bench, "asked for 5 replicas", 5, "missing is what is wanted less what is active")
		for _, replicas := range []int32{9, 2, 0, 3} {
			scale(lab, bench, replicas)
			expect(lab, bench, fmt.Sprintf("scaled to %d", replicas), replicas, "too few are created, too many deleted: the first so many of the victims")
		}
	})
}

func TestTask4TooManyPodsLoseThoseWhoServeLeast(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 1))
		for _, name := range []string{"a", "b", "c"} {
			mastertest.Create(lab, bench.Client, web(name, ownedBy(rs), func(p *corev1.Pod) { p.Spec.NodeName = "n" }))
		}
		mastertest.ChangeStatus(lab, bench.Client, "default", "b", mastertest.MakeReady)
		c := controller(lab, bench)
		bench.Wire.Intercept(mastertest.Once(func(r *http.Request) bool { return mastertest.Is(r, "PUT", "/web/status") }, faster))
		err := c.reconcile(lab.Context(), "default/web")
		left := sorted(slices.DeleteFunc(owned(lab, bench, rs), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }))
		lab.Equal("reconciled once, where 1 is wanted and there are a and c, which are not ready, and b, which is; read which is left", left, "b", "the first so many of the victims go, as many as there are too many")
		lab.Check(err != nil, labtest.Report{Did: "reconciled, where the write of the status was refused with a conflict", Want: "an error", Got: "none", Cause: "the error of updateStatus is to be returned: only then the status is written later"})
	})
}

func TestTask4StatusIsOfThePodsThatStay(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 1))
		for _, name := range []string{"a", "b", "c"} {
			mastertest.Create(lab, bench.Client, web(name, ownedBy(rs)))
		}
		c := controller(lab, bench)
		err := c.reconcile(lab.Context(), "default/web")
		lab.NoError("reconciled once, where 1 is wanted and there are 3", err, "no write was refused")
		status := mastertest.Get[*appsv1.ReplicaSet](lab, bench.Client, "default", "web").Status.Replicas
		lab.Equal("reconciled once, where 1 is wanted and there are 3, and read how many the status tells", int(status), 1, "what this look has just deleted does not count any more: go on with the rest of the victims")
		var tried atomic.Int32
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			switch {
			case isCreation(r):
				tried.Add(1)
				return full(r, do)
			case mastertest.Is(r, "POST", "/events") || strings.Contains(r.URL.Path, "/events/"):
				return full(r, do)
			}
			return do()
		})
		scale(lab, bench, burst+100)
		synctest.Wait()
		_ = c.reconcile(lab.Context(), "default/web")
		lab.Equal(fmt.Sprintf("reconciled once, where %d are wanted and there is 1, and counted the creations that were tried", burst+100), int(tried.Load()), burst, "one look makes at most burst, so that one large ReplicaSet does not hold up all others")
	})
}

func TestTask4PodThatIsLostIsReplaced(t *testing.T) {
	labtest.Begun(t, "06")
	for _, row := range []struct {
		how  string
		lose func(lab *labtest.T, bench *mastertest.Bench, pod string)
	}{
		{"deleted", func(lab *labtest.T, bench *mastertest.Bench, pod string) {
			mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", pod, "")
		}},
		{"failed", func(lab *labtest.T, bench *mastertest.Bench, pod string) {
			mastertest.ChangeStatus(lab, bench.Client, "default", pod, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		}},
		{"being deleted for long", func(lab *labtest.T, bench *mastertest.Bench, pod string) {
			mastertest.Change(lab, bench.Client, "default", pod, func(p *corev1.Pod) { p.Finalizers = []string{"test/keep"} })
			mastertest.Delete[*corev1.Pod](lab, bench.Client, "default", pod, "")
		}},
	} {
		t.Run(row.how, func(t *testing.T) {
			onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
				running(bench)
				rs := mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
				mastertest.Settle()
				pods := owned(lab, bench, rs)
				lab.Must(len(pods) == 3, labtest.Report{Did: "asked for 3 replicas", Want: "3 pods", Got: fmt.Sprint(len(pods)), Cause: "see the test before"})
				row.lose(lab, bench, pods[0].Name)
				expect(lab, bench, "lost one pod of three ("+row.how+")", 3, "only active pods count: neither being deleted nor finished")
			})
		})
	}
}

func TestTask4LookAtWhatIsRightWritesNothing(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		running(bench)
		mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
		expect(lab, bench, "asked for 3 replicas", 3, "see the tests before")
		before := len(bench.Wire.Writes())
		for i := range 5 {
			mastertest.Change(lab, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) {
				rs.Annotations = map[string]string{"look": fmt.Sprint(i)}
			})
			mastertest.Settle()
		}
		time.Sleep(time.Hour)
		lab.Equal("changed an annotation five times and waited an hour, with all as it should be, and counted the controller's writes", len(bench.Wire.Writes())-before, 0,
			"write with Change and ChangeStatus, which leave out what changes nothing; each write would bring the key back")
	})
}

func TestTask4NothingIsMadeTwiceThoughTheWatchIsSlow(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		var gate mastertest.Gate
		var made atomic.Int32
		hold := gate.Hold(func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") })
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if isCreation(r) {
				made.Add(1)
			}
			return hold(r, do)
		})
		running(bench)
		mastertest.Settle()
		gate.Shut()
		mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 3))
		for i := range 5 { // each brings the key back, while the cache shows no pods
			mastertest.Settle()
			mastertest.Change(lab, bench.Client, "default", "web", func(rs *appsv1.ReplicaSet) {
				rs.Annotations = map[string]string{"look": fmt.Sprint(i)}
			})
		}
		gate.Open()
		mastertest.Settle()
		got := fmt.Sprint(made.Load())
		if made.Load() > 3 {
			got = "more than 3" // how many is another number each time
		}
		lab.Equal("asked for 3 replicas while the watch of the pods told nothing, and counted the creations", got, "3",
			"write with c.pods: it notes the revision of the write, and the next look waits until the cache shows it")
	})
}

func TestTask4StatusIsToldThoughACreationFails(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		allowed := atomic.Int32{}
		allowed.Store(2)
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			if isCreation(r) && allowed.Add(-1) < 0 {
				return full(r, do)
			}
			return do()
		})
		running(bench)
		mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 5))
		time.Sleep(2 * time.Minute)
		rs := mastertest.Get[*appsv1.ReplicaSet](lab, bench.Client, "default", "web")
		lab.Equal("asked for 5 replicas where only 2 may be made, and read how many the status tells", int(rs.Status.ReadyReplicas), 2,
			"the status is written before the error of the creation is returned")
		allowed.Store(100)
		time.Sleep(2 * time.Minute)
		expect(lab, bench, "let the rest be made after a while", 5, "the error has to be returned: only then the key comes again")
	})
}

func TestTask4ReplicaSetThatIsBeingDeletedMakesNothing(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		rs := mastertest.ReplicaSet("web", 3)
		rs.Finalizers = []string{"test/keep"}
		rs = mastertest.Create(lab, bench.Client, rs)
		mastertest.Delete[*appsv1.ReplicaSet](lab, bench.Client, "default", "web", "")
		c := controller(lab, bench)
		err := c.reconcile(lab.Context(), "default/web")
		lab.NoError("reconciled a ReplicaSet that is being deleted", err, "there is nothing to fail")
		lab.Equal("reconciled a ReplicaSet of 3 that is being deleted, and counted its pods", len(owned(lab, bench, rs)), 0, "rs.DeletionTimestamp says that it is on its way out: the garbage collector could never finish")
		err = c.reconcile(lab.Context(), "default/never-was")
		lab.NoError("reconciled one that is not there", err, "a key whose ReplicaSet is gone needs nothing: return nil")
	})
}

func TestTask4RestartInMidWorkMakesNoneTooMany(t *testing.T) {
	onBench(t, 4, func(lab *labtest.T, bench *mastertest.Bench) {
		var made atomic.Int32
		ctx, crash := context.WithCancel(lab.Context())
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if isCreation(r) && made.Add(1) == 2 {
				crash()
			}
			return response, err
		})
		deps := bench.Deps()
		bench.Start(mastertest.Kubelet(deps, nil))
		stop := bench.Start(New(deps).Run)
		context.AfterFunc(ctx, func() { go stop() })
		mastertest.Create(lab, bench.Client, mastertest.ReplicaSet("web", 5))
		mastertest.Settle()
		lab.Must(made.Load() > 0, labtest.Report{Did: "asked for 5 replicas and stopped the controller at the second creation", Want: "that it had begun", Got: "no creation", Cause: "see the tests before"})
		stop()
		bench.Start(New(bench.Deps()).Run)
		expect(lab, bench, "stopped the controller in the middle of five creations and started another", 5, "nothing may be remembered that cannot be looked up: the next controller counts what is there")
	})
}
