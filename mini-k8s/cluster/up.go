// Package cluster runs a whole cluster on one machine: a master and several workers in one process.
//
// Invariants:
//  1. What runs under a name belongs to one process at a time.
//  2. Stopped, a cluster leaves nothing behind; killed, it leaves all, and the next `up` of the name goes on with it:
//     the same state, the same containers.
//  3. Nothing that is not this cluster's is touched. Ports and addresses that others have are not taken.
//
// In Kubernetes: kind and minikube; there a node is a container or a virtual machine of its own.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/master"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker"
	"workshop/mini-k8s/worker/network"

	docker "github.com/docker/docker/client"
	corev1 "k8s.io/api/core/v1"
)

// Runtimes that a cluster's pods can have.
const (
	Docker = "docker"
	Hollow = "hollow"
)

const (
	firstPort    = 6443
	readyTimeout = 90 * time.Second
	demoTimeout  = 2 * time.Minute
)

// Options of a cluster.
type Options struct {
	Name        string
	Nodes       int
	Runtime     string // Docker or Hollow
	Listen      string // the API server's address; the first free port from 6443 on the loopback if empty
	ClusterCIDR string // the pods' addresses; the first /16 from 10.244.0.0 that nobody uses if empty
	Demo        bool   // deploy the demo application
	Out         io.Writer
}

// Cluster is a cluster that runs in this process.
type Cluster struct {
	Options
	dir      string
	settings settings
	docker   *docker.Client // nil if hollow
	master   *master.Master
	running  chan error // the end of all components
	stop     context.CancelFunc
	release  func()
	progress *progress
}

// Up starts a cluster and returns when it is ready, and its demo, if wanted, is running. The caller must call Down,
// or Wait and then Down. If Up fails, it leaves nothing behind that was not there before.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{Options: options, dir: Dir(options.Name), progress: &progress{out: options.Out, start: time.Now()}}
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	var err error
	if c.release, err = lock(c.dir); err != nil {
		return nil, err
	}
	_, existed, err := loadSettings(c.dir)
	if err == nil {
		err = c.start(ctx)
	}
	if err == nil {
		return c, nil
	}
	c.halt()
	if !existed {
		err = errors.Join(err, c.remove())
	}
	c.release()
	return nil, err
}

// start is the table of contents of a cluster.
func (c *Cluster) start(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"Choosing port and addresses", c.chooseAddresses},
		{"Making the images", c.makeImages},
		{"Starting the master", c.startMaster},
		{fmt.Sprintf("Starting %d workers", c.Nodes), c.startWorkers},
		{"Deploying the demo", c.deployDemo},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if step.what == "Making the images" && c.docker == nil || step.what == "Deploying the demo" && !c.Demo {
			continue
		}
		err := c.progress.step(step.what, func() (string, error) { return step.do(ctx) })
		if err != nil {
			return err
		}
	}
	return nil
}

// check refuses what cannot work before anything is made.
func (c *Cluster) check(ctx context.Context) error {
	if !validName.MatchString(c.Name) {
		return fmt.Errorf("--name %q: use up to 20 of a-z, 0-9 and -, not at the ends", c.Name)
	}
	if c.Nodes < 1 {
		return fmt.Errorf("--nodes %d: a cluster has at least one", c.Nodes)
	}
	if c.ClusterCIDR != "" {
		if p, err := netip.ParsePrefix(c.ClusterCIDR); err != nil || !p.Addr().Is4() || p.Bits() > 22 {
			return fmt.Errorf("--cluster-cidr %q: use an IPv4 range of a /22 or larger, such as 10.244.0.0/16", c.ClusterCIDR)
		}
	}
	switch c.Runtime {
	case Hollow:
		return nil
	case Docker:
	default:
		return fmt.Errorf("--runtime %q: use %s or %s", c.Runtime, Docker, Hollow)
	}
	var err error
	c.docker, err = ConnectDocker(ctx)
	return err
}

// ConnectDocker returns a client of the Docker daemon, if there is one that answers and is new enough.
func ConnectDocker(ctx context.Context) (*docker.Client, error) {
	const way = "start it (`make docker` installs and starts one on Debian and Ubuntu), or run simulated pods with --runtime hollow"
	d, err := docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("connect to Docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := d.Ping(ctx); err != nil {
		d.Close()
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			return nil, fmt.Errorf("Docker is there, but you may not use it: run this with sudo, or join the group docker (%w)", err)
		}
		return nil, fmt.Errorf("Docker does not answer: %s (%w)", way, err)
	}
	return d, nil
}

// chooseAddresses takes those of the last run of this name, those that were asked for, or the first free ones.
func (c *Cluster) chooseAddresses(ctx context.Context) (string, error) {
	old, exists, err := loadSettings(c.dir)
	if err != nil {
		return "", err
	}
	if exists {
		if old.Runtime != c.Runtime {
			return "", fmt.Errorf("cluster %q was started with --runtime %s: go on with that, or remove it first with `mini-k8s down --name %[1]s`", c.Name, old.Runtime)
		}
		c.settings = old
		return "those of the last run", nil
	}
	c.settings = settings{Runtime: c.Runtime, Listen: c.Listen, ClusterCIDR: c.ClusterCIDR}
	if c.settings.Listen == "" {
		if c.settings.Listen, err = freePort(); err != nil {
			return "", err
		}
	}
	if c.docker != nil {
		if c.settings.ClusterCIDR, err = network.FreeCIDR(ctx, c.docker, c.Name, c.ClusterCIDR); err != nil {
			return "", err
		}
	} else if c.settings.ClusterCIDR == "" {
		c.settings.ClusterCIDR = master.DefaultClusterCIDR
	}
	return "API at " + c.settings.Listen + ", pods in " + c.settings.ClusterCIDR, c.settings.save(c.dir)
}

// freePort returns the loopback with the first port from 6443 on that nobody listens on.
func freePort() (string, error) {
	for port := firstPort; port < firstPort+100; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("no port is free from %d to %d: choose one with --listen", firstPort, firstPort+99)
}

func (c *Cluster) makeImages(ctx context.Context) (string, error) {
	var names []string
	for _, image := range images.All() {
		names = append(names, image.Name)
	}
	return strings.Join(names, ", "), images.Ensure(ctx, c.docker, images.All()...)
}

// startMaster starts what runs in this process until halt.
func (c *Cluster) startMaster(ctx context.Context) (string, error) {
	cidr := netip.MustParsePrefix(c.settings.ClusterCIDR)
	bits := master.DefaultNodeBits
	for 1<<(bits-cidr.Bits()) <= c.Nodes { // many hollow nodes: smaller ranges
		bits++
	}
	m, err := master.New(ctx, master.Config{Name: c.Name, Dir: c.dir, Listen: c.settings.Listen, ClusterCIDR: cidr, NodeBits: bits})
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, "kubeconfig")
	if err := m.WriteKubeconfig(path); err != nil {
		return "", errors.Join(err, m.Close())
	}
	giveToCaller(path)
	c.master = m
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop, c.running = stop, make(chan error, 1)
	go func() { c.running <- c.run(background) }()
	return m.URL(), nil
}

// run runs the master and the workers.
func (c *Cluster) run(ctx context.Context) error {
	components := []control.Component{{Name: "master", Run: c.master.Run}}
	for i := range c.Nodes {
		name := fmt.Sprintf("node-%d", i+1)
		components = append(components, control.Component{Name: name, Run: func(ctx context.Context) error {
			w, err := c.newWorker(name)
			if err != nil {
				return err
			}
			return w.Run(ctx)
		}})
	}
	return control.Run(ctx, components...)
}

func (c *Cluster) newWorker(name string) (*worker.Worker, error) {
	const address = "127.0.0.1"
	pair, err := c.master.CA.Issue(pki.NodePrefix+name, name, address)
	if err != nil {
		return nil, err
	}
	tls, err := pki.ServerTLS(c.master.CA.CertPEM, pair)
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Config{
		Cluster: c.Name, Node: name, Address: address, TLS: tls, Docker: c.docker, ClusterCIDR: c.settings.ClusterCIDR,
		Client: c.master.Client(apiserver.User(pki.NodePrefix+name), name),
	})
}

// startWorkers waits until all nodes are ready: they have been starting since the master runs.
func (c *Cluster) startWorkers(ctx context.Context) (string, error) {
	ready := map[string]bool{}
	err := waitFor(ctx, c, readyTimeout, func(node *corev1.Node) bool {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready[node.Name] = condition.Status == corev1.ConditionTrue
			}
		}
		count := 0
		for _, is := range ready {
			if is {
				count++
			}
		}
		return count >= c.Nodes
	})
	if err != nil {
		return "", fmt.Errorf("wait for the workers: %w", err)
	}
	note := "all ready"
	if c.docker == nil {
		note += "; hollow: their pods are simulated"
	}
	return note, nil
}

// waitFor watches the objects of a kind until done says so of one, the cluster ends, or the time is up.
func waitFor[T api.Object](ctx context.Context, c *Cluster, timeout time.Duration, done func(T) bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var ended error
	go func() {
		select {
		case ended = <-c.running:
			c.running <- ended
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		for event, err := range client.Of[T](c.Client()).Watch(ctx, client.Selection{}, "") {
			if err != nil {
				break
			}
			if done(event.Object) {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(ended, err)
		}
	}
}

// Client returns an admin's client of the cluster.
func (c *Cluster) Client() *client.Client { return c.master.Client("admin", "mini-k8s") }

// Kubeconfig returns the path of the cluster's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// giveToCaller makes a file that root wrote belong to the user who called sudo, so that their kubectl can read it.
func giveToCaller(path string) {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err == nil && os.Geteuid() == 0 {
		os.Chown(path, uid, -1) // if that fails, root can still use it
	}
}
