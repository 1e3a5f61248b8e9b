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
	existed  bool           // there is a last run to go on with
	settings settings       // of it, or those that were chosen
	docker   *docker.Client // nil if hollow
	listener net.Listener   // of the API server, from when its port was chosen until the master has it; else nil
	master   *master.Master
	workers  []*worker.Worker
	running  chan error // the end of all components
	stop     context.CancelFunc
	release  func()
	progress *progress
}

// Up starts a cluster and returns when it is ready, and its demo, if wanted, is running. The caller must call Down,
// or Wait and then Down. If Up fails, it leaves nothing behind that was not there before.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{Options: options, dir: Dir(options.Name), progress: &progress{out: options.Out}}
	err := c.check(ctx)
	if err == nil {
		c.release, err = lock(c.dir)
	}
	if err != nil {
		c.disconnect()
		return nil, err
	}
	c.settings, c.existed, err = loadSettings(c.dir) // again: now nobody else changes them
	if err == nil {
		err = c.start(ctx)
	}
	if err == nil {
		return c, nil
	}
	c.halt()
	if c.listener != nil {
		c.listener.Close()
	}
	if !c.existed {
		err = errors.Join(err, c.remove())
	}
	c.disconnect()
	c.release()
	return nil, err
}

// start is the table of contents of a cluster.
func (c *Cluster) start(ctx context.Context) error {
	for _, step := range []struct {
		what   string
		wanted bool
		do     func(context.Context) (string, error)
	}{
		{"Choosing port and addresses", true, c.chooseAddresses},
		{"Making the images", c.docker != nil, c.makeImages},
		{"Starting the master", true, c.startMaster},
		{fmt.Sprintf("Starting %d workers", c.Nodes), true, c.startWorkers},
		{"Deploying the demo", c.Demo, c.deployDemo},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !step.wanted {
			continue
		}
		if err := c.progress.step(step.what, func() (string, error) { return step.do(ctx) }); err != nil {
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
		p, err := netip.ParsePrefix(c.ClusterCIDR)
		if err != nil || !p.Addr().Is4() || p.Bits() > 22 {
			return fmt.Errorf("--cluster-cidr %q: use an IPv4 range of a /22 or larger, such as 10.244.0.0/16", c.ClusterCIDR)
		}
		c.ClusterCIDR = p.Masked().String()
	}
	_, existed, err := loadSettings(c.dir)
	if err != nil {
		return err
	}
	switch c.Runtime {
	case Hollow:
		return nil
	case Docker:
	default:
		return fmt.Errorf("--runtime %q: use %s or %s", c.Runtime, Docker, Hollow)
	}
	if c.docker, err = ConnectDocker(ctx); err != nil || existed {
		return err
	}
	// Docker is the machine's, the state is the user's.
	if others, err := network.Exists(ctx, c.docker, c.Name); err != nil || !others {
		return err
	}
	return fmt.Errorf("Docker has networks of a cluster %[1]q whose state is not in %[2]s: choose another --name, or remove it as the user who "+
		"started it (and with the same $MINI_K8S_HOME). If its state is lost, remove it with\n"+
		"  docker rm -f $(docker ps -aq --filter label=mini-k8s.cluster=%[1]s)\n"+
		"  docker network rm $(docker network ls -q --filter label=mini-k8s.cluster=%[1]s)", c.Name, c.dir)
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
	ping, err := d.Ping(ctx)
	if err != nil {
		d.Close()
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			return nil, fmt.Errorf("Docker is there, but you may not use it: run this with sudo, or join the group docker (%w)", err)
		}
		return nil, fmt.Errorf("Docker does not answer: %s (%w)", way, err)
	}
	d.NegotiateAPIVersionPing(ping) // now: the client's event stream reads the version while another call may find it out
	return d, nil
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
	cidr, err := netip.ParsePrefix(c.settings.ClusterCIDR)
	if err != nil {
		return "", fmt.Errorf("the range of the pods' addresses: %w", err)
	}
	bits := nodeBits(cidr, c.Nodes)
	if bits == 0 {
		return "", fmt.Errorf("%s has no room for %d nodes: choose a larger range with --cluster-cidr, or fewer --nodes", cidr, c.Nodes)
	}
	m, err := master.New(ctx, master.Config{Name: c.Name, Dir: c.dir, Listen: c.settings.Listen, Listener: c.listener, ClusterCIDR: cidr, NodeBits: bits})
	if err != nil {
		return "", err
	}
	c.listener = nil // it is the master's now
	path := filepath.Join(c.dir, "kubeconfig")
	if err := m.WriteKubeconfig(path); err != nil {
		return "", errors.Join(err, m.Close())
	}
	giveToCaller(path)
	c.master = m
	for i := range c.Nodes {
		w, err := c.newWorker(fmt.Sprintf("node-%d", i+1))
		if err != nil {
			return "", errors.Join(err, c.close())
		}
		c.workers = append(c.workers, w)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop, c.running = stop, make(chan error, 1)
	go func() { c.running <- c.run(background) }()
	return m.URL(), nil
}

// run runs the master and the workers.
func (c *Cluster) run(ctx context.Context) error {
	components := []control.Component{{Name: "master", Run: c.master.Run}}
	for _, w := range c.workers {
		components = append(components, control.Component{Name: w.Node, Run: w.Run})
	}
	return control.Run(ctx, components...)
}

// close gives back what the master and the workers hold, when they do not run.
func (c *Cluster) close() error {
	failures := []error{c.master.Close()}
	for _, w := range c.workers {
		failures = append(failures, w.Close())
	}
	return errors.Join(failures...)
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
	waiting := map[string]*worker.Worker{}
	for _, w := range c.workers {
		waiting[w.Node] = w
	}
	err := waitFor(ctx, c, readyTimeout, func(node *corev1.Node) bool {
		w := waiting[node.Name]
		if w == nil || node.Status.DaemonEndpoints.KubeletEndpoint.Port != w.Port() {
			return len(waiting) == 0 // with another port it is what the last run has said
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				delete(waiting, node.Name)
			}
		}
		return len(waiting) == 0
	})
	if err != nil {
		return "", fmt.Errorf("wait for the workers, of which %d are not ready: %w", len(waiting), err)
	}
	note := "all ready"
	if c.docker == nil {
		note += "; hollow: their pods are simulated"
	}
	return note, nil
}

// waitFor watches the objects of a kind until done says so of one, the cluster ends, or the time is up.
func waitFor[T api.Object](ctx context.Context, c *Cluster, timeout time.Duration, done func(T) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("that takes longer than %v", timeout))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go func() {
		if err := c.Wait(ctx); err != nil {
			giveUp(err)
		}
	}()
	for ctx.Err() == nil {
		for event, err := range client.Of[T](c.Client()).Watch(ctx, client.Selection{}, "") {
			if err != nil {
				break
			}
			if done(event.Object) {
				return nil
			}
		}
		control.Sleep(ctx, 50*time.Millisecond)
	}
	return context.Cause(ctx)
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
