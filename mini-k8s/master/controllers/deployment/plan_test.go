package deployment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rolling returns a Deployment with these limits: "2" or "25%".
func rolling(replicas int32, surge, unavailable string) *appsv1.Deployment {
	d := mastertest.Deployment("web", replicas, "hello:1")
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}}
	return d
}

func recreate(replicas int32) *appsv1.Deployment {
	d := mastertest.Deployment("web", replicas, "hello:1")
	d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
	return d
}

func paused(d *appsv1.Deployment) *appsv1.Deployment {
	d.Spec.Paused = true
	return d
}

// set returns a ReplicaSet of so many pods, of which some are available.
func set(name string, revision int, replicas, available int32) *appsv1.ReplicaSet {
	rs := mastertest.ReplicaSet(name, replicas)
	rs.Annotations = map[string]string{revisionAnnotation: fmt.Sprint(revision)}
	rs.Status = appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: available}
	return rs
}

// with gives a ReplicaSet so many pods, and a size that was changed so many times since it told of them.
func with(pods int32, changes int64, rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	rs.Status.Replicas, rs.Generation = pods, changes
	return rs
}

// of notes for which size of the Deployment the ReplicaSet has its pods.
func of(size int32, rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	rs.Annotations[desiredAnnotation] = fmt.Sprint(size)
	return rs
}

// stopping gives a ReplicaSet pods that are told to stop and not gone.
func stopping(pods int32, rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	rs.Status.TerminatingReplicas = &pods
	return rs
}

func TestPlanGoesAsFarAsItsLimitsLetIt(t *testing.T) {
	sets := func(s ...*appsv1.ReplicaSet) []*appsv1.ReplicaSet { return s }
	for _, row := range []struct {
		name    string
		d       *appsv1.Deployment
		current *appsv1.ReplicaSet
		old     []*appsv1.ReplicaSet
		want    string // "set=size", in the order in which they are done
	}{
		{"the first version begins whole", rolling(3, "25%", "25%"), set("new", 1, 0, 0), nil, "new=3"},
		{"as it should be", rolling(3, "25%", "25%"), set("new", 1, 3, 3), sets(set("old", 0, 0, 0)), ""},
		{"scaled up", rolling(5, "25%", "25%"), set("new", 1, 3, 3), nil, "new=5"},
		{"scaled down", rolling(2, "25%", "25%"), set("new", 1, 3, 3), nil, "new=2"},
		{"scaled to nothing", rolling(0, "25%", "25%"), set("new", 1, 3, 3), sets(set("old", 0, 2, 2)), "new=0 old=0"},
		{"surge alone: first one more", rolling(3, "1", "0"), set("new", 2, 0, 0), sets(set("old", 1, 3, 3)), "new=1"},
		{"surge alone: not one less before it is available", rolling(3, "1", "0"), set("new", 2, 1, 0), sets(set("old", 1, 3, 3)), ""},
		{"surge alone: then one less", rolling(3, "1", "0"), set("new", 2, 1, 1), sets(set("old", 1, 3, 3)), "old=2"},
		{"unavailable alone: first one less", rolling(3, "0", "1"), set("new", 2, 0, 0), sets(set("old", 1, 3, 3)), "old=2"},
		{"unavailable alone: then one more", rolling(3, "0", "1"), set("new", 2, 0, 0), sets(set("old", 1, 2, 2)), "new=1"},
		{"both at once", rolling(10, "3", "2"), set("new", 2, 0, 0), sets(set("old", 1, 10, 10)), "new=3 old=8"},
		{"old pods that do not serve go first, though they are newer", rolling(4, "0", "1"), set("new", 3, 0, 0), sets(set("older", 1, 2, 2), set("broken", 2, 2, 0)), "broken=1"},
		{"of old ones that serve the oldest goes first", rolling(4, "0", "1"), set("new", 3, 0, 0), sets(set("older", 1, 2, 2), set("newer", 2, 2, 2)), "older=1"},
		{"a new version that never gets available stops there", rolling(4, "1", "1"), set("new", 2, 2, 0), sets(set("old", 1, 3, 3)), ""},
		{"old pods that do not serve stay while new ones do not either", rolling(4, "1", "0"), set("new", 2, 1, 0), sets(set("old", 1, 4, 0)), ""},
		{"the last step", rolling(3, "1", "0"), set("new", 2, 3, 3), sets(set("old", 1, 1, 1)), "old=0"},
		{"status that has not followed a scale-down", rolling(3, "1", "0"), set("new", 2, 2, 2), sets(set("old", 1, 1, 3)), "new=3"},
		{"recreate: the old ones first", recreate(3), set("new", 2, 0, 0), sets(set("old", 1, 3, 3)), "old=0"},
		{"recreate: until the last is wholly gone", recreate(3), set("new", 2, 0, 0), sets(stopping(1, set("old", 1, 0, 0))), ""},
		{"recreate: not while the old one may yet make some", recreate(3), set("new", 2, 0, 0), sets(with(0, 1, set("old", 1, 0, 0))), ""},
		{"recreate: nor while it is paused", paused(recreate(3)), set("new", 2, 0, 0), sets(stopping(1, set("old", 1, 0, 0))), ""},
		{"recreate: then all new ones", recreate(3), set("new", 2, 0, 0), sets(set("old", 1, 0, 0)), "new=3"},
		{"paused half-way: the pod on top stays", paused(rolling(3, "1", "0")), set("new", 2, 1, 0), sets(set("old", 1, 3, 3)), ""},
		{"paused before the new version was made", paused(rolling(3, "1", "0")), nil, sets(set("old", 1, 3, 3)), ""},
		{"paused, scaled up", paused(rolling(5, "1", "0")), nil, sets(set("old", 1, 3, 3)), "old=5"},
		{"paused half-way, scaled down", paused(rolling(2, "1", "0")), set("new", 2, 1, 0), sets(of(3, set("old", 1, 3, 3))), "old=3 new=0"},
		{"half-way, scaled up: both versions grow", rolling(15, "3", "2"), set("new", 2, 5, 0), sets(of(10, set("old", 1, 8, 8))), "old=11 new=7"},
		{"half-way, scaled down: both shrink", rolling(5, "3", "2"), set("new", 2, 5, 5), sets(of(10, set("old", 1, 8, 8))), "old=5 new=3"},
		{"half-way, scaled: what has no pods stays so", rolling(20, "0", "2"), set("new", 3, 4, 0), sets(of(10, set("older", 1, 0, 0)), of(10, set("old", 2, 6, 6))), "old=12 new=8"},
		{"half-way, scaled down: what does not serve goes first", rolling(5, "0", "2"), set("new", 2, 5, 1), sets(of(10, set("old", 1, 5, 5))), "old=4 new=1"},
		{"half-way, scaled to nothing", rolling(0, "3", "2"), set("new", 2, 5, 0), sets(of(10, set("old", 1, 8, 8))), "old=0 new=0"},
		{"many versions, one pod less: one of them gives it", rolling(3, "0", "1"), set("new", 4, 1, 1), sets(of(4, set("a", 1, 1, 1)), of(4, set("b", 2, 1, 1)), of(4, set("c", 3, 1, 1))), "a=1 b=1 c=0 new=1"},
		{"no new pod before the old one has gone", rolling(3, "0", "1"), set("new", 2, 0, 0), sets(with(3, 0, set("old", 1, 2, 2))), ""},
		{"no new pod while nobody knows how many old ones there are", rolling(3, "1", "1"), set("new", 2, 0, 0), sets(with(3, 1, set("old", 1, 2, 2))), ""},
		{"no old pod goes for a new one that may not have stayed", rolling(3, "1", "0"), with(1, 1, set("new", 2, 1, 1)), sets(set("old", 1, 3, 3)), ""},
		{"those go that are known not to serve", rolling(4, "1", "1"), set("new", 3, 0, 0), sets(with(3, 1, set("serving", 1, 3, 3)), set("broken", 2, 2, 0)), "broken=0"},
		{"half-way, scaled up: not before the last pods have gone", rolling(15, "3", "2"), set("new", 2, 5, 0), sets(with(9, 0, of(10, set("old", 1, 8, 8)))), ""},
		{"paused, nothing there", paused(rolling(3, "1", "0")), nil, nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, s := range plan(row.d, row.current, row.old) {
				got = append(got, fmt.Sprintf("%s=%d", s.set.Name, s.replicas))
			}
			if text := strings.Join(got, " "); text != row.want {
				t.Errorf("plan: %q, want %q", text, row.want)
			}
		})
	}
}

func TestLimitsAreRoundedSoThatThereIsRoomAndService(t *testing.T) {
	for _, row := range []struct {
		name               string
		d                  *appsv1.Deployment
		surge, unavailable int32
	}{
		{"numbers", rolling(10, "3", "2"), 3, 2},
		{"a surge is rounded up, what may be missing down", rolling(10, "25%", "25%"), 3, 2},
		{"one pod", rolling(1, "25%", "25%"), 1, 0},
		{"both nothing would never move", rolling(10, "0", "0"), 0, 1},
		{"both rounded to nothing", rolling(3, "0", "25%"), 0, 1},
		{"no more can be missing than there are", rolling(2, "0", "5"), 0, 2},
		{"no pods", rolling(0, "25%", "25%"), 0, 0},
		{"recreate has none", recreate(3), 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			if surge, unavailable := limits(row.d); surge != row.surge || unavailable != row.unavailable {
				t.Errorf("surge %d, unavailable %d, want %d and %d", surge, unavailable, row.surge, row.unavailable)
			}
		})
	}
}

// Whatever the sizes and in whatever order pods get available, plan by plan: never more pods than the surge lets,
// never fewer available ones than there must be, and in the end the new version alone, at its size.
func TestRolloutKeepsItsLimitsAndReachesItsEnd(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for run := range uint64(2000) {
		if why := rollout(rand.New(rand.NewPCG(seed, run))); why != "" {
			t.Fatalf("seed %d, run %d: %s", seed, run, why)
		}
	}
}

// rollout plays one to its end and returns what went wrong, or "".
func rollout(random *rand.Rand) string {
	limit := func() string {
		if random.IntN(2) == 0 {
			return fmt.Sprintf("%d%%", random.IntN(101))
		}
		return fmt.Sprint(random.IntN(6))
	}
	d := rolling(random.Int32N(13), limit(), limit())
	current, old := set("new", 9, 0, 0), []*appsv1.ReplicaSet{}
	for i, left := 0, *d.Spec.Replicas; i < 3; i++ {
		size := random.Int32N(left + 1)
		if i == 2 {
			size = left
		}
		left -= size
		old = append(old, of(*d.Spec.Replicas, set(fmt.Sprint("old-", i), i+1, size, size)))
	}
	if random.IntN(3) == 0 { // a rollout before this one got stuck
		old[2].Status.AvailableReplicas = random.Int32N(old[2].Status.AvailableReplicas + 1)
	}
	all := append([]*appsv1.ReplicaSet{current}, old...)
	surge, unavailable := limits(d)
	most, least := *d.Spec.Replicas+surge, min(*d.Spec.Replicas-unavailable, sum(all, available))
	for round := 0; ; round++ {
		if round > 300 {
			return fmt.Sprintf("no end: %s", describe(d, all))
		}
		if random.IntN(20) == 0 && round < 100 { // somebody scales it in the middle
			*d.Spec.Replicas = random.Int32N(13)
			_, unavailable = limits(d)
			least = min(least, *d.Spec.Replicas-unavailable, sum(all, available))
			most = max(*d.Spec.Replicas+surgeOf(d), sum(all, pods))
		} else {
			most = max(*d.Spec.Replicas+surgeOf(d), min(most, sum(all, pods)))
		}
		steps := plan(d, current, old)
		sharing := slices.ContainsFunc(old, resized(d))
		for _, s := range steps {
			before := *s.set.Spec.Replicas
			*s.set.Spec.Replicas = s.replicas
			of(*d.Spec.Replicas, s.set)
			// The pods that serve least go first.
			s.set.Status.AvailableReplicas = min(s.set.Status.AvailableReplicas, s.replicas)
			s.set.Status.Replicas = max(s.set.Status.Replicas, s.replicas) // those that are too many go later
			if s.replicas < 0 || s.replicas == before && !sharing {
				return fmt.Sprintf("step of %s from %d to %d", s.set.Name, before, s.replicas)
			}
			if total := sum(all, pods); total > most {
				return fmt.Sprintf("%d pods, at most %d may be: %s", total, most, describe(d, all))
			}
		}
		if got := sum(all, available); got < least {
			return fmt.Sprintf("%d pods available, at least %d must be: %s", got, least, describe(d, all))
		}
		least = max(least, min(*d.Spec.Replicas-unavailable, sum(all, available))) // once there are enough, there always are
		var growing, shrinking []*appsv1.ReplicaSet
		for _, rs := range all {
			if rs.Status.Replicas > *rs.Spec.Replicas {
				shrinking = append(shrinking, rs)
			}
			if rs.Status.AvailableReplicas < *rs.Spec.Replicas && (rs == current || random.IntN(8) == 0) {
				growing = append(growing, rs)
			}
		}
		switch {
		case len(shrinking) > 0 && random.IntN(2) == 0:
			rs := shrinking[random.IntN(len(shrinking))]
			rs.Status.Replicas -= 1 + random.Int32N(rs.Status.Replicas-*rs.Spec.Replicas)
		case len(growing) > 0:
			rs := growing[random.IntN(len(growing))]
			rs.Status.AvailableReplicas += 1 + random.Int32N(*rs.Spec.Replicas-rs.Status.AvailableReplicas)
		case len(steps) == 0 && len(shrinking) == 0:
			if *current.Spec.Replicas != *d.Spec.Replicas || sum(old, specReplicas) != 0 {
				return fmt.Sprintf("stuck: %s", describe(d, all))
			}
			return ""
		}
	}
}

// pods returns how many pods of a ReplicaSet there are or will be.
func pods(rs *appsv1.ReplicaSet) int32 { return max(*rs.Spec.Replicas, rs.Status.Replicas) }

func surgeOf(d *appsv1.Deployment) int32 {
	surge, _ := limits(d)
	return surge
}

func describe(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) string {
	surge, unavailable := limits(d)
	text := fmt.Sprintf("%d replicas, surge %d, unavailable %d:", *d.Spec.Replicas, surge, unavailable)
	for _, rs := range sets {
		text += fmt.Sprintf(" %s %d of %d", rs.Name, rs.Status.AvailableReplicas, *rs.Spec.Replicas)
	}
	return text
}

func TestTemplateHasOneHashWhoeverLooks(t *testing.T) {
	d := mastertest.Deployment("web", 3, "hello:1")
	d.Spec.Template.Labels = map[string]string{"app": "web", "tier": "front", "a": "b", "c": "d"}
	hash := hashOf(d)
	if again := mastertest.Deployment("web", 3, "hello:1"); hashOf(again) == hash {
		t.Error("another template has the same hash")
	}
	if known := hashOf(mastertest.Deployment("web", 3, "hello:1")); known != "b5f67d8fb" {
		t.Errorf("the hash of a known template is %s now: a version that is made again would get a second name", known)
	}
	for range 50 {
		if got := hashOf(d.DeepCopy()); got != hash {
			t.Fatalf("hash %s, then %s", hash, got)
		}
	}
	scaled := d.DeepCopy()
	*scaled.Spec.Replicas = 7
	if hashOf(scaled) != hash {
		t.Error("the hash depends on the size")
	}
	scaled.Status.CollisionCount = new(int32)
	if hashOf(scaled) == hash {
		t.Error("a collision does not change the hash")
	}
}

func TestCurrentVersionIsFoundByItsTemplate(t *testing.T) {
	d := mastertest.Deployment("web", 3, "hello:2")
	same, other := newSet(d, 3), newSet(mastertest.Deployment("web", 3, "hello:1"), 2)
	for name, sets := range map[string][]*appsv1.ReplicaSet{"first": {same, other}, "last": {other, same}} {
		if current, old := split(d, sets); current != same || !slices.Equal(old, []*appsv1.ReplicaSet{other}) {
			t.Errorf("%s: current is %v", name, current)
		}
	}
	if current, old := split(d, []*appsv1.ReplicaSet{other}); current != nil || len(old) != 1 {
		t.Errorf("current is %v", current)
	}
}
