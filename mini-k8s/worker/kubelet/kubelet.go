// Package kubelet runs the pods that are bound to one node: it compares what the API server wants with what the
// container runtime has, does what is missing, and reports what it sees.
//
// Invariants:
//  1. What to do is decided anew each time, from the pod, the containers that are there and the time. Little is
//     remembered, and nothing that is needed: after a kill -9 the next kubelet goes on with the same containers.
//  2. A pod is looked at by one worker at a time, and no look waits for a container to stop.
//  3. The status in the API server is the kubelet's alone to write, and it is written only when it changes.
//  4. A container whose pod is not in the API server is removed, but only after the API server has told all its pods.
//
// In Kubernetes: pkg/kubelet. Its pod workers, PLEG (pod lifecycle event generator), probe manager, volume manager and
// eviction manager are what here is one loop; it can also run pods from files.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	workers = 8
	// resync is how often every pod is looked at though nothing was heard of it.
	resync = time.Minute
	// maxRounds bounds how often one look plans again after it has done something: remove what is left of a pod,
	// start it anew, see that it runs.
	maxRounds = 3
)

// Config is what a kubelet is made of.
type Config struct {
	Node    string
	Address string // under which the API server and others reach the node
	Port    int32  // of the kubelet's own server, see Handler
	Client  *client.Client
	Runtime runtime.Runtime
}

// Kubelet runs the pods of a node.
type Kubelet struct {
	Config
	events *control.Events
	pods   *control.Informer[*corev1.Pod]
	client client.Resource[*corev1.Pod]
	queue  *control.Queue
	mu     sync.Mutex // guards memory
	memory map[types.UID]*memory
}

// New returns a kubelet that does nothing until Run.
func New(config Config) *Kubelet {
	config.Client = config.Client.Named("kubelet")
	pods := client.Of[*corev1.Pod](config.Client)
	k := &Kubelet{
		Config: config, client: pods, events: control.NewEvents(config.Client, "kubelet", config.Node),
		pods:  control.NewInformer(pods, client.Selection{Fields: "spec.nodeName=" + config.Node}),
		queue: control.NewQueue("kubelet"), memory: map[types.UID]*memory{},
	}
	k.pods.Index("uid", func(p *corev1.Pod) []string { return []string{string(p.UID)} })
	return k
}

// Run runs the node's pods until the context ends. The containers stay.
func (k *Kubelet) Run(ctx context.Context) error {
	return control.Run(ctx,
		control.Component{Name: "pods", Run: k.pods.Run},
		control.Component{Name: "events", Run: k.events.Run},
		control.Component{Name: "sync", Run: k.runPods},
	)
}

// runPods looks at a pod whenever the API server or the runtime has something new of it, and now and then anyway.
func (k *Kubelet) runPods(ctx context.Context) error {
	if err := k.pods.WaitSynced(ctx); err != nil {
		return err
	}
	k.pods.Subscribe(ctx, func(old, pod *corev1.Pod) {
		if pod == nil {
			pod = old
		}
		k.queue.Add(string(pod.UID))
	})
	return control.Run(ctx,
		control.Component{Name: "runtime events", Run: func(ctx context.Context) error {
			for uid := range k.Runtime.Events(ctx) {
				k.queue.Add(string(uid))
			}
			<-ctx.Done()
			return ctx.Err()
		}},
		control.Component{Name: "resync", Run: func(ctx context.Context) error {
			for ctx.Err() == nil {
				k.lookAtAll(ctx)
				control.Sleep(ctx, resync)
			}
			return ctx.Err()
		}},
		control.Component{Name: "workers", Run: func(ctx context.Context) error {
			return k.queue.Run(ctx, workers, func(ctx context.Context, key string) error { return k.sync(ctx, types.UID(key)) })
		}},
	)
}

// lookAtAll puts every pod into the queue that either side knows.
func (k *Kubelet) lookAtAll(ctx context.Context) {
	for _, pod := range k.pods.List() {
		k.queue.Add(string(pod.UID))
	}
	actual, err := k.Runtime.Pods(ctx)
	if err != nil && ctx.Err() == nil {
		slog.Warn("cannot list the node's containers", "node", k.Node, "reason", err)
	}
	for _, pod := range actual {
		k.queue.Add(string(pod.UID))
	}
}

// sync brings one pod nearer to what it should be, and reports how it is.
func (k *Kubelet) sync(ctx context.Context, uid types.UID) error {
	found := k.pods.ByIndex("uid", string(uid))
	if len(found) == 0 {
		k.forget(uid)
		return k.Runtime.RemovePod(ctx, uid)
	}
	pod := found[0]
	actual, err := k.Runtime.Pod(ctx, uid)
	if err != nil {
		return err
	}
	m := k.remember(pod)
	now := time.Now()
	view := withLost(pod, actual, m.status, now)
	steps, again := plan(pod, view, m, now)
	var failure error
	for round := 0; len(steps) > 0 && failure == nil && round < maxRounds; round++ {
		failure = k.carryOut(ctx, pod, view, m, steps)
		if actual, err = k.Runtime.Pod(ctx, uid); err != nil {
			return err
		}
		now = time.Now()
		view = withLost(pod, actual, m.status, now)
		steps, again = plan(pod, view, m, now)
	}
	if again > 0 {
		k.queue.AddAfter(string(uid), again)
	}
	if pod.DeletionTimestamp != nil && view.Sandbox == nil && len(view.Containers) == 0 {
		return k.confirmDeletion(ctx, pod)
	}
	if err := k.report(ctx, pod, view, m); err != nil {
		return err
	}
	return failure
}

// report writes the pod's status if it differs from the last one written, or somebody else has written another.
func (k *Kubelet) report(ctx context.Context, pod *corev1.Pod, actual view, m *memory) error {
	status := statusOf(pod, actual, m, k.Address)
	same := equality.Semantic.DeepEqual
	if same(status, m.status) && (same(status, pod.Status) || control.Revision(pod.ResourceVersion) < m.written) {
		return nil // shown already, or it will be: what we look at is older than what we wrote
	}
	changed := pod.DeepCopy()
	changed.Status = status
	changed.ResourceVersion = "" // whatever else changed in the pod: its status is ours
	written, err := k.client.UpdateStatus(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil // the pod is gone: the watch will say so
	}
	if err != nil { // a conflict, too: others are writing it over and over, or another pod has its name
		return fmt.Errorf("report status: %w", err)
	}
	if status.Phase != m.status.Phase {
		slog.Info("pod is "+string(status.Phase), "pod", control.Key(pod), "node", k.Node)
	}
	m.status, m.written = status, control.Revision(written.ResourceVersion)
	return nil
}

// confirmDeletion tells the API server that nothing of the pod is left, so that the object can go as well.
func (k *Kubelet) confirmDeletion(ctx context.Context, pod *corev1.Pod) error {
	options := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
	_, err := k.client.Delete(ctx, pod.Namespace, pod.Name, options)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // somebody else was faster
	}
	if err != nil {
		return fmt.Errorf("confirm the deletion: %w", err)
	}
	slog.Info("pod is gone", "pod", control.Key(pod), "node", k.Node)
	return nil
}

// memory is what the kubelet knows of a pod beside what it can look up. All of it can be lost. It belongs to the
// worker that is looking at the pod.
type memory struct {
	status    corev1.PodStatus   // the last one written, or the one that was found
	written   int64              // the revision that this made
	signalled map[string]signal  // the last signal to each container, by ID
	failed    map[string]failure // containers that could not be started, by name
}

// signal is one that was sent.
type signal struct {
	name string
	at   time.Time
}

// failure is why a container could not be started from an image, and when to try again.
type failure struct {
	image           string
	reason, message string
	count           int
	retry           time.Time
}

func (k *Kubelet) remember(pod *corev1.Pod) *memory {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.memory[pod.UID]
	if m == nil {
		m = &memory{status: pod.Status, signalled: map[string]signal{}, failed: map[string]failure{}}
		k.memory[pod.UID] = m
	}
	return m
}

func (k *Kubelet) forget(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.memory, uid)
}

// carryOut does the steps one after the other. A container that cannot be started is noted and tried again later;
// any other failure ends the look.
func (k *Kubelet) carryOut(ctx context.Context, pod *corev1.Pod, actual view, m *memory, steps []step) error {
	sandbox := actual.Sandbox
	for _, s := range steps {
		switch s.do {
		case startSandbox:
			started, err := k.Runtime.StartSandbox(ctx, pod)
			if err != nil {
				k.events.Warning(pod, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
				return fmt.Errorf("start the sandbox: %w", err)
			}
			sandbox = &started
			clear(m.failed) // in another sandbox it may work
		case removePod:
			if err := k.Runtime.RemovePod(ctx, pod.UID); err != nil {
				return err
			}
		case removeContainer:
			if err := k.Runtime.RemoveContainer(ctx, s.id); err != nil {
				return err
			}
		case terminate, kill:
			name := map[action]string{terminate: "SIGTERM", kill: "SIGKILL"}[s.do]
			if m.signalled[s.id].name == "" {
				k.events.Normal(pod, "Killing", "Stopping container %s", s.container.Name)
			}
			if err := k.Runtime.Signal(ctx, s.id, name); err != nil {
				return err
			}
			m.signalled[s.id] = signal{name, time.Now()}
		case startContainer:
			k.start(ctx, pod, *sandbox, m, s)
		}
	}
	return nil
}

// start starts one container and notes in m if that failed.
func (k *Kubelet) start(ctx context.Context, pod *corev1.Pod, sandbox runtime.Sandbox, m *memory, s step) {
	before := m.failed[s.container.Name]
	if before.image != s.container.Image {
		before.count = 0
	}
	reason, err := "ErrImagePull", k.Runtime.EnsureImage(ctx, s.container.Image, s.container.ImagePullPolicy)
	if errors.Is(err, runtime.ErrImageNotPresent) {
		reason = "ErrImageNeverPull"
	}
	if err == nil {
		reason = "CreateContainerError"
		var env []string
		if env, err = environment(pod, s.container, sandbox.IP, k.Address); err == nil {
			var id string
			if id, err = k.Runtime.StartContainer(ctx, sandbox, pod, specOf(s.container, s.attempt, env)); id != "" {
				reason = "RunContainerError"
			}
		}
	}
	if err == nil {
		delete(m.failed, s.container.Name)
		slog.Info("container started", "pod", control.Key(pod), "container", s.container.Name, "node", k.Node, "attempt", s.attempt)
		k.events.Normal(pod, "Started", "Started container %s", s.container.Name)
		return
	}
	if ctx.Err() != nil {
		return
	}
	f := failure{image: s.container.Image, reason: reason, message: err.Error(), count: before.count + 1}
	f.retry = time.Now().Add(restartDelay(f.count))
	m.failed[s.container.Name] = f
	slog.Warn("container does not start", "pod", control.Key(pod), "container", s.container.Name, "reason", err)
	k.events.Warning(pod, "Failed", "Error: %s: %v", reason, err)
}
