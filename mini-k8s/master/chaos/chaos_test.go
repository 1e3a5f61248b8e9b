package chaos

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var (
	seedFlag = flag.Uint64("seed", 0, "of the one run of chaos; 0 for others each time")
	longFlag = flag.Duration("chaos", 2*time.Second, "for how long runs of chaos begin")
)

// TestChaos lets a run of random operations and faults loose on the control plane, and one more as long as there is time.
func TestChaos(t *testing.T) {
	for start, seed := time.Now(), cmpOr(*seedFlag); !t.Failed() && (time.Since(start) < *longFlag); seed = cmpOr(*seedFlag) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) { newStorm(t, bench, seed).run() })
		})
		if *seedFlag != 0 {
			break
		}
	}
}

func cmpOr(seed uint64) uint64 {
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	return seed
}

const (
	apps  = 3
	nodes = 5
	steps = 60
	team  = "team" // a namespace that comes and goes
)

// storm is one run.
type storm struct {
	*plane
	t      *testing.T
	random *rand.Rand
	faults *faults
	judge  *judge
}

func newStorm(t *testing.T, bench *mastertest.Bench, seed uint64) *storm {
	s := &storm{t: t, random: rand.New(rand.NewPCG(seed, 1)), faults: &faults{random: rand.New(rand.NewPCG(seed, 2))}}
	bench.Wire.Intercept(s.faults.carry)
	s.judge = follow(bench, t)
	s.plane = newPlane(bench, nodes)
	time.Sleep(10 * time.Second)
	for i := range apps {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app(i)},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": app(i)}, Ports: []corev1.ServicePort{{Port: 80}}}}
		mastertest.Create(t, bench.Client, service)
		s.create()
	}
	return s
}

func app(i int) string { return fmt.Sprint("app-", i) }

// run does random operations, then lets all be well again and looks at what has become of it.
func (s *storm) run() {
	s.faults.set(true)
	operations := s.operations()
	for range steps {
		i := s.random.IntN(len(operations))
		s.logf("%s", operations[i].name)
		operations[i].do()
		time.Sleep(s.pause())
		if s.t.Failed() {
			return
		}
	}
	s.calmDown()
	s.settle()
	s.idle()
	s.t.Log(s.judge.seen)
}

func (s *storm) logf(format string, args ...any) {
	if testing.Verbose() {
		s.t.Logf(time.Now().Format("15:04:05.000 ")+format, args...)
	}
}

// pause is mostly short, so that operations meet.
func (s *storm) pause() time.Duration {
	switch n := s.random.IntN(100); {
	case n < 50:
		return time.Duration(s.random.IntN(300)) * time.Millisecond
	case n < 80:
		return time.Duration(s.random.IntN(8000)) * time.Millisecond
	}
	return time.Duration(20+s.random.IntN(50)) * time.Second
}

type operation struct {
	name string
	do   func()
}

// operations are what people do and what happens to them; those that come more often stand there more often.
func (s *storm) operations() (all []operation) {
	for _, o := range []struct {
		weight int
		operation
	}{
		{5, operation{"create", s.create}},
		{1, operation{"delete", s.delete}},
		{6, operation{"scale", s.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = int32(s.random.IntN(7)) })}},
		{10, operation{"image", s.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = s.image() })}},
		{1, operation{"pause", s.change(func(d *appsv1.Deployment) { d.Spec.Paused = true })}},
		{2, operation{"resume", s.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })}},
		{2, operation{"undo", s.undo}},
		{2, operation{"lose a pod", s.losePod}},
		{2, operation{"kill a node", s.killNode}},
		{3, operation{"revive a node", s.reviveNode}},
		{3, operation{"stop a loop", func() { s.stop(s.anyLoop()) }}},
		{8, operation{"start the loops", s.startLoops}},
		{1, operation{"restart the master", s.restartMaster}},
		{1, operation{"a namespace", s.namespace}},
		{2, operation{"faults on", func() { s.faults.set(true) }}},
		{2, operation{"faults off", func() { s.faults.set(false) }}},
	} {
		for range o.weight {
			all = append(all, o.operation)
		}
	}
	return all
}

func (s *storm) image() string {
	if s.random.IntN(8) == 0 {
		return "hello:does-not-exist"
	}
	return fmt.Sprint("hello:", s.random.IntN(4))
}

func (s *storm) anyLoop() string {
	return slices.Sorted(maps.Keys(loops))[s.random.IntN(len(loops))]
}

func (s *storm) create() {
	d := mastertest.Deployment(app(s.random.IntN(apps)), int32(s.random.IntN(7)), s.image())
	surge, unavailable := s.random.IntN(4), s.random.IntN(3)
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(max(unavailable, 1-surge)))}}
	if s.random.IntN(5) == 0 {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	d.Spec.MinReadySeconds = []int32{0, 0, 5}[s.random.IntN(3)]
	d.Spec.RevisionHistoryLimit = ptr.To(int32(s.random.IntN(4)))
	d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
	_, err := client.Of[*appsv1.Deployment](s.bench.Client).Create(s.t.Context(), d)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		s.t.Error(err)
	}
}

// find returns one of the Deployments, if there is that one now.
func (s *storm) find() (*appsv1.Deployment, bool) {
	return mastertest.Find[*appsv1.Deployment](s.t, s.bench.Client, "default", app(s.random.IntN(apps)))
}

func (s *storm) delete() {
	if d, ok := s.find(); ok {
		s.logf("  %s", d.Name)
		mastertest.Delete[*appsv1.Deployment](s.t, s.bench.Client, d.Namespace, d.Name,
			[]metav1.DeletionPropagation{"", metav1.DeletePropagationForeground}[s.random.IntN(2)])
	}
}

func (s *storm) change(how func(*appsv1.Deployment)) func() {
	return func() {
		if d, ok := s.find(); ok {
			s.update(d.Name, how)
		}
	}
}

// update is mastertest.Change for a Deployment that may go meanwhile.
func (s *storm) update(name string, how func(*appsv1.Deployment)) {
	deployments := client.Of[*appsv1.Deployment](s.bench.Client)
	for {
		d, err := deployments.Get(s.t.Context(), "default", name)
		if err == nil {
			how(d)
			s.logf("  %s: %d of %s, paused: %v", name, *d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image, d.Spec.Paused)
			_, err = deployments.Update(s.t.Context(), d)
		}
		if err == nil || apierrors.IsNotFound(err) {
			return
		}
		if !apierrors.IsConflict(err) {
			s.t.Error(err)
			return
		}
	}
}

// undo is `kubectl rollout undo --to-revision`.
func (s *storm) undo() {
	d, ok := s.find()
	if !ok {
		return
	}
	sets := slices.DeleteFunc(mastertest.List[*appsv1.ReplicaSet](s.t, s.bench.Client), func(rs *appsv1.ReplicaSet) bool { return !metav1.IsControlledBy(rs, d) })
	if len(sets) == 0 {
		return
	}
	template := sets[s.random.IntN(len(sets))].Spec.Template.DeepCopy()
	delete(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	s.update(d.Name, func(d *appsv1.Deployment) { d.Spec.Template = *template })
}

func (s *storm) losePod() {
	pods := mastertest.List[*corev1.Pod](s.t, s.bench.Client)
	if len(pods) > 0 {
		p := pods[s.random.IntN(len(pods))]
		s.logf("  %s", p.Name)
		client.Of[*corev1.Pod](s.bench.Client).Delete(s.t.Context(), p.Namespace, p.Name, metav1.DeleteOptions{}) // it may have gone
	}
}

func (s *storm) anyMachine() *machine {
	return s.machines[slices.Sorted(maps.Keys(s.machines))[s.random.IntN(len(s.machines))]]
}

func (s *storm) killNode() {
	m := s.anyMachine()
	s.logf("  %s", m.config.Node)
	m.kill()
}

// reviveNode brings one back that is silent: cut off until now, or switched off.
func (s *storm) reviveNode() {
	if m := s.anyMachine(); m.stop == nil {
		if s.random.IntN(2) == 0 {
			m.build()
		}
		s.logf("  %s", m.config.Node)
		m.start(s.bench)
	}
}

func (s *storm) startLoops() {
	for name := range loops {
		s.start(name)
	}
}

// namespace makes one with something in it, or asks for it to go.
func (s *storm) namespace() {
	ns, ok := mastertest.Find[*corev1.Namespace](s.t, s.bench.Client, "", team)
	switch {
	case ok && ns.DeletionTimestamp == nil:
		mastertest.Delete[*corev1.Namespace](s.t, s.bench.Client, "", team, "")
	case !ok:
		mastertest.Create(s.t, s.bench.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team}})
		d := mastertest.Deployment("guest", 2, "hello:1")
		d.Namespace = team
		mastertest.Create(s.t, s.bench.Client, d)
	}
}

// calmDown ends the faults, and whatever keeps a Deployment from being complete. Of the silent nodes some never come back.
func (s *storm) calmDown() {
	s.logf("calming down")
	s.faults.set(false)
	s.startLoops()
	for i := range apps {
		s.update(app(i), func(d *appsv1.Deployment) {
			d.Spec.Paused = false
			if strings.Contains(d.Spec.Template.Spec.Containers[0].Image, "not") {
				d.Spec.Template.Spec.Containers[0].Image = "hello:1"
			}
		})
	}
	gone := 0
	for _, name := range slices.Sorted(maps.Keys(s.machines)) {
		switch m := s.machines[name]; {
		case m.stop != nil:
		case gone == 0 && s.random.IntN(2) == 0:
			gone++
			s.logf("  %s is gone", name)
			mastertest.Delete[*corev1.Node](s.t, s.bench.Client, "", name, "")
			delete(s.machines, name)
		default:
			m.start(s.bench)
		}
	}
	if ns, ok := mastertest.Find[*corev1.Namespace](s.t, s.bench.Client, "", team); ok && ns.DeletionTimestamp == nil {
		mastertest.Delete[*corev1.Namespace](s.t, s.bench.Client, "", team, "")
	}
}

// settle waits until all is as it was asked for.
func (s *storm) settle() {
	const patience = 15 * time.Minute
	var wrong []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Second) {
		if wrong = s.unsettled(); len(wrong) == 0 {
			return
		}
	}
	s.t.Errorf("after %s: %s", patience, strings.Join(wrong, "\n  "))
}

// unsettled returns what is not as it was asked for.
func (s *storm) unsettled() (wrong []string) {
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	t, c := s.t, s.bench.Client
	owners := map[string]bool{"": true}
	ready := map[string][]string{} // addresses of the pods that serve, by app
	for _, node := range mastertest.List[*corev1.Node](t, c) {
		if s.machines[node.Name] == nil || len(node.Spec.Taints) > 0 {
			note("node %s: taints %v", node.Name, node.Spec.Taints)
		}
	}
	for _, d := range mastertest.List[*appsv1.Deployment](t, c) {
		owners[string(d.UID)] = true
		if want, st := *d.Spec.Replicas, d.Status; st.ObservedGeneration != d.Generation || st.Replicas != want || st.UpdatedReplicas != want ||
			st.AvailableReplicas != want || d.DeletionTimestamp != nil {
			note("deployment %s: %d wanted, generation %d: %+v", d.Name, want, d.Generation, st)
		}
	}
	for _, rs := range mastertest.List[*appsv1.ReplicaSet](t, c) {
		owners[string(rs.UID)] = true
		if !owners[ownerOf(rs)] {
			note("replicaset %s has no owner", rs.Name)
		}
	}
	for _, p := range mastertest.List[*corev1.Pod](t, c) {
		if !owners[ownerOf(p)] {
			note("pod %s has no owner", p.Name)
		}
		if s.machines[p.Spec.NodeName] == nil || !api.PodReady(p) || p.DeletionTimestamp != nil {
			note("pod %s on %q: %s, since %v", p.Name, p.Spec.NodeName, p.Status.Phase, p.DeletionTimestamp)
		}
		ready[p.Labels["app"]] = append(ready[p.Labels["app"]], p.Status.PodIP)
	}
	for _, service := range mastertest.List[*corev1.Service](t, c) {
		owners[string(service.UID)] = true
	}
	for _, e := range mastertest.List[*corev1.Endpoints](t, c) {
		addresses := []string{}
		for _, subset := range e.Subsets {
			for _, a := range subset.Addresses {
				addresses = append(addresses, a.IP)
			}
		}
		if got, want := sorted(addresses), sorted(ready[e.Name]); got != want || !owners[ownerOf(e)] {
			note("endpoints %s: %s, want %s", e.Name, got, want)
		}
	}
	for _, slice := range mastertest.List[*discoveryv1.EndpointSlice](t, c) {
		addresses := []string{}
		for _, endpoint := range slice.Endpoints {
			addresses = append(addresses, endpoint.Addresses...)
		}
		name := slice.Labels[discoveryv1.LabelServiceName]
		if got, want := sorted(addresses), sorted(ready[name]); got != want || !owners[ownerOf(slice)] {
			note("endpoint slice %s: %s, want %s", slice.Name, got, want)
		}
	}
	if _, ok := mastertest.Find[*corev1.Namespace](t, c, "", team); ok {
		note("namespace %s is still there", team)
	}
	return wrong
}

func ownerOf(o metav1.Object) string {
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return string(ref.UID)
	}
	return ""
}

func sorted(all []string) string { return fmt.Sprint(slices.Sorted(slices.Values(all))) }

// idle lets time pass, in which nobody writes anything but heartbeats and what has expired.
func (s *storm) idle() {
	time.Sleep(30 * time.Second)
	before := len(s.writes())
	time.Sleep(s.quiet())
	if writes := s.writes()[before:]; len(writes) > 0 {
		s.t.Errorf("%d writes when all was done: %v", len(writes), writes[:min(10, len(writes))])
	}
}

func (s *storm) writes() []string {
	return slices.DeleteFunc(s.bench.Wire.Writes("/leases/"), func(w string) bool { return strings.HasPrefix(w, "DELETE") && strings.Contains(w, "/events/") })
}

// quiet is how long that is: an hour when there is time, for each heartbeat is a write to the disk.
func (s *storm) quiet() time.Duration {
	if long() || *seedFlag != 0 {
		return time.Hour
	}
	return 5 * time.Minute
}

// long reports whether there is time.
func long() bool { return *longFlag >= time.Minute }
