package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// DefaultName is the name of a cluster that was given none.
const DefaultName = "mini"

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$`)

// Home returns the directory under which clusters keep their state: $MINI_K8S_HOME, or /var/lib/mini-k8s for root,
// whatever its HOME is, or ~/.mini-k8s.
func Home() string {
	if home := os.Getenv("MINI_K8S_HOME"); home != "" {
		return home
	}
	if os.Geteuid() == 0 {
		return "/var/lib/mini-k8s"
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
	if os.Getenv("MINI_K8S_HOME") == "" {
		homes = append(homes, "/var/lib/mini-k8s") // root's, for others: its kubeconfig may be theirs
	}
	found := map[string]string{}
	for _, home := range homes {
		entries, err := os.ReadDir(home)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if dir := filepath.Join(home, entry.Name()); isRunning(dir) && (name == "" || name == entry.Name()) {
				found[dir] = filepath.Join(dir, "kubeconfig")
			}
		}
	}
	var paths, names []string
	for dir, path := range found {
		paths, names = append(paths, path), append(names, filepath.Base(dir))
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

// settings are what a cluster was started with; the next `up` of the name goes on with them.
type settings struct {
	Listen      string `json:"listen"`
	ClusterCIDR string `json:"clusterCIDR"`
	Runtime     string `json:"runtime"`
}

// loadSettings refuses the directory of a `mini-k8s master`, whose default is the same: it is not ours to go on with,
// or to remove.
func loadSettings(dir string) (s settings, exists bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "state.db")); err == nil {
			return s, true, fmt.Errorf("%s holds the state of a `mini-k8s master`: choose another --name, or remove it yourself", dir)
		}
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return s, true, fmt.Errorf("read what the cluster was started with: %w", err)
	}
	return s, true, nil
}

func (s settings) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "cluster.json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path) // all of it or nothing, whenever we are killed
}

// lock makes this process the only one that runs the cluster. The kernel lets go of the lock when the process
// ends, however it ends.
func lock(dir string) (release func(), err error) {
	path := filepath.Join(dir, "lock")
	for range 100 { // a cluster that is going down may take the directory away under our hands, or the lock
		if err = os.MkdirAll(dir, 0o755); err != nil {
			err = fmt.Errorf("make the directory for the state: %w", err)
			continue
		}
		var file *os.File
		if file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
			continue
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close()
			return nil, fmt.Errorf("cluster %q runs already: stop it with `mini-k8s down --name %[1]s`, or start another with --name", filepath.Base(dir))
		}
		if isAt(path, file) {
			file.Truncate(0)
			fmt.Fprintln(file, os.Getpid())
			return func() { file.Close() }, nil
		}
		file.Close()
		err = fmt.Errorf("%s does not stay", path)
	}
	return nil, err
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

// removeState removes the directory, and the lock last: whoever gets the next one finds nothing old.
func removeState(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	failures := []error{err}
	for _, entry := range entries {
		if entry.Name() != "lock" {
			failures = append(failures, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "lock")); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) { // not empty: the next is there
		return err
	}
	return nil
}

func isRunning(dir string) bool {
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// runner returns the process that runs the cluster.
func runner(dir string) (*os.Process, error) {
	text, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s does not tell which process runs the cluster", filepath.Join(dir, "lock"))
	}
	return os.FindProcess(pid)
}
