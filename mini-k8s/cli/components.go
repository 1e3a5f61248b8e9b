package cli

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/master"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker"

	docker "github.com/docker/docker/client"
	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/labels"
)

func dirFlag(name string) cli.Flag {
	return text("dir", "", "`DIR` for what must survive a restart (default: "+cluster.Dir(name)+")")
}

func nodeGraceFlag() cli.Flag {
	return &cli.DurationFlag{Name: "node-grace", Usage: "`TIME` after which a silent node is NotReady", Value: master.DefaultNodeGrace}
}

func masterCommand() *cli.Command {
	return &cli.Command{
		Name:  "master",
		Usage: "Run a master alone; workers join it from other machines",
		Description: `Keeps its state over restarts. It writes a kubeconfig for the admin into --dir and tells how workers join.

Examples:
   mini-k8s master --listen 192.168.56.10:6443
   mini-k8s master --listen 0.0.0.0:6443 --host 192.168.56.10 --dir ./state`,
		Flags: []cli.Flag{
			nameFlag(), dirFlag("NAME"), verboseFlag(),
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the API server", Value: "127.0.0.1:6443"},
			&cli.StringSliceFlag{Name: "host", Usage: "one more name or address under which the master is reached"},
			&cli.StringFlag{Name: "cluster-cidr", Usage: "`RANGE` of the pods' addresses", Value: master.DefaultClusterCIDR},
			&cli.StringFlag{Name: "service-cidr", Usage: "`RANGE` of the services' addresses", Value: master.DefaultServiceCIDR},
			nodeGraceFlag(),
		},
		Action: runMaster,
	}
}

func runMaster(cCtx *cli.Context) error {
	logTo(cCtx.App.ErrWriter, cCtx.Bool("verbose"))
	cidr, err := master.ParseClusterCIDR(cCtx.String("cluster-cidr"))
	if err != nil {
		return err
	}
	services, err := master.ParseServiceCIDR(cCtx.String("service-cidr"))
	if err != nil {
		return err
	}
	name := cCtx.String("name")
	dir := cmp.Or(cCtx.String("dir"), cluster.Dir(name))
	m, err := master.New(cCtx.Context, master.Config{Name: name, Dir: dir, Listen: cCtx.String("listen"),
		Hosts: cCtx.StringSlice("host"), ClusterCIDR: cidr, ServiceCIDR: services, NodeGrace: cCtx.Duration("node-grace")})
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := m.WriteKubeconfig(kubeconfig); err != nil {
		return err
	}
	token, err := makeToken(cCtx.Context, m.Client("admin", "mini-k8s"), m.CA.CertPEM, tokenLife)
	if err != nil {
		return err
	}
	fmt.Fprintf(cCtx.App.Writer, `The master is at %s.

  export KUBECONFIG=%s
  kubectl get nodes

On each worker (the token is a secret: whoever has it can add a node, until it expires in 24 hours):

  mini-k8s worker --master %s --token %s

`, m.URL(), kubeconfig, m.JoinURL(), token)
	return m.Run(cCtx.Context)
}

func workerCommand() *cli.Command {
	hostname, _ := os.Hostname()
	return &cli.Command{
		Name:  "worker",
		Usage: "Run a worker that joins a master on another machine, or runs the pods of a directory",
		Description: `The token is needed the first time; then the worker has a certificate, which it keeps in --dir. Stopped, it
leaves its pods running, and goes on with them when it is started again. To remove them, and all else that it has
made, say mini-k8s down --name and the cluster's name (the master's --name).

With --manifests it also runs the pods that the files of a directory tell of, one in each; they come, change and go with
the files. With no --master it runs nothing else.

Examples:
   mini-k8s worker --master https://192.168.56.10:6443 --token <id>.<secret>.<hash>
   mini-k8s worker --master https://127.0.0.1:6443 --token <id>.<secret>.<hash> --node node-9 --runtime hollow
   mini-k8s worker --manifests ./pods`,
		Flags: []cli.Flag{
			dirFlag("worker-NODE"), runtimeFlag(), verboseFlag(),
			&cli.StringFlag{Name: "master", Usage: "`URL` of the API server"},
			&cli.StringFlag{Name: "manifests", Usage: "`DIR` of files with pods that this node runs of its own accord"},
			&cli.StringFlag{Name: "token", Usage: "join token, from `mini-k8s token create` on the master; the variable keeps it out of the list of processes", EnvVars: []string{"MINI_K8S_TOKEN"}},
			&cli.StringFlag{Name: "node", Usage: "`NAME` of the node", Value: strings.ToLower(hostname)},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` label of the node"},
		},
		Action: runWorker,
	}
}

func runWorker(cCtx *cli.Context) error {
	logTo(cCtx.App.ErrWriter, cCtx.Bool("verbose"))
	ctx, node, url := cCtx.Context, cCtx.String("node"), strings.TrimSuffix(cCtx.String("master"), "/")
	nodeLabels, err := labels.ConvertSelectorToLabelsMap(strings.Join(cCtx.StringSlice("label"), ","))
	if err != nil {
		return fmt.Errorf("--label KEY=VALUE: %w", err)
	}
	var d *docker.Client
	if kind := cCtx.String("runtime"); kind == cluster.Docker {
		d, err = cluster.ConnectDocker(ctx)
	} else if kind != cluster.Hollow {
		err = fmt.Errorf("--runtime %q: use %s or %s", kind, cluster.Docker, cluster.Hollow)
	}
	if err != nil {
		return err
	}
	dir := cmp.Or(cCtx.String("dir"), cluster.Dir("worker-"+node))
	config := worker.Config{Node: node, Docker: d, Labels: nodeLabels, Dir: filepath.Join(dir, "pods"), Manifests: cCtx.String("manifests")}
	says := fmt.Sprintf("works for %s", url)
	switch {
	case url != "":
		err = join(cCtx, dir, url, &config)
	case config.Manifests != "":
		config.Cluster, config.Address = fmt.Sprintf("alone-%.4x", sha256.Sum256([]byte(node))), "127.0.0.1"
		says = fmt.Sprintf("runs the pods of %s, as cluster %s with no master", config.Manifests, config.Cluster)
	default:
		err = errors.New("use --master, --manifests, or both: where do the pods come from?")
	}
	if err != nil {
		return err
	}
	release, err := cluster.Join(config.Cluster, node, cCtx.String("runtime"))
	if err != nil {
		return err
	}
	defer release()
	w, err := worker.New(config)
	if err != nil {
		return err
	}
	fmt.Fprintf(cCtx.App.Writer, "Node %s %s. Ctrl-C stops it; its pods run on.\n", node, says)
	return w.Run(ctx)
}

// join gives a worker what it needs to work for a master.
func join(cCtx *cli.Context, dir, url string, config *worker.Config) (err error) {
	if config.Address, err = addressTowards(url); err != nil {
		return fmt.Errorf("--master %q: %w", url, err)
	}
	if config.TLS, err = pki.LoadOrJoin(cCtx.Context, dir, url, cCtx.String("token"), config.Node); err != nil {
		return err
	}
	config.Client = client.New(client.Config{Server: url, TLS: config.TLS, Name: "worker"})
	info, err := master.ReadClusterInfo(cCtx.Context, config.Client)
	config.Cluster, config.ClusterCIDR, config.ServiceCIDR = info.Name, info.ClusterCIDR, info.ServiceCIDR
	return err
}

// addressTowards returns this machine's address on the way to the master.
func addressTowards(master string) (string, error) {
	host, ok := strings.CutPrefix(master, "https://")
	if !ok || !strings.Contains(host, ":") {
		return "", errors.New("use https://HOST:PORT")
	}
	conn, err := net.Dial("udp", host) // sends nothing; the kernel chooses the route
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}
