package deployment

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// step is one change of a ReplicaSet's size.
type step struct {
	set      *appsv1.ReplicaSet
	replicas int32
}

// plan returns what to change now, given what there is. current is the ReplicaSet of the Deployment's template,
// nil if there is none; it need not be stored yet. left is how many pods of the old ones are not wholly gone.
func plan(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet, left int) []step {
	if current == nil || d.Spec.Paused {
		return planPaused(d, current, old)
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return planRecreate(d, current, old, left)
	}
	return planRolling(d, current, old)
}

// planRolling first grows the new ReplicaSet as far as maxSurge lets it, then shrinks the old ones as far as
// maxUnavailable does.
func planRolling(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []step {
	wanted := *d.Spec.Replicas
	surge, unavailable := limits(d)
	var steps []step
	size := *current.Spec.Replicas
	total := size + sum(old, specReplicas)
	switch room := wanted + surge - total; {
	case size > wanted:
		size = wanted
	case size < wanted && room > 0:
		size = min(wanted, size+room)
	}
	if size != *current.Spec.Replicas {
		steps = append(steps, step{current, size})
	}

	// Of the old pods, as many may go as leave minAvailable for sure: pods of the new version that are asked for
	// but not available yet do not count. First those that do not serve anyway, then available ones.
	minAvailable := wanted - unavailable
	budget := total - minAvailable - (specReplicas(current) - available(current))
	gone := map[*appsv1.ReplicaSet]int32{}
	take := func(rs *appsv1.ReplicaSet, count int32, from *int32) {
		count = max(0, min(count, *from))
		gone[rs] += count
		*from -= count
	}
	old = oldestFirst(old)
	for _, rs := range old {
		take(rs, specReplicas(rs)-available(rs), &budget)
	}
	spare := min(budget, sum(old, available)+available(current)-minAvailable)
	for _, rs := range old {
		take(rs, available(rs), &spare)
	}
	for _, rs := range old {
		if gone[rs] > 0 {
			steps = append(steps, step{rs, specReplicas(rs) - gone[rs]})
		}
	}
	return steps
}

// planRecreate takes all old pods away, and begins with the new ones when the last is gone.
func planRecreate(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet, left int) []step {
	var steps []step
	for _, rs := range old {
		if specReplicas(rs) > 0 {
			steps = append(steps, step{rs, 0})
		}
	}
	if len(steps) == 0 && left == 0 && specReplicas(current) != *d.Spec.Replicas {
		steps = append(steps, step{current, *d.Spec.Replicas})
	}
	return steps
}

// planPaused follows a change of the Deployment's size, but moves nothing from one version to another: a rollout that
// was paused half-way keeps the pods that it has on top.
func planPaused(d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []step {
	newest := current
	if newest == nil || specReplicas(newest) == 0 {
		for _, rs := range oldestFirst(old) {
			if specReplicas(rs) > 0 {
				newest = rs
			}
		}
	}
	if newest == nil {
		return nil
	}
	others := sum(old, specReplicas)
	if current != nil {
		others += specReplicas(current)
	}
	others -= specReplicas(newest)
	size := *d.Spec.Replicas
	if others > 0 {
		surge, _ := limits(d)
		size = min(specReplicas(newest), max(0, size+surge-others))
	}
	if size != specReplicas(newest) {
		return []step{{newest, size}}
	}
	return nil
}

// limits returns maxSurge and maxUnavailable in pods: a surge is rounded up, what may be missing down. Both 0 would
// never move, so then one pod may be missing. Only a rolling update has them.
func limits(d *appsv1.Deployment) (surge, unavailable int32) {
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, 0
	}
	if rolling := d.Spec.Strategy.RollingUpdate; rolling != nil {
		surge = scaled(rolling.MaxSurge, *d.Spec.Replicas, true)
		unavailable = scaled(rolling.MaxUnavailable, *d.Spec.Replicas, false)
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, *d.Spec.Replicas)
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
// has just been told to remove.
func available(rs *appsv1.ReplicaSet) int32 {
	return min(rs.Status.AvailableReplicas, specReplicas(rs))
}

func sum(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) int32 {
	var n int32
	for _, rs := range sets {
		n += of(rs)
	}
	return n
}

func oldestFirst(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	sorted := slices.Clone(sets)
	slices.SortFunc(sorted, func(a, b *appsv1.ReplicaSet) int { return revisionOf(a) - revisionOf(b) })
	return sorted
}
