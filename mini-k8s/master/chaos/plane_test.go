// Package chaos tests the control plane as a whole, with hollow nodes, in a bubble of testing/synctest: what it does while
// parts of it fail (chaos_test.go), after a crash between any two writes (crash_test.go), and when there is nothing to do
// (idle_test.go).
package chaos

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/controllers/autoscaler"
	"workshop/mini-k8s/master/controllers/deployment"
	"workshop/mini-k8s/master/controllers/endpoints"
	"workshop/mini-k8s/master/controllers/garbage"
	"workshop/mini-k8s/master/controllers/namespace"
	"workshop/mini-k8s/master/controllers/node"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/master/scheduler"
	"workshop/mini-k8s/worker/kubelet"
	"workshop/mini-k8s/worker/runtime"
)

type run = func(context.Context) error

// loops are those of the control plane, by the names under which they write.
var loops = map[string]func(control.Deps) run{
	"scheduler":                 func(d control.Deps) run { return scheduler.New(d).Run },
	"replicaset-controller":     func(d control.Deps) run { return replicaset.New(d).Run },
	"deployment-controller":     func(d control.Deps) run { return deployment.New(d).Run },
	"endpoints-controller":      func(d control.Deps) run { return endpoints.New(d).Run },
	"garbage-collector":         func(d control.Deps) run { return garbage.New(d).Run },
	"namespace-controller":      func(d control.Deps) run { return namespace.New(d, []byte("certificate")).Run },
	"horizontal-pod-autoscaler": func(d control.Deps) run { return autoscaler.New(d).Run },
	"node-controller": func(d control.Deps) run {
		return node.New(d, node.Config{ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeBits: 24}).Run
	},
}

// plane is a control plane whose parts start and stop one by one, with its nodes.
type plane struct {
	bench    *mastertest.Bench
	deps     control.Deps
	stopDeps func()
	running  map[string]func() // stop a loop, by name
	machines map[string]*machine
}

// machine is a node. It is silent while stop is nil.
type machine struct {
	config  kubelet.Config
	podCIDR atomic.Pointer[string]
	stop    func()
}

// newPlane runs all loops, and as many nodes.
func newPlane(bench *mastertest.Bench, nodes int) *plane {
	p := &plane{bench: bench, running: map[string]func(){}, machines: map[string]*machine{}}
	p.startMaster()
	for i := range nodes {
		m := &machine{}
		m.config = kubelet.Config{Node: fmt.Sprintf("node-%d", i+1), Address: "127.0.0.1", Port: int32(10250 + i), Client: bench.Loops()}
		p.machines[m.config.Node] = m
		m.build()
		m.start(bench)
	}
	return p
}

func (p *plane) startMaster() {
	p.deps = control.NewDeps(p.bench.Loops(), "master")
	p.stopDeps = p.bench.Start(p.deps.Run)
	for name := range loops {
		p.start(name)
	}
}

func (p *plane) start(name string) {
	if p.running[name] == nil {
		p.running[name] = p.bench.Start(loops[name](p.deps))
	}
}

// stop returns when what the loop has asked for last is done: no process begins so soon that it comes between.
func (p *plane) stop(name string) {
	if stop := p.running[name]; stop != nil {
		stop()
		delete(p.running, name)
		time.Sleep(time.Millisecond)
	}
}

// restartMaster is what a new process is: all loops anew, with caches of their own.
func (p *plane) restartMaster() {
	for name := range loops {
		p.stop(name)
	}
	p.stopDeps()
	p.startMaster()
}

// build gives a machine a runtime that holds nothing, as one has that was switched off.
func (m *machine) build() {
	m.podCIDR.Store(new(string))
	m.config.Runtime = runtime.NewHollow(runtime.HollowOptions{PodCIDR: func() string { return *m.podCIDR.Load() }})
}

func (m *machine) start(bench *mastertest.Bench) {
	entry := kubelet.NewNode(m.config, func() (bool, string) { return *m.podCIDR.Load() != "", "waiting for addresses" })
	m.stop = bench.Start(func(ctx context.Context) error {
		return control.Run(ctx,
			control.Component{Name: "node", Run: entry.Run},
			control.Component{Name: "kubelet", Run: func(ctx context.Context) error {
				podCIDR, err := entry.PodCIDR(ctx)
				if err != nil {
					return err
				}
				m.podCIDR.Store(&podCIDR)
				entry.Refresh()
				return kubelet.New(m.config).Run(ctx)
			}})
	})
}

func (m *machine) kill() {
	if m.stop != nil {
		m.stop()
		m.stop = nil
	}
}
