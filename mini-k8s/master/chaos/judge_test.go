package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/master/store"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// calm is after how long everybody has heard of a change, however bad the connection.
const calm = 15 * time.Second

// judge follows the log of the store, change by change, and fails the test at the first that breaks a promise. A loop
// acts on what it has heard, which is a while ago; and what it then asks for, another loop does later. So each change is
// held against what was promised at any time since the Deployment was last at rest (see episode), and each loop is judged
// by its own writes: the Deployment controller by the sizes that it gives, the ReplicaSet controller by whether it keeps
// to them, the scheduler by its bindings.
type judge struct {
	t           testing.TB
	deployments map[types.UID]*episode
	sets        map[types.UID]*set
	pods        map[types.UID]*corev1.Pod
	nodes       map[string]*corev1.Node
	seen        map[string]int // how often each promise was at stake, for the log
}

// episode is a Deployment since it was last at rest.
type episode struct {
	*appsv1.Deployment
	least, most int       // of available pods, of pods: by all that was asked for
	lost        int       // available pods that went by no doing of the controllers
	rest        time.Time // since when; zero if it is not at rest
}

// set is a ReplicaSet with all sizes that its controller may know it by: those since it last told which it has seen.
type set struct {
	*appsv1.ReplicaSet
	sizes map[int64]int // by generation
}

func follow(bench *mastertest.Bench, t testing.TB) *judge {
	j := &judge{t: t, deployments: map[types.UID]*episode{}, sets: map[types.UID]*set{}, pods: map[types.UID]*corev1.Pod{},
		nodes: map[string]*corev1.Node{}, seen: map[string]int{}}
	watcher, err := bench.Store.Watch("", 0)
	if err != nil {
		t.Fatal(err)
	}
	bench.Start(func(ctx context.Context) error {
		for {
			changes, err := watcher.Next(ctx)
			if err != nil {
				return ctx.Err()
			}
			for _, change := range changes {
				j.handle(change)
			}
		}
	})
	return j
}

func (j *judge) handle(c *store.Change) {
	kind, _, _ := strings.Cut(c.Key, "/")
	switch kind {
	case "deployments.apps":
		j.deployment(decode[appsv1.Deployment](j.t, c.Value), decode[appsv1.Deployment](j.t, c.Previous))
	case "replicasets.apps":
		j.set(decode[appsv1.ReplicaSet](j.t, c.Value), decode[appsv1.ReplicaSet](j.t, c.Previous), c.Who)
	case "pods":
		j.pod(decode[corev1.Pod](j.t, c.Value), decode[corev1.Pod](j.t, c.Previous), c.Who)
	case "nodes":
		node := decode[corev1.Node](j.t, c.Value)
		_, name, _ := strings.Cut(c.Key, "/")
		j.nodes[name] = node
	default:
		return
	}
	for _, e := range j.deployments {
		if !j.atRest(e) {
			e.rest = time.Time{}
		} else if e.rest.IsZero() {
			e.rest = time.Now()
		}
	}
}

func decode[T any](t testing.TB, value []byte) *T {
	if value == nil {
		return nil
	}
	object := new(T)
	if err := json.Unmarshal(value, object); err != nil {
		t.Error(err)
	}
	return object
}

func (j *judge) failed(e *episode, format string, args ...any) {
	j.t.Helper()
	text := fmt.Sprintf("%s: %s %s: ", time.Now().Format("15:04:05.000"), e.Name, fmt.Sprintf(format, args...))
	for _, s := range j.setsOf(e) {
		active, available := j.count(s.UID)
		text += fmt.Sprintf("\n  %s %d of %d, %d available (generation %d, observed %d: %d, %d available), sizes %v", s.Name, active, *s.Spec.Replicas, available,
			s.Generation, s.Status.ObservedGeneration, s.Status.Replicas, s.Status.AvailableReplicas, s.sizes)
	}
	j.t.Error(text)
}

func (j *judge) deployment(d, old *appsv1.Deployment) {
	switch {
	case d == nil:
		delete(j.deployments, old.UID)
	case j.deployments[d.UID] == nil:
		e := &episode{Deployment: d}
		e.least, e.most = bounds(d)
		j.deployments[d.UID] = e
	default:
		e := j.deployments[d.UID]
		j.renew(e)
		e.Deployment = d
		least, most := bounds(d)
		e.least, e.most = min(e.least, least), max(e.most, most)
	}
}

// renew begins a new episode if the old one has come to rest and everybody has heard of that.
func (j *judge) renew(e *episode) {
	if !e.rest.IsZero() && time.Since(e.rest) > calm {
		e.lost = 0
		e.least, e.most = bounds(e.Deployment)
	}
}

// bounds returns how many pods must be available, and how many may be.
func bounds(d *appsv1.Deployment) (least, most int) {
	replicas := int(*d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, replicas
	}
	surge, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxSurge, replicas, true)
	unavailable, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxUnavailable, replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return max(0, replicas-unavailable), replicas + surge
}

// atRest reports whether nothing is left to be done for a Deployment.
func (j *judge) atRest(e *episode) bool {
	if e.Status.ObservedGeneration != e.Generation {
		return false
	}
	total := 0
	for _, s := range j.setsOf(e) {
		active, available := j.count(s.UID)
		if size := int(*s.Spec.Replicas); active != size || available != size || s.Status.ObservedGeneration != s.Generation ||
			int(s.Status.AvailableReplicas) != available {
			return false
		}
		total += active
	}
	return total == int(*e.Spec.Replicas) && int(e.Status.UpdatedReplicas) == total
}

func (j *judge) setsOf(e *episode) (sets []*set) {
	for _, s := range j.sets {
		if metav1.IsControlledBy(s, e) {
			sets = append(sets, s)
		}
	}
	return sets
}

// count returns how many pods of a ReplicaSet there are, and how many are available.
func (j *judge) count(owner types.UID) (active, available int) {
	for _, p := range j.pods {
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil && ref.UID == owner && isActive(p) {
			active++
			if j.available(p, 0) {
				available++
			}
		}
	}
	return active, available
}

func isActive(p *corev1.Pod) bool {
	return p != nil && p.DeletionTimestamp == nil && !api.PodFinished(p)
}

// available reports whether a pod has been available for so long.
func (j *judge) available(p *corev1.Pod, long time.Duration) bool {
	if !isActive(p) {
		return false
	}
	since, ready := api.PodReadySince(p)
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil && j.sets[ref.UID] != nil {
		long += time.Duration(j.sets[ref.UID].Spec.MinReadySeconds) * time.Second
	}
	return ready && time.Since(since) >= long
}

// set judges the sizes that the Deployment controller gives: all together are not more than maxSurge allows; and where one
// takes away pods that are available, and said to be, enough others are left.
func (j *judge) set(rs, old *appsv1.ReplicaSet, who string) {
	if rs == nil {
		delete(j.sets, old.UID)
		return
	}
	s := j.sets[rs.UID]
	if s == nil {
		s = &set{sizes: map[int64]int{}}
	}
	e := j.ownerOf(rs)
	kept, known := 0, 0
	if e != nil {
		j.renew(e)
		kept, known = j.keeps(e)
	}
	s.ReplicaSet, j.sets[rs.UID] = rs, s
	s.sizes[rs.Generation] = int(*rs.Spec.Replicas)
	for generation := range s.sizes {
		if generation < rs.Status.ObservedGeneration {
			delete(s.sizes, generation)
		}
	}
	if e == nil || e.DeletionTimestamp != nil || who != "deployment-controller" || old != nil && rs.Generation == old.Generation {
		return
	}
	total := 0
	for _, s := range j.setsOf(e) {
		total += int(*s.Spec.Replicas)
	}
	if old == nil || *rs.Spec.Replicas > *old.Spec.Replicas {
		if j.seen["sizes that grow"]++; total > e.most {
			j.failed(e, "%d pods are asked for, at most %d may be", total, e.most)
		}
		return
	}
	keptNow, knownNow := j.keeps(e)
	if knownNow < known {
		if j.seen["sizes that shrink"]++; keptNow < kept && keptNow+e.lost < e.least {
			j.failed(e, "%d available pods are to stay, %d must, %d were lost", keptNow, e.least, e.lost)
		}
	}
}

// keeps returns how many pods that are available will stay, by the sizes, and of how many the ReplicaSets' status knows it.
func (j *judge) keeps(e *episode) (kept, known int) {
	for _, s := range j.setsOf(e) {
		_, available := j.count(s.UID)
		kept += min(available, int(*s.Spec.Replicas))
		known += min(available, int(s.Status.AvailableReplicas), int(*s.Spec.Replicas))
	}
	return kept, known
}

func (j *judge) ownerOf(rs *appsv1.ReplicaSet) *episode {
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		return j.deployments[ref.UID]
	}
	return nil
}

func (j *judge) pod(p, old *corev1.Pod, who string) {
	var s *set
	var e *episode
	either := p
	if p == nil {
		either = old
	}
	if ref := metav1.GetControllerOfNoCopy(either); ref != nil && j.sets[ref.UID] != nil {
		s = j.sets[ref.UID]
		if e = j.ownerOf(s.ReplicaSet); e != nil {
			j.renew(e)
		}
	}
	if p == nil {
		delete(j.pods, old.UID)
	} else {
		j.pods[p.UID] = p
		j.bound(p, old)
	}
	if e == nil || e.DeletionTimestamp != nil || s.DeletionTimestamp != nil {
		return
	}
	sizes := make([]int, 0, len(s.sizes))
	for _, size := range s.sizes {
		sizes = append(sizes, size)
	}
	active, _ := j.count(s.UID)
	switch {
	case old == nil:
		j.created(e, s, active, slices.Max(sizes))
	case isActive(old) && !isActive(p) && who == "replicaset-controller":
		if j.seen["pods that go"]++; active < slices.Min(sizes) {
			j.failed(e, "%s is taken away: %d are left, of sizes %v", old.Name, active, sizes)
		}
		if j.available(old, calm) {
			j.victim(e, s, old, active-slices.Min(sizes))
		}
	case j.available(old, 0) && !j.available(p, 0):
		e.lost++
	}
}

// created judges a new pod: all together are not more than maxSurge allows, and a Deployment that recreates has no two
// versions at a time.
func (j *judge) created(e *episode, s *set, active, size int) {
	if j.seen["pods that come"]++; active > size {
		j.failed(e, "a pod too many of %s: %d of %d", s.Name, active, size)
	}
	total := 0
	for _, other := range j.setsOf(e) {
		active, _ := j.count(other.UID)
		total += active
	}
	if total > e.most {
		j.failed(e, "%d pods, at most %d may be", total, e.most)
	}
	if e.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return
	}
	for _, p := range j.pods {
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil && ref.UID != s.UID && !api.PodFinished(p) && j.sets[ref.UID] != nil && j.ownerOf(j.sets[ref.UID].ReplicaSet) == e {
			j.failed(e, "%s begins while %s is there, being deleted since %v; its ReplicaSet waits for %d", s.Name, p.Name, p.DeletionTimestamp,
				ptr.Deref(j.sets[ref.UID].Status.TerminatingReplicas, 0))
			return
		}
	}
}

// victim judges whom the ReplicaSet controller has chosen: none that serves while there is one that does not. So many are
// to go as well.
func (j *judge) victim(e *episode, s *set, chosen *corev1.Pod, others int) {
	j.seen["victims"]++
	var idle []string
	for _, p := range j.pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref != nil && ref.UID == s.UID && isActive(p) && !api.PodReady(p) && unreadyFor(p) > calm {
			idle = append(idle, p.Name)
		}
	}
	if len(idle) > others {
		j.failed(e, "%s goes, which serves, while %v do not", chosen.Name, idle)
	}
}

func unreadyFor(p *corev1.Pod) time.Duration {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && p.Spec.NodeName != "" {
			return time.Since(c.LastTransitionTime.Time)
		}
	}
	return time.Since(p.CreationTimestamp.Time)
}

// bound judges a binding: it is the only one of the pod, and the node has room.
func (j *judge) bound(p, old *corev1.Pod) {
	if old == nil || old.Spec.NodeName == p.Spec.NodeName {
		return
	}
	if j.seen["bindings"]++; old.Spec.NodeName != "" {
		j.t.Errorf("%s was on %s and is bound to %s", p.Name, old.Spec.NodeName, p.Spec.NodeName)
	}
	node := j.nodes[p.Spec.NodeName]
	if node == nil {
		return // it went at the same moment
	}
	var memory int64
	for _, other := range j.pods {
		if other.Spec.NodeName == node.Name && !api.PodFinished(other) {
			_, m := api.PodRequests(other)
			memory += m.Value()
		}
	}
	if room := node.Status.Allocatable.Memory().Value(); memory > room {
		j.t.Errorf("%s is bound to %s, where pods ask for %d bytes of %d", p.Name, node.Name, memory, room)
	}
}
