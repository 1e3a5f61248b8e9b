package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"workshop/mini-k8s/master"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker/network"
)

// What is kept of a cluster, and where: its directory, the lock of who runs it, and what it was started with.

const (
	// DefaultName is the name of a cluster that was given none.
	DefaultName = "mini"
	// rootHome is where root's clusters are. Others look there as well: the kubeconfig of one may be theirs.
	rootHome = "/var/lib/mini-k8s"
)

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("--name %q: use up to 20 of a-z, 0-9 and -, not at the ends", name)
	}
	return nil
}

// Home returns the directory under which clusters keep their state: $MINI_K8S_HOME, or /var/lib/mini-k8s for root,
// whatever its HOME is, or ~/.mini-k8s.
func Home() string {
	if home := os.Getenv("MINI_K8S_HOME"); home != "" {
		return home
	}
	if os.Geteuid() == 0 {
		return rootHome
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".mini-k8s")
}

// Dir returns where the cluster of the name keeps its state.
func Dir(name string) string { return filepath.Join(Home(), name) }

// Kubeconfig returns the path of the kubeconfig of the cluster that runs under the name. Without a name it is that
// of the only one that runs.
func Kubeconfig(name string) (string, error) {
	homes := []string{Home()}
	if os.Getenv("MINI_K8S_HOME") == "" && Home() != rootHome {
		homes = append(homes, rootHome)
	}
	var paths, names []string
	for _, home := range homes {
		locks, _ := filepath.Glob(filepath.Join(home, cmp.Or(name, "*")+".lock"))
		for _, lock := range locks {
			if dir := strings.TrimSuffix(lock, ".lock"); isRunning(dir) {
				paths, names = append(paths, filepath.Join(dir, "kubeconfig")), append(names, filepath.Base(dir))
			}
		}
	}
	switch {
	case len(paths) == 1:
		return paths[0], nil
	case len(paths) > 1:
		slices.Sort(names)
		return "", fmt.Errorf("several clusters run here (%s): say which with --name", strings.Join(names, ", "))
	case name != "":
		return "", fmt.Errorf("no cluster %q runs here: start it with `mini-k8s up --name %s`", name, name)
	}
	return "", errors.New("no cluster runs here: start one with `mini-k8s up`")
}

// lock makes this process the only one that runs the cluster. The lock is a file beside the directory, with the number
// of the process in it. The kernel lets go of it when the process ends, however it ends.
func lock(dir string) (release func(), err error) {
	path := dir + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for the state: %w", err)
	}
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close()
			return nil, fmt.Errorf("cluster %q runs already: stop it with `mini-k8s down --name %[1]s`, or start another with --name",
				filepath.Base(dir))
		}
		if !isAt(path, file) { // who had it has removed it, after we had opened it
			file.Close()
			continue
		}
		file.Truncate(0)
		fmt.Fprintln(file, os.Getpid())
		return func() {
			if isAt(path, file) { // it is not if it was released already
				os.Remove(path)
			}
			file.Close()
		}, nil
	}
}

// isAt reports whether the path still leads to the file that was opened there.
func isAt(path string, file *os.File) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(opened, now)
}

func isRunning(dir string) bool {
	file, err := os.Open(dir + ".lock")
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// settings are what a cluster was started with; the next `up` of the name goes on with them.
type settings struct {
	Listen      string `json:"listen"`
	ClusterCIDR string `json:"clusterCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
	Runtime     string `json:"runtime"`
}

// chooseAddresses takes those of the last run of this name, those that were asked for, or the first free ones. Of a
// last run only the API server's can be changed: the pods have theirs.
func (c *Cluster) chooseAddresses(ctx context.Context) (note string, err error) {
	if !c.existed {
		c.settings = settings{Runtime: c.Runtime, ClusterCIDR: cmp.Or(c.ClusterCIDR, master.DefaultClusterCIDR),
			ServiceCIDR: cmp.Or(c.ServiceCIDR, master.DefaultServiceCIDR)}
	}
	for _, option := range []struct{ name, wanted, was string }{
		{"runtime", c.Runtime, c.settings.Runtime}, {"cluster-cidr", c.ClusterCIDR, c.settings.ClusterCIDR},
		{"service-cidr", c.ServiceCIDR, c.settings.ServiceCIDR},
	} {
		if option.wanted != "" && option.wanted != option.was {
			return "", fmt.Errorf("cluster %q was started with --%s %s: go on with that, or remove it first with `mini-k8s down --name %[1]s`",
				c.Name, option.name, option.was)
		}
	}
	if !c.existed && c.docker != nil {
		c.endTurn = network.TakeTurn(ctx)
		if c.settings.ClusterCIDR, err = network.FreeCIDR(ctx, c.docker, c.Name, c.ClusterCIDR); err == nil {
			c.settings.ServiceCIDR, err = network.FreeServiceCIDR(ctx, c.docker, c.Name, c.ServiceCIDR)
		}
	}
	if err != nil {
		return "", err
	}
	c.settings.Listen = cmp.Or(c.Listen, c.settings.Listen) // if empty, the master finds a port
	return "pods in " + c.settings.ClusterCIDR, c.settings.save(c.dir)
}

// nodeBits returns how long the prefix of each node's range is: a /24, or less if there are many (hollow) nodes. It
// is 0 if there are too many.
func nodeBits(cluster netip.Prefix, nodes int) int {
	for bits := master.DefaultNodeBits; bits <= 30; bits++ {
		if 1<<(bits-cluster.Bits()) > nodes {
			return bits
		}
	}
	return 0
}

// loadSettings refuses the directory of a `mini-k8s master` or worker, whose default may be the same: it is not ours
// to go on with, or to remove.
func loadSettings(dir string) (s settings, exists bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		for _, theirs := range []string{"state.db", pki.NodeConfig} {
			if _, err := os.Stat(filepath.Join(dir, theirs)); err == nil {
				return s, true, fmt.Errorf("%s holds the state of a `mini-k8s master` or worker: choose another --name, or remove it yourself", dir)
			}
		}
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		err = fmt.Errorf("read what the cluster was started with: %w", err)
	}
	return s, true, err
}

func (s settings) save(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return pki.WritePrivate(filepath.Join(dir, "cluster.json"), data)
}
