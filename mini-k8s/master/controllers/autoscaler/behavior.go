package autoscaler

// What holds a change back: the stabilization window, and how much may change in how much time (KEP-853).

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// memory is what a controller knows of the last minutes of an autoscaler. It can be lost: the next one begins with the
// replicas that there are as its first recommendation.
type memory struct {
	recommended []change // absolute, however far from what was then
	scaled      []change // by how many the target has grown or shrunk
}

type change struct {
	by int32
	at time.Time
}

// longest is for how many seconds anything is remembered: no window and no period is longer (the API server sees to that).
const longest = 3600

// within returns the changes of the last seconds.
func within(changes []change, seconds int32, now time.Time) []change {
	since := now.Add(-time.Duration(seconds) * time.Second)
	return slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return !c.at.After(since) })
}

// stabilize returns the recommendation that counts: the lowest of the window in which growing is not sure yet, the highest
// of that for shrinking, and no change between the two.
func (m *memory) stabilize(rules *behavior, replicas, wanted int32, now time.Time) int32 {
	if len(m.recommended) == 0 {
		m.recommended = []change{{replicas, now}}
	}
	low, high := wanted, wanted
	for _, r := range within(m.recommended, *rules.ScaleUp.StabilizationWindowSeconds, now) {
		low = min(low, r.by)
	}
	for _, r := range within(m.recommended, *rules.ScaleDown.StabilizationWindowSeconds, now) {
		high = max(high, r.by)
	}
	m.recommended = append(within(m.recommended, longest, now), change{wanted, now})
	return min(max(replicas, low), high)
}

// pace returns how far the target may go towards what is wanted now, by the policies: each allows so many pods, or so much
// of what there was, in its period, of which a part may be used up already.
func (m *memory) pace(rules *behavior, replicas, wanted int32, now time.Time) int32 {
	direction, sign := rules.ScaleUp, int32(1)
	if wanted < replicas {
		direction, sign = rules.ScaleDown, -1
	}
	if wanted == replicas || *direction.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return replicas
	}
	var allowed []int32
	for _, policy := range direction.Policies {
		used := int32(0)
		for _, c := range within(m.scaled, policy.PeriodSeconds, now) {
			used += c.by
		}
		size := float64(policy.Value)
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			size = math.Ceil(float64(replicas-used) * size / 100)
		}
		allowed = append(allowed, int32(min(size, math.MaxInt32/2))-sign*used)
	}
	furthest := slices.Max(allowed)
	if *direction.SelectPolicy == autoscalingv2.MinChangePolicySelect {
		furthest = slices.Min(allowed)
	}
	return replicas + sign*max(0, min(furthest, sign*(wanted-replicas)))
}
