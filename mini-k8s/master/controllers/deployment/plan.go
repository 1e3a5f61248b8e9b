package deployment

import (
	"fmt"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// step is one change of a ReplicaSet's size.
type step struct {
	set      *appsv1.ReplicaSet
	replicas int32
}

// resize returns the step to that size, none if the ReplicaSet has it.
func resize(rs *appsv1.ReplicaSet, replicas int32) []step {
	if specReplicas(rs) == replicas {
		return nil
	}
	return []step{{rs, replicas}}
}

// plan returns what to change now, given what there is. current is the ReplicaSet of the Deployment's template,
// nil if there is none; it need not be stored yet. The old ones begin with the oldest.
func plan(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []step {
	all := slices.Clone(old)
	if current != nil {
		all = append(all, current)
	}
	active := slices.DeleteFunc(slices.Clone(all), func(rs *appsv1.ReplicaSet) bool { return specReplicas(rs) == 0 })
	switch {
	case len(active) > 1 && slices.ContainsFunc(old, resized(d)) && !recreates(d):
		return share(d, active, room(d, all, nil))
	case current != nil && !d.Spec.Paused:
		return roll(d, current, old, room(d, all, current))
	case len(active) > 1 || len(all) == 0:
		return nil // stands still half-way, or has nothing yet
	default: // the one that has pods, or else the newest, follows the Deployment's size
		last := all[len(all)-1]
		if len(active) > 0 {
			last = active[0]
		}
		return resize(last, min(*d.Spec.Replicas, specReplicas(last)+room(d, all, last)))
	}
}

func recreates(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
}

// resized returns whether a version that has pods was last given them when the Deployment was to have another size.
func resized(d *appsv1.Deployment) func(*appsv1.ReplicaSet) bool {
	return func(rs *appsv1.ReplicaSet) bool {
		noted, known := rs.Annotations[desiredAnnotation]
		return known && specReplicas(rs) > 0 && noted != fmt.Sprint(*d.Spec.Replicas)
	}
}

// share spreads a change of the Deployment's size over the versions that have pods, in proportion to what they have.
// Nobody knows yet whether the new version will serve: if all the growth were its own, there might be none. Of too many
// pods those that do not serve go first, in which it differs from Kubernetes: it never takes more that do than it must.
// Growth that there is no room for yet waits.
func share(d *appsv1.Deployment, active []*appsv1.ReplicaSet, room int32) (steps []step) {
	surge, _ := limits(d)
	most, total := *d.Spec.Replicas+surge, sum(active, specReplicas)
	if most-total > room {
		return nil
	}
	excess := max(0, total-most)
	for _, rs := range active {
		gone := take(&excess, idle(rs))
		steps = append(steps, step{rs, specReplicas(rs) - gone})
		total -= gone
	}
	before, after := int32(0), int32(0) // of this version and those ahead: their sums are rounded, so that nothing is left over
	for i := range steps {
		before += steps[i].replicas
		reached := int32(math.Round(float64(before) * float64(most) / float64(max(1, total))))
		steps[i].replicas, after = reached-after, reached
	}
	return steps
}

// room returns by how many the ReplicaSets may grow. What one was told to remove is there until it says that it is not;
// and as long as one has not seen its own size, nobody knows what it has. Kubernetes counts sizes alone, and for a moment
// has more pods than it promises. Where all is recreated, the one that is to grow has room when no other has pods.
func room(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, growing *appsv1.ReplicaSet) int32 {
	surge, _ := limits(d)
	room := *d.Spec.Replicas + surge
	for _, rs := range sets {
		if unseen(rs) || recreates(d) && rs != growing && hasPods(rs) {
			return 0
		}
		room -= max(specReplicas(rs), rs.Status.Replicas)
	}
	return max(0, room)
}

// unseen reports whether a ReplicaSet's status is older than its size.
func unseen(rs *appsv1.ReplicaSet) bool { return rs.Status.ObservedGeneration < rs.Generation }

// roll decides on one step of an update.
//  1. The new ReplicaSet grows, as far as all together are not more than replicas + maxSurge, or shrinks to replicas.
//  2. Of the old pods as many may go as leave replicas - maxUnavailable for sure: pods of the new version that are
//     asked for but not available yet do not count.
//  3. First those go that do not serve anyway, of the oldest version first.
//  4. Then available ones, of the oldest version first, as far as enough available ones of all versions are left.
//
// Where all is recreated, all old ones may go.
func roll(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet, room int32) []step {
	_, unavailable := limits(d)
	wanted, size := *d.Spec.Replicas, specReplicas(current)
	least := wanted - unavailable
	if recreates(d) {
		least = 0
	}
	steps := resize(current, min(wanted, size+room))
	budget := sum(old, specReplicas) + available(current) - least
	sizes := map[*appsv1.ReplicaSet]int32{}
	for _, rs := range old {
		sizes[rs] = specReplicas(rs) - take(&budget, idle(rs))
	}
	budget = min(budget, sum(old, available)+available(current)-least)
	for _, rs := range old {
		sizes[rs] -= take(&budget, available(rs))
		steps = append(steps, resize(rs, sizes[rs])...)
	}
	return steps
}

// take takes so many pods off the budget, or as many as it has, and returns how many.
func take(budget *int32, count int32) int32 {
	count = max(0, min(count, *budget))
	*budget -= count
	return count
}

// hasPods reports whether a ReplicaSet has pods, be they stopping, or may yet get some: whoever makes them may not know its size.
func hasPods(rs *appsv1.ReplicaSet) bool {
	return unseen(rs) || rs.Status.Replicas+ptr.Deref(rs.Status.TerminatingReplicas, 0) > 0
}

// limits returns maxSurge and maxUnavailable in pods: a surge is rounded up, what may be missing down. Both 0 would
// never move, so then one pod may be missing. Only a rolling update of some pods has them.
func limits(d *appsv1.Deployment) (surge, unavailable int32) {
	rolling, wanted := d.Spec.Strategy.RollingUpdate, *d.Spec.Replicas
	if rolling == nil || wanted == 0 {
		return 0, 0
	}
	surge, unavailable = scaled(rolling.MaxSurge, wanted, true), scaled(rolling.MaxUnavailable, wanted, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, wanted)
}

func scaled(value *intstr.IntOrString, of int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(value, int(of), up)
	if err != nil {
		return 0 // the API server has validated it
	}
	return int32(n)
}

func specReplicas(rs *appsv1.ReplicaSet) int32 { return *rs.Spec.Replicas }

// available returns how many available pods a ReplicaSet is sure to keep: its status may still count pods that it
// has been told to remove.
func available(rs *appsv1.ReplicaSet) int32 {
	if unseen(rs) {
		return 0
	}
	return min(rs.Status.AvailableReplicas, specReplicas(rs))
}

// idle returns how many pods of a ReplicaSet are known not to be available.
func idle(rs *appsv1.ReplicaSet) int32 {
	if unseen(rs) {
		return 0
	}
	return specReplicas(rs) - available(rs)
}

func sum(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) int32 {
	var n int32
	for _, rs := range sets {
		n += of(rs)
	}
	return n
}
