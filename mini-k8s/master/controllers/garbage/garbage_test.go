package garbage

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// config makes a ConfigMap, the plainest thing there is, that belongs to the owners.
func config(t *testing.T, bench *mastertest.Bench, name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	t.Helper()
	return mastertest.Create(t, bench.Client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners}})
}

func ref(o api.Object) metav1.OwnerReference {
	gvk := o.GetObjectKind().GroupVersionKind()
	return metav1.OwnerReference{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: o.GetName(), UID: o.GetUID()}
}

func remove(t *testing.T, bench *mastertest.Bench, name string, policy metav1.DeletionPropagation) {
	t.Helper()
	mastertest.Delete[*corev1.ConfigMap](t, bench.Client, "default", name, policy)
}

// expect waits until all is quiet and compares what ConfigMaps there are: "name", "name<owner+owner" for one that
// belongs to others.
func expect(t *testing.T, bench *mastertest.Bench, want ...string) {
	t.Helper()
	mastertest.Settle()
	var got []string
	for _, m := range mastertest.List[*corev1.ConfigMap](t, bench.Client) {
		text := m.Name
		for i, owner := range m.OwnerReferences {
			text += map[bool]string{true: "<", false: "+"}[i == 0] + owner.Name
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

const (
	background = metav1.DeletePropagationBackground
	foreground = metav1.DeletePropagationForeground
	orphan     = metav1.DeletePropagationOrphan
)

func TestWhatBelongsToSomethingGoesWithItAsThePolicySays(t *testing.T) {
	for _, row := range []struct {
		policy metav1.DeletionPropagation
		want   []string
	}{
		{"", []string{"stranger"}},
		{background, []string{"stranger"}},
		{foreground, []string{"stranger"}},
		{orphan, []string{"child-1", "child-2", "grandchild<child-1", "stranger"}},
	} {
		t.Run("policy "+string(row.policy), func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				owner := config(t, bench, "owner")
				child := config(t, bench, "child-1", ref(owner))
				config(t, bench, "child-2", ref(owner))
				config(t, bench, "grandchild", ref(child))
				config(t, bench, "stranger")
				bench.Start(New(bench.Deps()).Run)
				expect(t, bench, "child-1<owner", "child-2<owner", "grandchild<child-1", "owner", "stranger")
				remove(t, bench, "owner", row.policy)
				expect(t, bench, row.want...)
				writes := len(bench.Wire.Writes())
				mastertest.Settle()
				if got := bench.Wire.Writes()[writes:]; len(got) > 0 {
					t.Errorf("writes afterwards: %v", got)
				}
			})
		})
	}
}

func TestOrphanStaysThoughTheNewsThatItIsOneComesLast(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			response, err := do()
			if err == nil && mastertest.IsWatch(r, "configmaps") {
				mastertest.Lag(response, func() time.Duration { return time.Second })
			}
			return response, err
		})
		owner := mastertest.Create(t, bench.Client, mastertest.Deployment("web", 1, "hello:1"))
		config(t, bench, "child", ref(owner))
		bench.Start(New(bench.Deps()).Run)
		expect(t, bench, "child<web")
		mastertest.Delete[*appsv1.Deployment](t, bench.Client, "default", "web", orphan)
		expect(t, bench, "child")
	})
}

func TestOwnerDeletedInTheForegroundGoesAfterAllThatIsBelowIt(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		d := mastertest.Create(t, bench.Client, mastertest.Deployment("web", 1, "hello:1"))
		set := mastertest.ReplicaSet("web-1", 1)
		set.OwnerReferences = []metav1.OwnerReference{ref(d)}
		set = mastertest.Create(t, bench.Client, set)
		mastertest.Create(t, bench.Client, mastertest.Pod("web-1-a", func(p *corev1.Pod) {
			p.OwnerReferences, p.Spec.NodeName = []metav1.OwnerReference{ref(set)}, "node-1" // it takes its time to stop
		}))
		bench.Start(New(bench.Deps()).Run)
		mastertest.Settle()
		mastertest.Delete[*appsv1.Deployment](t, bench.Client, "default", "web", foreground)
		mastertest.Settle()
		if p := mastertest.Get[*corev1.Pod](t, bench.Client, "default", "web-1-a"); p.DeletionTimestamp == nil {
			t.Error("the pod is not told to stop")
		}
		if _, ok := mastertest.Find[*appsv1.ReplicaSet](t, bench.Client, "default", "web-1"); !ok {
			t.Error("the ReplicaSet went before its pod")
		}
		if _, ok := mastertest.Find[*appsv1.Deployment](t, bench.Client, "default", "web"); !ok {
			t.Error("the Deployment went before its pod")
		}
		if _, err := client.Of[*corev1.Pod](bench.Client).Delete(t.Context(), "default", "web-1-a", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		mastertest.Settle()
		if _, ok := mastertest.Find[*appsv1.Deployment](t, bench.Client, "default", "web"); ok {
			t.Error("the Deployment stays when all below it is gone")
		}
	})
}

func TestObjectWithSeveralOwnersGoesWithTheLast(t *testing.T) {
	for _, row := range []struct {
		policy metav1.DeletionPropagation
		want   string
	}{{background, "shared<one+two"}, {foreground, "shared<two"}, {orphan, "shared<two"}} {
		t.Run(string(row.policy), func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				config(t, bench, "shared", ref(config(t, bench, "one")), ref(config(t, bench, "two")))
				bench.Start(New(bench.Deps()).Run)
				mastertest.Settle()
				remove(t, bench, "one", row.policy)
				expect(t, bench, row.want, "two")
				remove(t, bench, "two", background)
				expect(t, bench)
			})
		})
	}
}

func TestOwnerThatGoesBeforeTheCollectorStartsIsMissed(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		config(t, bench, "child", ref(config(t, bench, "owner")))
		remove(t, bench, "owner", "")
		again := config(t, bench, "owner") // of the same name, but somebody else
		config(t, bench, "its-own", ref(again))
		bench.Start(New(bench.Deps()).Run)
		expect(t, bench, "its-own<owner", "owner")
	})
}

func TestOwnerMadeAnewDoesNotInheritWhatBelongedToTheOldOne(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		config(t, bench, "child", ref(config(t, bench, "owner")))
		bench.Start(New(bench.Deps()).Run)
		mastertest.Settle()
		remove(t, bench, "owner", "")
		config(t, bench, "owner")
		expect(t, bench, "owner")
	})
}

func TestOwnersThatTheCollectorCannotKnowAreLeftInPeace(t *testing.T) {
	nowhere := types.UID("00000000-0000-0000-0000-000000000000")
	for _, row := range []struct {
		name  string
		owner metav1.OwnerReference
		want  []string
	}{
		{"an unknown kind", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Shop", Name: "shop", UID: nowhere}, []string{"child<shop"}},
		{"a node that is there not", metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "node-9", UID: nowhere}, nil},
		{"a pod that is there not", metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "pod-9", UID: nowhere}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
				bench.Start(New(bench.Deps()).Run)
				config(t, bench, "child", row.owner)
				expect(t, bench, row.want...)
				if row.want != nil {
					remove(t, bench, "child", "") // its owner must not be looked for then, either
					expect(t, bench)
				}
			})
		})
	}
}

func TestNodeMayOwnThings(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		node := mastertest.Join(t, bench.Client, mastertest.Node("node-1", "1", "1Gi", "10"))
		config(t, bench, "child", ref(node))
		bench.Start(New(bench.Deps()).Run)
		expect(t, bench, "child<node-1")
		remove(t, bench, "child", "")
		expect(t, bench)
	})
}

func TestObjectThatGetsAnOwnerThatIsGoneGoes(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		owner, gone := config(t, bench, "owner"), config(t, bench, "gone")
		config(t, bench, "child", ref(owner))
		bench.Start(New(bench.Deps()).Run)
		remove(t, bench, "gone", "")
		mastertest.Settle()
		mastertest.Change(t, bench.Client, "default", "child", func(m *corev1.ConfigMap) { m.OwnerReferences = []metav1.OwnerReference{ref(gone)} })
		expect(t, bench, "owner")
	})
}

func TestNothingIsCollectedWhileTheServerDoesNotSayThatTheOwnerIsGone(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		// The cache of the owner's kind is late: it has not seen the owner yet.
		late := func(r *http.Request) bool { return mastertest.IsWatch(r, "pods") }
		var gate mastertest.Gate
		bench.Wire.Intercept(gate.Hold(late))
		bench.Start(New(bench.Deps()).Run)
		mastertest.Settle()
		gate.Shut()
		config(t, bench, "child", ref(mastertest.Create(t, bench.Client, mastertest.Pod("owner"))))
		expect(t, bench, "child<owner")
		gate.Open()
		expect(t, bench, "child<owner")
	})
}

func TestEventsAreSweptAwayAnHourAfterTheyWereLastTold(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		event := func(name string) {
			mastertest.Create(t, bench.Client, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
				InvolvedObject: corev1.ObjectReference{Namespace: "default", Kind: "Pod", Name: "web"}, LastTimestamp: metav1.Now()})
		}
		bench.Start(New(bench.Deps()).Run)
		event("old")
		event("told-again")
		time.Sleep(40 * time.Minute)
		event("young")
		mastertest.Change(t, bench.Client, "default", "told-again", func(e *corev1.Event) { e.LastTimestamp = metav1.Now() })
		left := func() string {
			synctest.Wait()
			var names []string
			for _, e := range mastertest.List[*corev1.Event](t, bench.Client) {
				names = append(names, e.Name)
			}
			return strings.Join(names, " ")
		}
		for _, row := range []struct {
			wait time.Duration
			want string
		}{{15 * time.Minute, "old told-again young"}, {11 * time.Minute, "told-again young"}, {30 * time.Minute, "told-again young"}, {11 * time.Minute, ""}} {
			time.Sleep(row.wait)
			if got := left(); got != row.want {
				t.Errorf("after another %v: %q, want %q", row.wait, got, row.want)
			}
		}
	})
}

func TestJoinTokensAreSweptAwayWhenTheyHaveExpired(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		secret := func(name string, kind corev1.SecretType, life time.Duration) {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}, Type: kind, StringData: map[string]string{}}
			if life != 0 {
				s.StringData["expiration"] = time.Now().Add(life).Format(time.RFC3339)
			}
			mastertest.Create(t, bench.Client, s)
		}
		const token = "bootstrap.kubernetes.io/token"
		secret("short", token, time.Minute)
		secret("long", token, time.Hour)
		secret("forever", token, 0)
		secret("no-token", corev1.SecretTypeOpaque, time.Minute)
		left := func() (names []string) {
			for _, s := range mastertest.List[*corev1.Secret](t, bench.Client) {
				names = append(names, s.Name)
			}
			return names
		}
		bench.Start(New(bench.Deps()).Run)
		time.Sleep(sweepEvery + time.Second)
		if got := left(); !slices.Equal(got, []string{"forever", "long", "no-token"}) {
			t.Errorf("after %v: %v", sweepEvery, got)
		}
		time.Sleep(time.Hour)
		if got := left(); !slices.Equal(got, []string{"forever", "no-token"}) {
			t.Errorf("after an hour: %v", got)
		}
	})
}
