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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/master"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker"

	docker "github.com/docker/docker/client"
)

// Runtimes that a cluster's pods can have.
const (
	Docker = "docker"
	Hollow = "hollow"
)

// Options of a cluster.
type Options struct {
	Name        string
	Nodes       int
	Runtime     string        // Docker or Hollow
	Listen      string        // the API server's address; the first free port from 6443 on the loopback if empty
	ClusterCIDR string        // the pods' addresses; the first /16 from 10.244.0.0 that nobody uses if empty
	ServiceCIDR string        // the services' addresses; master.DefaultServiceCIDR if empty
	NodeGrace   time.Duration // how long a node may be silent; master.DefaultNodeGrace if 0
	Demo        bool          // deploy the demo application
	Out         io.Writer
	Log         func(io.Writer) // takes the cluster's log file, from when it is open; may be nil
}

// Cluster is a cluster that runs in this process.
type Cluster struct {
	Options
	dir      string
	existed  bool           // there is a last run to go on with
	settings settings       // of it, or those that were chosen
	docker   *docker.Client // nil if hollow
	master   *master.Master
	workers  []*worker.Worker
	stop     context.CancelFunc // of master and workers; nil before they run
	ended    chan struct{}      // closed when they have ended
	failure  error              // why they ended, if nobody stopped them; read it when they have ended
	release  func()
	endTurn  func() // lets the next of this machine choose its addresses
}

// Up starts a cluster and returns when it is ready, and its demo, if wanted, is running. The caller must call Down,
// or Wait and then Down. If Up fails, it leaves nothing behind that was not there before.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{Options: options, dir: Dir(options.Name), endTurn: func() {}}
	if err := c.check(); err != nil {
		return nil, err
	}
	var err error
	if c.release, err = lock(c.dir); err != nil {
		return nil, err
	}
	if c.settings, c.existed, err = loadSettings(c.dir); err == nil {
		err = c.start(ctx)
	}
	c.endTurn()
	if err == nil {
		return c, nil
	}
	c.halt()
	if !c.existed {
		err = errors.Join(err, c.remove(c.dir))
	}
	c.close()
	return nil, err
}

// check refuses what cannot work before anything is made.
func (c *Cluster) check() error {
	if c.Nodes < 1 {
		return fmt.Errorf("--nodes %d: a cluster has at least one", c.Nodes)
	}
	if c.Runtime != Docker && c.Runtime != Hollow {
		return fmt.Errorf("--runtime %q: use %s or %s", c.Runtime, Docker, Hollow)
	}
	if c.ClusterCIDR != "" {
		prefix, err := master.ParseClusterCIDR(c.ClusterCIDR)
		if err != nil {
			return err
		}
		c.ClusterCIDR = prefix.String() // one way to write it
	}
	if c.ServiceCIDR != "" {
		prefix, err := master.ParseServiceCIDR(c.ServiceCIDR)
		if err != nil {
			return err
		}
		c.ServiceCIDR = prefix.String()
	}
	return checkName(c.Name)
}

// start is the table of contents of a cluster.
func (c *Cluster) start(ctx context.Context) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if err := c.openDocker(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		what   string
		wanted bool
		do     func(context.Context) (note string, err error)
	}{
		{"Choosing addresses", true, c.chooseAddresses},
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
		if err := c.tell(step.what, func() (string, error) { return step.do(ctx) }); err != nil {
			return errors.Join(err, ctx.Err()) // that it was interrupted, whatever the step has made of that
		}
	}
	return nil
}

// tell does a thing and tells a person what it is, how long it took, and how it went, where that is worth a word.
func (c *Cluster) tell(what string, do func() (note string, err error)) error {
	start := time.Now()
	fmt.Fprintf(c.Out, "  %-34s", what)
	note, err := do()
	if err != nil {
		fmt.Fprintln(c.Out, "failed")
		return err
	}
	fmt.Fprintf(c.Out, "%5.2f s   %s\n", time.Since(start).Seconds(), note)
	return nil
}

// makeDir makes the directory for the state, and the log in it.
func (c *Cluster) makeDir() error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for the state: %w", err)
	}
	if c.Log == nil {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(c.dir, "mini-k8s.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		c.Log(file)
	}
	return err
}

func (c *Cluster) makeImages(ctx context.Context) (string, error) {
	var names []string
	for _, image := range images.All() {
		names = append(names, image.Name)
	}
	return strings.Join(names, ", "), images.Ensure(ctx, c.docker, images.All()...)
}

// startMaster starts the master, and the workers with it. They run in this process until halt.
func (c *Cluster) startMaster(ctx context.Context) (string, error) {
	cidr, err := master.ParseClusterCIDR(c.settings.ClusterCIDR)
	if err != nil {
		return "", err
	}
	services, err := master.ParseServiceCIDR(c.settings.ServiceCIDR)
	if err != nil {
		return "", err
	}
	bits := nodeBits(cidr, c.Nodes)
	if bits == 0 {
		return "", fmt.Errorf("%s has no room for %d nodes: choose a larger range with --cluster-cidr, or fewer --nodes", cidr, c.Nodes)
	}
	config := master.Config{Name: c.Name, Dir: c.dir, Listen: c.settings.Listen, ClusterCIDR: cidr, ServiceCIDR: services, NodeBits: bits,
		NodeGrace: c.NodeGrace}
	if c.master, err = master.New(ctx, config); errors.Is(err, syscall.EADDRINUSE) && c.Listen == "" {
		config.Listen = "" // somebody has the port of the last run by now, and nobody has asked for just that one
		c.master, err = master.New(ctx, config)
	}
	if err != nil {
		return "", err
	}
	c.settings.Listen = c.master.Address()
	err = errors.Join(c.settings.save(c.dir), c.master.WriteKubeconfig(c.Kubeconfig()))
	giveToCaller(c.Kubeconfig())
	components := []control.Component{{Name: "master", Run: c.master.Run}}
	for i := 0; i < c.Nodes && err == nil; i++ {
		var w *worker.Worker
		if w, err = c.newWorker(fmt.Sprintf("node-%d", i+1)); err == nil {
			c.workers = append(c.workers, w)
			components = append(components, control.Component{Name: w.Node, Run: w.Run})
		}
	}
	// Also after a failure: what runs gives back, when it is stopped, what it has opened.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop, c.ended = stop, make(chan struct{})
	go func() {
		defer close(c.ended)
		c.failure = control.Run(background, components...)
	}()
	return c.master.URL(), err
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
		ServiceCIDR: c.settings.ServiceCIDR, Dir: filepath.Join(c.dir, "pods", name),
		Client: c.master.Client(apiserver.User(pki.NodePrefix+name), name),
	})
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
