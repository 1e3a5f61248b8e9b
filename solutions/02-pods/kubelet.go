// Package kubelet runs the pods that are bound to one node: it compares what the API server wants with what the
// container runtime has, does what is missing, and reports what it sees.
//
// Invariants:
//  1. What to do is decided anew each time, from the pod, the containers that are there and the time. A pod's status
//     is the memory of what was there before. What else is remembered can be lost: after a kill -9 the next kubelet
//     goes on with the same containers.
//  2. A pod is looked at by one worker at a time, and no look waits for a container to stop or to answer.
//  3. The status in the API server is the kubelet's alone to write, and it is written only when it changes.
//  4. A container whose pod is not in the API server is removed, but only after the API server has told all its pods.
//
// In Kubernetes: pkg/kubelet. Its pod workers, PLEG (pod lifecycle event generator), volume manager and eviction manager are
// what here is one loop; its probe manager is what here are the probers.
package kubelet

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	workers = 8
	// resync is how often every pod is looked at though nothing was heard of it.
	resync = time.Minute
)

// Config is what a kubelet is made of.
type Config struct {
	Node    string
	Address string         // under which the API server and others reach the node
	Port    int32          // of the kubelet's own server, see Handler
	Client  *client.Client // nil for a kubelet with no API server, which has nothing but static pods
	Runtime runtime.Runtime
	Check   Check // how probes and hooks ask containers; nil for really asking
	// Dir is where the files of the pods are; with none they get no volumes, as with a runtime that has no containers.
	Dir volumes.Dir
	// Services are those that containers are told of in their environment; nil for none.
	Services *control.Objects[*corev1.Service]
	// Manifests is a directory whose files tell of static pods; "" for none.
	Manifests string
}

// Kubelet runs the pods of a node.
type Kubelet struct {
	Config
	events *control.Events
	pods   *control.Informer[*corev1.Pod]
	client objects
	queue  *control.Queue
	memory sync.Map // of types.UID to *memory
	alone  bool     // there is no API server

	static    static
	manifests map[string]manifest // by file; it belongs to who reads them

	admission sync.Mutex          // held while a pod is judged: two must not take the same room
	room      corev1.ResourceList // of the node, set before it judges
	samples   atomic.Value        // map[string]between by the container's ID; what is in it is replaced, never changed
	probing   sync.WaitGroup      // the probers
}

// New returns a kubelet that does nothing until Run.
func New(config Config) *Kubelet {
	alone := config.Client == nil
	if alone { // one in which nothing is found
		config.Client = client.New(client.Config{Transport: client.InMemory(http.NotFoundHandler())})
	}
	config.Client = config.Client.Named("kubelet")
	pods := client.Of[*corev1.Pod](config.Client)
	k := &Kubelet{
		Config: config, alone: alone, static: static{pods: map[types.UID]*corev1.Pod{}}, events: control.NewEvents(config.Client, "kubelet", config.Node),
		pods:  control.NewInformer(pods, client.Selection{Fields: "spec.nodeName=" + config.Node}),
		queue: control.NewQueue("kubelet"),
	}
	k.client = objects{pods, &k.static, k.queue.Add}
	if k.Check == nil {
		k.Check = k.askContainer
	}
	k.pods.Index("uid", func(p *corev1.Pod) []string { return []string{string(uidOf(p))} })
	return k
}

// Run runs the node's pods until the context ends. The containers stay.
func (k *Kubelet) Run(ctx context.Context) error {
	defer k.probing.Wait() // they end with the context of the look that has begun with them
	machine, err := k.Runtime.Machine(ctx)
	if err != nil {
		return err
	}
	k.room = roomOf(machine)
	components := []control.Component{
		{Name: "events", Run: k.events.Run},
		{Name: "runtime events", Run: k.watchRuntime},
		{Name: "resync", Run: k.lookAtAll},
		{Name: "workers", Run: k.work},
	}
	if !k.alone {
		components = append(components, control.Component{Name: "pods", Run: k.pods.Run})
	}
	return control.Run(ctx, components...)
}

// work looks at pods, from when all are known that are to run here: until then none is removed.
func (k *Kubelet) work(ctx context.Context) error {
	if !k.alone {
		if err := k.pods.WaitSynced(ctx); err != nil {
			return err
		}
	}
	if err := k.readManifests(); err != nil {
		return err
	}
	k.pods.Subscribe(ctx, func(old, pod *corev1.Pod) {
		if pod == nil {
			pod = old
		}
		k.queue.Add(string(uidOf(pod)))
	})
	return control.Run(ctx,
		control.Component{Name: "manifests", Run: k.followManifests},
		control.Component{Name: "queue", Run: func(ctx context.Context) error {
			return k.queue.Run(ctx, workers, func(ctx context.Context, key string) error { return k.sync(ctx, types.UID(key)) })
		}},
	)
}

// watchRuntime has each pod looked at of which the runtime has something new.
func (k *Kubelet) watchRuntime(ctx context.Context) error {
	for uid := range k.Runtime.Events(ctx) {
		k.queue.Add(string(uid))
	}
	return ctx.Err()
}

func (k *Kubelet) lookAtAll(ctx context.Context) error {
	for ctx.Err() == nil {
		k.Resync(ctx)
		control.Sleep(ctx, resync)
	}
	return ctx.Err()
}

// Resync has every pod looked at that either side knows: now and then, and when the caller has changed what they stand on.
func (k *Kubelet) Resync(ctx context.Context) {
	for _, pod := range k.all() {
		k.queue.Add(string(pod.UID))
	}
	actual, err := k.Runtime.Pods(ctx)
	if err != nil && ctx.Err() == nil {
		slog.Warn("cannot list the node's containers", "node", k.Node, "reason", err)
	}
	for _, pod := range actual {
		k.queue.Add(string(pod.UID))
	}
	for _, uid := range k.Dir.Pods() { // of which there may be no more than their files
		k.queue.Add(string(uid))
	}
}
