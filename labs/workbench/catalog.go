// Package workbench is the learner's tool, `go run ./labs`: it knows the labs, makes their starters and solutions out
// of mini-k8s itself, checks what a learner has written, and starts clusters with it.
//
// Invariants:
//  1. mini-k8s/ is the only code written by hand. A function there that carries //lab:NN N is task N of lab NN.
//  2. What a learner has written is never lost: whatever replaces it keeps a copy first.
//  3. The tool compiles whatever state the labs are in: it imports none of them.
package workbench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Lab is one row of the path.
type Lab struct {
	Number  string // "05"
	Name    string // "scheduler"
	Title   string
	Package string // the folder in mini-k8s that it is cut out of; empty: the lab is still to come
	Docker  bool   // its tests run real containers
	Lit     string // its parts of the architecture, as the picture names them
}

// Labs in the order of the path.
var Labs = []Lab{
	{"01", "containers", "Containers: drive Docker from Go", "worker/runtime", true, "runtime"},
	{"02", "pods", "Pods: desired and actual containers", "worker/kubelet", false, "kubelet"},
	{"03", "state", "State: revisions, compare-and-swap, watch", "master/store", false, "store"},
	{"04", "api-server", "The API server: REST, conflicts, watches", "master/apiserver", false, "apiserver"},
	{"05", "scheduler", "The scheduler: filter, score, bind", "master/scheduler", false, "scheduler"},
	{"06", "replicasets", "ReplicaSets: the reconcile loop", "master/controllers/replicaset", false, "replicaset"},
	{"07", "self-healing", "Self-healing: heartbeats, eviction", "", false, "node"},
	{"08", "services", "Services: endpoints and packet rules", "", true, "endpoints proxy"},
	{"09", "dns", "DNS: names for services and pods", "", false, "dns"},
	{"10", "rollouts", "Rollouts: from one version to the next", "", false, "deployment"},
	{"11", "autoscaling", "Autoscaling: as many pods as it takes", "", false, "autoscaler"},
	{"12", "high-availability", "Several masters: leases and leaders", "", false, "leader store"},
	{"13", "cluster", "Your own code on real machines", "", true, "runtime kubelet store apiserver scheduler replicaset node endpoints proxy dns deployment autoscaler leader"},
}

// Dir returns the lab's folder, relative to the root: "labs/05-scheduler".
func (l Lab) Dir() string { return "labs/" + l.Number + "-" + l.Name }

// Solution returns the folder of the finished package.
func (l Lab) Solution() string { return "solutions/" + l.Number + "-" + l.Name }

// Source returns the folder that the lab is cut out of.
func (l Lab) Source() string { return "mini-k8s/" + l.Package }

// ToCome reports whether the lab is not there yet.
func (l Lab) ToCome() bool { return l.Package == "" }

// Find returns the lab that a learner names: "5", "05", "scheduler", "05-scheduler" or its folder.
func Find(name string) (Lab, error) {
	word := filepath.Base(strings.TrimSuffix(name, "/"))
	number, err := strconv.Atoi(word)
	for _, l := range Labs {
		if err == nil && l.Number == fmt.Sprintf("%02d", number) || word == l.Name || word == l.Number+"-"+l.Name {
			if l.ToCome() {
				return l, fmt.Errorf("lab %s (%s) is still to come; in a cluster the reference stands in for it", l.Number, l.Name)
			}
			return l, nil
		}
	}
	return Lab{}, fmt.Errorf("there is no lab %q: `go run ./labs list` shows them", name)
}

// Available returns the labs that are there.
func Available() []Lab {
	var there []Lab
	for _, l := range Labs {
		if !l.ToCome() {
			there = append(there, l)
		}
	}
	return there
}

// Root returns the top folder of the clone that dir is in.
func Root(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "labs", "workbench")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a clone of the workshop: change to the folder that has labs/ in it", dir)
		}
	}
}
