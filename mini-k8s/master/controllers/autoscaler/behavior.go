package autoscaler

// What holds changes back: the stabilization window, and how much may change in how much time (KEP-853).

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
	ups, downs  []change // by how many the target was scaled
}

type change struct {
	by int32
	at time.Time
}

// longest is how long anything is remembered: no window and no period is longer (the API server sees to that).
const longest = time.Hour

// within returns the changes of the last seconds.
func within(changes []change, seconds int32, now time.Time) []change {
	since := now.Add(-time.Duration(seconds) * time.Second)
	return slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return !c.at.After(since) })
}

func total(changes []change) (sum int32) {
	for _, c := range changes {
		sum += c.by
	}
	return sum
}

// scaled notes that the target was given another size.
func (m *memory) scaled(from, to int32, now time.Time) {
	if to > from {
		m.ups = append(within(m.ups, int32(longest/time.Second), now), change{to - from, now})
	} else {
		m.downs = append(within(m.downs, int32(longest/time.Second), now), change{from - to, now})
	}
}

// stabilize returns the recommendation that counts: the lowest of the window in which growing is not sure yet, the highest
// of that for shrinking, and no change between the two.
func (m *memory) stabilize(rules *autoscalingv2.HorizontalPodAutoscalerBehavior, replicas, wanted int32, now time.Time) int32 {
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
	m.recommended = append(within(m.recommended, int32(longest/time.Second), now), change{wanted, now})
	return min(max(replicas, low), high)
}

// pace returns how far the target may go towards what is wanted now, by the policies: each allows so many pods, or so much
// of what there was, in its period, of which a part may be used up already.
func (m *memory) pace(rules *autoscalingv2.HorizontalPodAutoscalerBehavior, replicas, wanted int32, now time.Time) int32 {
	direction, of := rules.ScaleUp, int32(1)
	if wanted < replicas {
		direction, of = rules.ScaleDown, -1
	}
	if wanted == replicas || *direction.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return replicas
	}
	var allowed []int32
	for _, policy := range direction.Policies {
		before := replicas - total(within(m.ups, policy.PeriodSeconds, now)) + total(within(m.downs, policy.PeriodSeconds, now))
		size := float64(before) + float64(of*policy.Value)
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			size = math.Ceil(float64(before) * (1 + float64(of*policy.Value)/100))
			if of < 0 {
				size = math.Floor(float64(before) * (1 - float64(policy.Value)/100))
			}
		}
		allowed = append(allowed, int32(max(0, min(size, math.MaxInt32))))
	}
	furthest := slices.Max(allowed)
	if (of > 0) != (*direction.SelectPolicy == autoscalingv2.MaxChangePolicySelect) {
		furthest = slices.Min(allowed)
	}
	if of > 0 {
		return min(wanted, max(replicas, furthest))
	}
	return max(wanted, min(replicas, furthest))
}
