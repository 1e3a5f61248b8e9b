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
	"strconv"
	"sync"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/worker/kubelet"
	"workshop/mini-k8s/worker/network"
	"workshop/mini-k8s/worker/runtime"

	docker "github.com/docker/docker/client"
)

// shutdownTimeout is how long requests have to end when the worker does.
const shutdownTimeout = 5 * time.Second

// Config says what a worker is and whom it works for.
type Config struct {
	Cluster string
	Node    string
	Address string // of this machine, under which the master reaches it
	Client  *client.Client
	TLS     *tls.Config // of the kubelet's server: who may ask shows a certificate of the cluster
	// Docker runs the pods; nil for hollow pods, which only say that they run.
	Docker      *docker.Client
	ClusterCIDR string
	Labels      map[string]string // of the node
}

// Worker is a node.
type Worker struct {
	Config
	listener net.Listener
	node     *kubelet.Node
	kubelet  *kubelet.Kubelet

	mu     sync.Mutex // guards below
	podNet string     // the node's range, once it is known
	ready  bool
	why    string // not ready
}

// New opens the kubelet's port; nothing runs until Run. The caller must call Run or Close.
func New(config Config) (*Worker, error) {
	w := &Worker{Config: config, why: "waiting for the master to give a range of pod addresses"}
	var err error
	if w.listener, err = net.Listen("tcp", net.JoinHostPort(config.Address, "0")); err != nil {
		return nil, fmt.Errorf("open the kubelet's port on %s: %w", config.Address, err)
	}
	_, port, _ := net.SplitHostPort(w.listener.Addr().String())
	number, _ := strconv.ParseInt(port, 10, 32)
	parts := kubelet.Config{Node: config.Node, Address: config.Address, Port: int32(number), Client: config.Client, Runtime: w.runtime()}
	w.node, w.kubelet = kubelet.NewNode(parts, w.isReady), kubelet.New(parts)
	w.node.Labels = config.Labels
	return w, nil
}

// Close gives the port back, for a worker that does not run.
func (w *Worker) Close() error { return w.listener.Close() }

// Port returns the kubelet's port, which the node tells in its status.
func (w *Worker) Port() int32 { return w.kubelet.Port }

func (w *Worker) runtime() runtime.Runtime {
	if w.Docker == nil {
		return runtime.NewHollow(runtime.HollowOptions{PodCIDR: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.podNet
		}})
	}
	return runtime.NewDocker(w.Docker, runtime.Options{Cluster: w.Cluster, Node: w.Node, Network: network.Name(w.Cluster, w.Node)})
}

// Run runs the node until the context ends. Its pods run on.
func (w *Worker) Run(ctx context.Context) error {
	return control.Run(ctx,
		control.Component{Name: "node", Run: w.node.Run},
		control.Component{Name: "kubelet server", Run: w.serve},
		control.Component{Name: "kubelet", Run: func(ctx context.Context) error {
			if err := w.prepare(ctx); err != nil {
				return err
			}
			return w.kubelet.Run(ctx)
		}},
	)
}

// prepare makes everything that pods need, and says that the node is ready.
func (w *Worker) prepare(ctx context.Context) error {
	podCIDR, err := w.node.PodCIDR(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.podNet = podCIDR
	w.mu.Unlock()
	if w.Docker != nil {
		if err := images.Ensure(ctx, w.Docker, images.All()...); err != nil {
			return err
		}
		_, err := network.Ensure(ctx, w.Docker, network.Config{Cluster: w.Cluster, Node: w.Node, PodCIDR: podCIDR, ClusterCIDR: w.ClusterCIDR})
		if errors.Is(err, network.ErrSameNodeOnly) {
			slog.Warn("the pod network is incomplete", "node", w.Node, "reason", err)
		} else if err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.ready = true
	w.mu.Unlock()
	w.node.Refresh()
	return nil
}

func (w *Worker) isReady() (bool, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready, w.why
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
	server := &http.Server{Handler: w.kubelet.Handler(allowed), TLSConfig: w.TLS, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if server.Shutdown(timeout) != nil {
			server.Close()
		}
	})
	if err := server.ServeTLS(w.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}
