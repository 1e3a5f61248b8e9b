package cluster

// Workers that have joined a master on another machine: what is kept of them here, so that `down` finds what they have
// made. The master's own state is never touched.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"workshop/mini-k8s/pki"
)

// joined says which cluster a worker of this machine works for.
type joined struct{ Cluster, Runtime string }

// Join notes that the node runs on this machine for the cluster, in this process, until release.
func Join(cluster, node, runtime string) (release func(), err error) {
	dir := Dir("worker-" + node)
	if isRunning(inside(dir)) {
		return nil, fmt.Errorf("node %s runs here already: give this one another --node, or stop that one", node)
	}
	data, err := json.Marshal(joined{cluster, runtime})
	if err == nil {
		err = pki.WritePrivate(filepath.Join(dir, "joined.json"), data)
	}
	if err != nil {
		return nil, fmt.Errorf("note what runs here: %w", err)
	}
	return lock(inside(dir))
}

// inside returns where the lock is: not beside the directory, where those are of clusters that have a kubeconfig.
func inside(dir string) string { return filepath.Join(dir, "worker") }

// workersOf returns the directories and the locks of the workers that have joined the cluster from here, and whether Docker
// runs the pods of any.
func workersOf(cluster string) (dirs, locks []string, inDocker bool, err error) {
	files, _ := filepath.Glob(filepath.Join(Home(), "*", "joined.json"))
	for _, file := range files {
		var worker joined
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &worker)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, false, fmt.Errorf("find the workers of this machine: %w", err)
		}
		if worker.Cluster == cluster {
			dir := filepath.Dir(file)
			dirs, locks, inDocker = append(dirs, dir), append(locks, inside(dir)), inDocker || worker.Runtime == Docker
		}
	}
	return dirs, locks, inDocker, nil
}
