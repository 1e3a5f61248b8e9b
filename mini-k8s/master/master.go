// Package master assembles the control plane: the store, the API server over it, and the loops that act on what the
// API server holds. The loops know the API server only, through a client, and each other not at all.
//
// Invariants:
//  1. What was acknowledged to a client is in the store's file, whatever happens to this process.
//  2. Any loop can stop and start again while the rest runs: it finds out from the API server what there is to do.
//
// In Kubernetes: kube-apiserver, kube-scheduler, kube-controller-manager and etcd are processes of their own, often on
// machines of their own. Here they are goroutines, and one store is one SQLite file (several masters: lab 12).
package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/controllers/deployment"
	"workshop/mini-k8s/master/controllers/garbage"
	"workshop/mini-k8s/master/controllers/namespace"
	"workshop/mini-k8s/master/controllers/node"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/scheduler"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"
)

// Defaults of a master's Config.
const (
	DefaultListen      = "127.0.0.1:6443"
	DefaultClusterCIDR = "10.244.0.0/16"
	DefaultNodeBits    = 24
)

const (
	// history is how long changes can be watched from, and looked at, after they were made.
	history         = time.Hour
	compactEvery    = 5 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// Config says where a master keeps its state and where it is reached.
type Config struct {
	Name        string       // of the cluster
	Dir         string       // for the state: made if missing, readable by its owner only
	Listen      string       // address and port, DefaultListen if empty
	Listener    net.Listener // the API server's port, if it is open already: it becomes the master's
	Hosts       []string     // more names and addresses under which clients reach it
	ClusterCIDR netip.Prefix // DefaultClusterCIDR if zero
	NodeBits    int          // DefaultNodeBits if 0
	NodeGrace   time.Duration
}

// Master is a control plane.
type Master struct {
	Config
	CA       *pki.CA
	store    *store.SQLite
	server   *apiserver.Server
	listener net.Listener
	http     *http.Server
}

// New opens the state and the port; nothing is served until Run. The caller must call Run or Close.
func New(ctx context.Context, config Config) (*Master, error) {
	if config.Listen == "" {
		config.Listen = DefaultListen
	}
	if !config.ClusterCIDR.IsValid() {
		config.ClusterCIDR = netip.MustParsePrefix(DefaultClusterCIDR)
	}
	if config.NodeBits == 0 {
		config.NodeBits = DefaultNodeBits
	}
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for the state: %w", err)
	}
	ca, err := pki.LoadOrCreate(filepath.Join(config.Dir, "pki"))
	if err != nil {
		return nil, err
	}
	m := &Master{Config: config, CA: ca, listener: config.Listener}
	if m.listener == nil {
		m.listener, err = net.Listen("tcp", config.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("open the API server's port (choose another with --listen): %w", err)
	}
	if err := m.assemble(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// assemble puts the API server over the store and behind the port.
func (m *Master) assemble(ctx context.Context) error {
	var err error
	if m.store, err = store.OpenSQLite(filepath.Join(m.Dir, "state.db")); err != nil {
		return err
	}
	own, err := m.CA.Issue("component:apiserver", append([]string{"localhost", "127.0.0.1", hostOf(m.Listen)}, m.Hosts...)...)
	if err != nil {
		return err
	}
	toKubelets, err := pki.ClientTLS(m.CA.CertPEM, own)
	if err != nil {
		return err
	}
	m.server, err = apiserver.New(ctx, apiserver.Config{Store: m.store, CA: m.CA,
		Kubelet: &http.Client{Transport: &http.Transport{TLSClientConfig: toKubelets, TLSHandshakeTimeout: 10 * time.Second}}})
	if err != nil {
		return err
	}
	if err := m.publishInfo(ctx); err != nil {
		return err
	}
	serving, err := pki.ServerTLS(m.CA.CertPEM, own)
	if err != nil {
		return err
	}
	serving.NextProtos = []string{"h2", "http/1.1"}
	m.http = &http.Server{Handler: m.server.Handler(), TLSConfig: serving, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)}
	return nil
}

// Close gives the port and the state back, for a master that does not run.
func (m *Master) Close() error {
	var failures []error
	if m.listener != nil {
		failures = append(failures, m.listener.Close())
	}
	if m.store != nil {
		failures = append(failures, m.store.Close())
	}
	return errors.Join(failures...)
}

// URL returns where the API server is reached from this machine.
func (m *Master) URL() string { return "https://" + reachable(m.listener.Addr().String()) }

// JoinURL returns where workers on other machines reach the API server.
func (m *Master) JoinURL() string {
	host, port, _ := net.SplitHostPort(m.listener.Addr().String())
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() && len(m.Hosts) > 0 {
		host = m.Hosts[0]
	}
	return "https://" + net.JoinHostPort(host, port)
}

// Client returns a client for a user in this process. It needs no network, and works as soon as Run does.
func (m *Master) Client(user apiserver.User, name string) *client.Client {
	return client.New(client.Config{Server: "http://in-memory", Name: name, Transport: client.InMemory(m.server.As(user))})
}

// WriteKubeconfig writes what kubectl needs to be the admin.
func (m *Master) WriteKubeconfig(path string) error {
	pair, err := m.CA.Issue("admin")
	if err != nil {
		return err
	}
	return pki.Kubeconfig{Cluster: m.Name, Server: m.URL(), CAPEM: m.CA.CertPEM, User: "admin", Pair: pair}.Write(path)
}

// Run serves and runs all loops until the context ends, and closes what New opened.
func (m *Master) Run(ctx context.Context) error {
	deps := control.NewDeps(m.Client("component:master", "master"), "master")
	err := control.Run(ctx,
		control.Component{Name: "API server", Run: m.serve},
		control.Component{Name: "history", Run: m.compact},
		control.Component{Name: "shared caches", Run: deps.Run},
		control.Component{Name: "scheduler", Run: scheduler.New(deps).Run},
		control.Component{Name: "replicaset controller", Run: replicaset.New(deps).Run},
		control.Component{Name: "deployment controller", Run: deployment.New(deps).Run},
		control.Component{Name: "node controller", Run: node.New(deps, node.Config{
			ClusterCIDR: m.ClusterCIDR, NodeBits: m.NodeBits, Grace: m.NodeGrace}).Run},
		control.Component{Name: "garbage collector", Run: garbage.New(deps).Run},
		control.Component{Name: "namespace controller", Run: namespace.New(deps).Run},
	)
	return errors.Join(err, m.store.Close())
}

// serve answers requests from the network.
func (m *Master) serve(ctx context.Context) error {
	m.http.BaseContext = func(net.Listener) context.Context { return ctx } // ends the watches with us
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if m.http.Shutdown(timeout) != nil {
			m.http.Close()
		}
	}()
	err := m.http.ServeTLS(m.listener, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// compact forgets changes that are older than the history that is kept.
func (m *Master) compact(ctx context.Context) error {
	var marks []mark
	for ctx.Err() == nil {
		control.Sleep(ctx, compactEvery)
		_, revision, err := m.store.List(ctx, "no such key/")
		if err != nil {
			continue // the next time will do
		}
		marks = append(marks, mark{revision, time.Now()})
		for len(marks) > 1 && time.Since(marks[0].at) > history {
			if err := m.store.Compact(ctx, marks[0].revision); err != nil && ctx.Err() == nil {
				slog.Warn("cannot compact the history", "reason", err)
			}
			marks = marks[1:]
		}
	}
	return ctx.Err()
}

// mark says which revision the store had at a time.
type mark struct {
	revision int64
	at       time.Time
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// reachable turns a listener's address into one to connect to: who listens everywhere is at the loopback as well.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip, parseErr := netip.ParseAddr(host); err == nil && parseErr == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
