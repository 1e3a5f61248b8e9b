package autoscaler

import (
	"testing"
	"time"

	"workshop/mini-k8s/api"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// defaults returns the rules that hold where an autoscaler says nothing.
func defaults(changes ...func(*autoscalingv2.HorizontalPodAutoscalerBehavior)) *autoscalingv2.HorizontalPodAutoscalerBehavior {
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{}
	api.DefaultScaling(b)
	for _, change := range changes {
		change(b)
	}
	return b
}

func TestHighestRecommendationOfTheWindowCountsForShrinking(t *testing.T) {
	rules, m := defaults(), &memory{}
	for _, row := range []struct {
		after          time.Duration
		replicas, want int32
		calm           int32
	}{
		{0, 2, 6, 6},                                 // growing needs no patience
		{10 * time.Second, 6, 8, 8},                  //
		{20 * time.Second, 8, 1, 8},                  // idle, but a moment ago it was not
		{300 * time.Second, 8, 1, 8},                 // the 8 is from 290 s ago
		{310 * time.Second, 8, 3, 3},                 // now it is forgotten: the most since is 3
		{320 * time.Second, 3, 1, 3},                 //
		{620 * time.Second, 3, 1, 1},                 //
		{2 * time.Hour, 1, 1, 1},                     //
		{2*time.Hour + 10*time.Second, 1, 100, 100},  //
		{2*time.Hour + 20*time.Second, 100, 50, 100}, //
	} {
		if got := m.stabilize(rules, row.replicas, row.want, now.Add(row.after)); got != row.calm {
			t.Errorf("after %s, %d replicas, %d recommended: %d, want %d", row.after, row.replicas, row.want, got, row.calm)
		}
	}
	if len(m.recommended) > 3 {
		t.Errorf("%d recommendations of more than an hour are kept", len(m.recommended))
	}
}

func TestLowestRecommendationOfTheWindowCountsForGrowingIfThereIsOne(t *testing.T) {
	window := int32(60)
	rules, m := defaults(func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) { b.ScaleUp.StabilizationWindowSeconds = &window }), &memory{}
	for _, row := range []struct {
		after      time.Duration
		want, calm int32
	}{
		{0, 6, 2}, // as far as anybody knows it was 2 till now
		{30 * time.Second, 6, 2},
		{60 * time.Second, 5, 5},
		{90 * time.Second, 8, 5},
	} {
		if got := m.stabilize(rules, 2, row.want, now.Add(row.after)); got != row.calm {
			t.Errorf("after %s, %d recommended: %d, want %d", row.after, row.want, got, row.calm)
		}
	}
}

func TestPoliciesSayHowFarItGoesAtATime(t *testing.T) {
	policies := func(kind string, all ...autoscalingv2.HPAScalingPolicy) func(*autoscalingv2.HorizontalPodAutoscalerBehavior) {
		return func(b *autoscalingv2.HorizontalPodAutoscalerBehavior) {
			selects := autoscalingv2.ScalingPolicySelect(kind)
			for _, rules := range []*autoscalingv2.HPAScalingRules{b.ScaleUp, b.ScaleDown} {
				rules.SelectPolicy, rules.Policies = &selects, all
			}
		}
	}
	podsIn := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 3, PeriodSeconds: 60}
	percentIn := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60}
	for _, row := range []struct {
		name           string
		rules          *autoscalingv2.HorizontalPodAutoscalerBehavior
		before         memory
		replicas, want int32
		paced          int32
	}{
		{"four more from one", defaults(), memory{}, 1, 20, 5},
		{"double from ten", defaults(), memory{}, 10, 30, 20},
		{"no further than is wanted", defaults(), memory{}, 10, 12, 12},
		{"down to nothing at once", defaults(), memory{}, 10, 1, 1},
		{"the four of these 15 s are used up", defaults(), memory{scaled: []change{{4, now.Add(-10 * time.Second)}}}, 5, 20, 5},
		{"and there again after them", defaults(), memory{scaled: []change{{4, now.Add(-15 * time.Second)}}}, 5, 20, 10},
		{"what was taken away meanwhile may come back", defaults(), memory{scaled: []change{{4, now.Add(-10 * time.Second)}, {-2, now.Add(-5 * time.Second)}}}, 3, 20, 5},
		{"the policy that changes most", defaults(policies("Max", podsIn, percentIn)), memory{}, 10, 30, 15},
		{"the policy that changes least", defaults(policies("Min", podsIn, percentIn)), memory{}, 10, 30, 13},
		{"most, downwards", defaults(policies("Max", podsIn, percentIn)), memory{}, 10, 1, 5},
		{"least, downwards", defaults(policies("Min", podsIn, percentIn)), memory{}, 10, 1, 7},
		{"half of an odd number, upwards", defaults(policies("Max", percentIn)), memory{}, 5, 20, 8},
		{"and downwards", defaults(policies("Max", percentIn)), memory{}, 5, 1, 2},
		{"a part of the minute's pods is used up", defaults(policies("Max", podsIn)), memory{scaled: []change{{-2, now.Add(-time.Second)}}}, 8, 1, 7},
		{"more than the minute's pods went before the policy was there", defaults(policies("Max", podsIn)), memory{scaled: []change{{-9, now.Add(-time.Second)}}}, 8, 1, 8},
		{"switched off", defaults(policies("Disabled")), memory{}, 8, 1, 8},
		{"nothing to do", defaults(policies("Disabled")), memory{}, 8, 8, 8},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.before.pace(row.rules, row.replicas, row.want, now); got != row.paced {
				t.Errorf("from %d towards %d: %d, want %d", row.replicas, row.want, got, row.paced)
			}
		})
	}
}
