// Package worker assembles a node: its entry in the API server, its network, and the kubelet that runs its pods.
//
// Invariants:
//  1. A worker that stops leaves its containers running; the next one with the same name goes on with them.
//  2. The node is Ready only when a pod could start: with a range of addresses and a network.
//
// In Kubernetes: the kubelet, kube-proxy, a network plugin and a container runtime, each a process on its own.
package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker/dns"
	"workshop/mini-k8s/worker/kubelet"
	"workshop/mini-k8s/worker/network"
	"workshop/mini-k8s/worker/proxy"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	docker "github.com/docker/docker/client"
	corev1 "k8s.io/api/core/v1"
)

// Config says what a worker is and whom it works for.
type Config struct {
	Cluster string
	Node    string
	Address string         // of this machine, under which the master reaches it
	Client  *client.Client // nil for a worker that is alone: it runs the pods of Manifests and is asked by nobody
	TLS     *tls.Config    // of the kubelet's server: who may ask shows a certificate of the cluster
	// Docker runs the pods; nil for hollow pods, which only say that they run.
	Docker      *docker.Client
	ClusterCIDR string
	ServiceCIDR string
	Labels      map[string]string // of the node
	// Dir is where the files of the pods are, for as long as the pods. Docker must see it at the same place.
	Dir string
	// Manifests is a directory of files with pods that the node runs of its own accord; "" for none.
	Manifests string
}

// domain is the cluster's in DNS.
const domain = "cluster.local"

// Worker is a node.
type Worker struct {
	Config
	port    net.Listener
	deps    control.Deps // of what runs beside pods in Docker
	node    *kubelet.Node
	kubelet *kubelet.Kubelet
	podCIDR string // the node's range, set before the kubelet runs
	// networked says that packet rules can be set here, and so services be served. It is set with podCIDR.
	networked bool
	ready     atomic.Bool // all that pods need is there
}

// New opens the kubelet's port; nothing runs until Run, which closes it.
func New(config Config) (*Worker, error) {
	w := &Worker{Config: config}
	dir, err := filepath.Abs(w.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory for the files of the pods: %w", err)
	}
	parts := kubelet.Config{Node: w.Node, Address: w.Address, Client: w.Client, Runtime: w.runtime(), Manifests: w.Manifests}
	if w.Docker == nil {
		parts.Check = kubelet.AllIsWell
	} else {
		parts.Dir = volumes.Dir(dir)
	}
	if w.Client == nil {
		w.kubelet = kubelet.New(parts)
		return w, nil
	}
	if w.port, err = net.Listen("tcp", net.JoinHostPort(w.Address, "0")); err != nil {
		return nil, fmt.Errorf("open the kubelet's port on %s: %w", w.Address, err)
	}
	parts.Port = w.Port()
	if w.Docker != nil {
		w.deps = control.NewDeps(w.Client, "worker")
		parts.Services = control.Of[*corev1.Service](w.deps)
	}
	w.node, w.kubelet = kubelet.NewNode(parts, w.isReady), kubelet.New(parts)
	w.node.Labels = w.Labels
	return w, nil
}

func (w *Worker) runtime() runtime.Runtime {
	if w.Docker == nil {
		return runtime.NewHollow(runtime.HollowOptions{PodCIDR: func() string { return w.podCIDR }})
	}
	return runtime.NewDocker(w.Docker, runtime.Options{Cluster: w.Cluster, Node: w.Node, Network: network.Name(w.Cluster, w.Node), DNS: w.dns})
}

// dns returns where the node's pods ask for names: at the first address of their range, which is the bridge's.
func (w *Worker) dns() *runtime.DNS {
	prefix, err := netip.ParsePrefix(w.podCIDR)
	if err != nil || !w.networked {
		return nil
	}
	return &runtime.DNS{Server: prefix.Masked().Addr().Next().String(), Domain: domain}
}

// Port returns the kubelet's port, which the node tells in its status.
func (w *Worker) Port() int32 { return int32(w.port.Addr().(*net.TCPAddr).Port) }

// Run runs the node until the context ends. Its pods run on.
func (w *Worker) Run(ctx context.Context) error {
	pods := control.Component{Name: "kubelet", Run: func(ctx context.Context) error {
		if err := w.prepare(ctx); err != nil {
			return err
		}
		return w.runPods(ctx)
	}}
	if w.Client == nil {
		return control.Run(ctx, pods)
	}
	return control.Run(ctx, pods, control.Component{Name: "node", Run: w.node.Run}, control.Component{Name: "kubelet server", Run: w.serve})
}

// runPods runs the kubelet, with what makes services of pods.
func (w *Worker) runPods(ctx context.Context) error {
	pods := control.Component{Name: "kubelet", Run: w.kubelet.Run}
	caches := control.Component{Name: "shared caches", Run: w.deps.Run}
	switch {
	case w.Docker == nil:
		return w.kubelet.Run(ctx)
	case w.Client == nil:
		return control.Run(ctx, pods, control.Component{Name: "network", Run: w.keepNetwork})
	case !w.networked:
		return control.Run(ctx, caches, pods)
	}
	addressesOfPods, err1 := netip.ParsePrefix(w.ClusterCIDR)
	addresses, err2 := netip.ParsePrefix(w.ServiceCIDR)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("ranges of the cluster: %w", err)
	}
	server := w.dns().Server
	upstream, err := dns.Upstreams("/etc/resolv.conf", server)
	if err != nil {
		slog.Warn("pods can resolve the names of the cluster only", "node", w.Node, "reason", err)
	}
	names, err := dns.New(w.deps, dns.Config{Domain: domain, Listen: net.JoinHostPort(server, "53"), Upstream: upstream})
	if err != nil {
		return err
	}
	services := proxy.New(w.deps, proxy.Config{Table: network.Services(w.Cluster), ClusterCIDR: addressesOfPods, ServiceCIDR: addresses,
		Claim: network.Claim, ForgetUDP: network.ForgetUDP, Apply: func(ctx context.Context, script string) error {
			return errors.Join(network.AllowDetours(), network.Apply(ctx, script))
		}})
	return control.Run(ctx, caches, pods,
		control.Component{Name: "DNS", Run: names.Run},
		control.Component{Name: "proxy", Run: func(ctx context.Context) error {
			return w.alone(ctx, control.Component{Name: "services", Run: services.Run}, control.Component{Name: "network", Run: w.upkeep(w.deps).Run})
		}},
	)
}

// alone runs what one worker does for all of the cluster on this machine. When that one ends, another goes on.
func (w *Worker) alone(ctx context.Context, components ...control.Component) error {
	for ctx.Err() == nil {
		held, err := net.Listen("unix", "@"+network.Services(w.Cluster)) // a name that goes with its process
		if err == nil {
			defer held.Close()
			return control.Run(ctx, components...)
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("look after the services: %w", err)
		}
		control.Sleep(ctx, time.Second)
	}
	return ctx.Err()
}

// prepare makes everything that pods need, the images and the node's network, and says that the node is ready. A worker that
// is alone has a network, with nothing that makes names or services of pods.
func (w *Worker) prepare(ctx context.Context) (err error) {
	if w.Docker != nil {
		if err := images.Ensure(ctx, w.Docker, images.All()...); err != nil {
			return err
		}
	}
	switch {
	case w.Client != nil:
		w.podCIDR, err = w.node.PodCIDR(ctx)
	case w.Docker == nil:
		w.podCIDR = "10.244.0.0/24"
	default:
		defer network.TakeTurn(ctx)()
		w.podCIDR, err = network.RangeFor(ctx, w.Docker, w.Cluster, w.Node)
		w.ClusterCIDR = w.podCIDR
	}
	if err != nil {
		return err
	}
	if w.Docker != nil {
		w.networked = w.Client != nil && network.CanSetRules(w.Docker)
		if err := w.ensureNetwork(ctx); errors.Is(err, network.ErrSameNodeOnly) {
			slog.Warn("the pod network is incomplete", "node", w.Node, "reason", err)
		} else if err != nil {
			return err
		}
	}
	if w.ready.Store(true); w.node != nil {
		w.node.Refresh()
	}
	return nil
}

func (w *Worker) isReady() (bool, string) {
	return w.ready.Load(), "waiting for a range of pod addresses from the master, and for the network"
}

// serve answers the API server's questions. Only it and the admin may ask.
func (w *Worker) serve(ctx context.Context) error {
	allowed := func(r *http.Request) bool {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return false
		}
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		return name == "component:apiserver" || name == "admin"
	}
	return pki.Serve(ctx, w.port, w.TLS, w.kubelet.Handler(allowed))
}
