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
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/controllers/autoscaler"
	"workshop/mini-k8s/master/controllers/deployment"
	"workshop/mini-k8s/master/controllers/endpoints"
	"workshop/mini-k8s/master/controllers/garbage"
	"workshop/mini-k8s/master/controllers/namespace"
	"workshop/mini-k8s/master/controllers/node"
	"workshop/mini-k8s/master/controllers/replicaset"
	"workshop/mini-k8s/master/scheduler"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"
)

const (
	DefaultClusterCIDR = "10.244.0.0/16"
	DefaultServiceCIDR = apiserver.DefaultServiceCIDR
	DefaultNodeBits    = 24
	DefaultNodeGrace   = node.DefaultGrace
	leastNodeGrace     = 2 * 5 * time.Second // two heartbeats: one may be late
	// firstPort is the API server's, or else the next one that nobody listens on.
	firstPort = 6443
	// history is how long changes can be watched from, and looked at, after they were made.
	history      = time.Hour
	compactEvery = 5 * time.Minute
)

// Config says where a master keeps its state and where it is reached.
type Config struct {
	Name        string       // of the cluster
	Dir         string       // for the state: made if missing, readable by its owner only
	Listen      string       // address and port; the first free port from 6443 on the loopback if empty
	Hosts       []string     // more names and addresses under which clients reach it
	ClusterCIDR netip.Prefix // of the pods; DefaultClusterCIDR if zero
	ServiceCIDR netip.Prefix // DefaultServiceCIDR if zero
	NodeBits    int          // DefaultNodeBits if 0
	// NodeGrace is how long a node may be silent, DefaultNodeGrace if 0.
	NodeGrace time.Duration
}

// Master is a control plane.
type Master struct {
	Config
	CA     *pki.CA
	store  *store.SQLite
	server *apiserver.Server
	tls    *tls.Config // of the API server, also when it calls kubelets
	port   net.Listener
}

// New opens the state and the port; nothing is served until Run, which closes them.
func New(ctx context.Context, config Config) (_ *Master, err error) {
	if !config.ClusterCIDR.IsValid() {
		config.ClusterCIDR = netip.MustParsePrefix(DefaultClusterCIDR)
	}
	if !config.ServiceCIDR.IsValid() {
		config.ServiceCIDR = netip.MustParsePrefix(DefaultServiceCIDR)
	}
	if config.ServiceCIDR.Overlaps(config.ClusterCIDR) {
		return nil, fmt.Errorf("--service-cidr %s overlaps --cluster-cidr %s: services and pods need addresses of their own", config.ServiceCIDR, config.ClusterCIDR)
	}
	if config.NodeBits == 0 {
		config.NodeBits = DefaultNodeBits
	}
	if config.NodeGrace != 0 && config.NodeGrace < leastNodeGrace {
		return nil, fmt.Errorf("--node-grace %s: nodes speak every 5 s, give them %s at least", config.NodeGrace, leastNodeGrace)
	}
	m := &Master{Config: config}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for the state: %w", err)
	}
	if m.port, err = listen(m.Listen); err != nil {
		return nil, fmt.Errorf("open the API server's port (choose another with --listen): %w", err)
	}
	if m.store, err = store.OpenSQLite(filepath.Join(m.Dir, "state.db")); err != nil {
		return nil, err
	}
	if m.CA, err = pki.LoadOrCreate(filepath.Join(m.Dir, "pki")); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(m.Listen)
	pair, err := m.CA.Issue("component:apiserver", append([]string{"localhost", "127.0.0.1", host}, m.Hosts...)...)
	if err != nil {
		return nil, err
	}
	if m.tls, err = pki.ServerTLS(m.CA.CertPEM, pair); err != nil {
		return nil, err
	}
	kubelets := &http.Client{Transport: &http.Transport{TLSClientConfig: m.tls, TLSHandshakeTimeout: 10 * time.Second}}
	if m.server, err = apiserver.New(ctx, apiserver.Config{Store: m.store, CA: m.CA, Kubelet: kubelets, ServiceCIDR: m.ServiceCIDR}); err != nil {
		return nil, err
	}
	return m, m.publishInfo(ctx)
}

// listen opens the port that is asked for, or the first one that is free.
func listen(address string) (port net.Listener, err error) {
	if address != "" {
		return net.Listen("tcp", address)
	}
	for number := firstPort; number < firstPort+100; number++ {
		if port, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number))); err == nil {
			break
		}
	}
	return port, err
}

// Run serves and runs all loops until the context ends.
func (m *Master) Run(ctx context.Context) error {
	defer m.close()
	deps := control.NewDeps(m.Client("component:master", "master"), "master")
	nodes := node.Config{ClusterCIDR: m.ClusterCIDR, NodeBits: m.NodeBits, Grace: m.NodeGrace}
	return control.Run(ctx, []control.Component{
		{Name: "API server", Run: m.serve},
		{Name: "history", Run: m.compact},
		{Name: "shared caches", Run: deps.Run},
		{Name: "scheduler", Run: scheduler.New(deps).Run},
		{Name: "replicaset controller", Run: replicaset.New(deps).Run},
		{Name: "deployment controller", Run: deployment.New(deps).Run},
		{Name: "autoscaler", Run: autoscaler.New(deps).Run},
		{Name: "endpoints controller", Run: endpoints.New(deps).Run},
		{Name: "node controller", Run: node.New(deps, nodes).Run},
		{Name: "garbage collector", Run: garbage.New(deps).Run},
		{Name: "namespace controller", Run: namespace.New(deps, m.CA.CertPEM).Run},
	}...)
}

// serve answers requests from the network.
func (m *Master) serve(ctx context.Context) error {
	return pki.Serve(ctx, m.port, m.tls, m.server.Handler())
}

// compact forgets changes that are older than the history that is kept.
func (m *Master) compact(ctx context.Context) error {
	var marks []int64 // the revisions of the last hour, the oldest first
	for ctx.Err() == nil {
		control.Sleep(ctx, compactEvery)
		_, revision, err := m.store.List(ctx, "no such key/")
		if err != nil {
			continue // the next time will do
		}
		if marks = append(marks, revision); len(marks) <= int(history/compactEvery) {
			continue
		}
		if err := m.store.Compact(ctx, marks[0]); err != nil && ctx.Err() == nil {
			slog.Warn("cannot compact the history", "reason", err)
		}
		marks = marks[1:]
	}
	return ctx.Err()
}

// close gives the port and the state back.
func (m *Master) close() {
	if m.port != nil {
		m.port.Close()
	}
	if m.store != nil {
		m.store.Close() // what was acknowledged is in the file already
	}
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

// Address returns where the API server listens, with the port that it has got.
func (m *Master) Address() string { return m.port.Addr().String() }

// URL returns where the API server is reached from this machine: who listens everywhere is at the loopback as well.
func (m *Master) URL() string { return m.url("127.0.0.1") }

// JoinURL returns where workers on other machines reach the API server.
func (m *Master) JoinURL() string {
	if len(m.Hosts) > 0 {
		return m.url(m.Hosts[0])
	}
	return m.url("<this machine>")
}

// url names a host for a server that listens everywhere.
func (m *Master) url(everywhere string) string {
	at := m.port.Addr().(*net.TCPAddr)
	host := at.IP.String()
	if at.IP.IsUnspecified() {
		host = everywhere
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(at.Port))
}

// ParseClusterCIDR reads a range of addresses that is large enough for the pods of a cluster.
func ParseClusterCIDR(text string) (netip.Prefix, error) {
	return parseCIDR("--cluster-cidr", text, 22, DefaultClusterCIDR)
}

// ParseServiceCIDR reads a range of addresses for the services of a cluster.
func ParseServiceCIDR(text string) (netip.Prefix, error) {
	return parseCIDR("--service-cidr", text, 28, DefaultServiceCIDR)
}

func parseCIDR(flag, text string, bits int, example string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() > bits {
		return prefix, fmt.Errorf("%s %q: use an IPv4 range of a /%d or larger, such as %s", flag, text, bits, example)
	}
	return prefix.Masked(), nil
}
