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

	"workshop/mini-k8s/master"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker/network"
)

// settings are what a cluster was started with; the next `up` of the name goes on with them.
type settings struct {
	Listen      string `json:"listen"`
	ClusterCIDR string `json:"clusterCIDR"`
	Runtime     string `json:"runtime"`
}

// chooseAddresses takes those of the last run of this name, those that were asked for, or the first free ones. Of a
// last run only the API server's can be changed: the pods have theirs.
func (c *Cluster) chooseAddresses(ctx context.Context) (note string, err error) {
	const way = "go on with that, or remove it first with `mini-k8s down --name %s`"
	switch old := c.settings; {
	case !c.existed:
		c.settings = settings{Runtime: c.Runtime, ClusterCIDR: cmp.Or(c.ClusterCIDR, master.DefaultClusterCIDR)}
		if c.docker != nil {
			c.settings.ClusterCIDR, err = network.FreeCIDR(ctx, c.docker, c.Name, c.ClusterCIDR)
		}
	case c.Runtime != old.Runtime:
		err = fmt.Errorf("cluster %q was started with --runtime %s: "+way, c.Name, old.Runtime, c.Name)
	case c.ClusterCIDR != "" && c.ClusterCIDR != old.ClusterCIDR:
		err = fmt.Errorf("cluster %q was started with --cluster-cidr %s: "+way, c.Name, old.ClusterCIDR, c.Name)
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
		for _, theirs := range []string{"state.db", "node.key"} {
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
