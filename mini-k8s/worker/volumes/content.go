package volumes

// Volumes that show what a ConfigMap or Secret holds. It looks like this, for a ConfigMap with the key color:
//
//	..5feceb66ffc86f38/color    the content; the name is its hash
//	..data -> ..5feceb66ffc86f38
//	color -> ..data/color
//
// What has changed is written beside it. Then ..data is replaced, in one step, and with it all files change.
//
// In Kubernetes: the AtomicWriter of pkg/volume/util.

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// current leads to the content that is shown.
const current = "..data"

// file is one that a volume shows.
type file struct {
	Data []byte
	Mode fs.FileMode
}

// filesOf returns what the volume shows, by path: what its items say, or if there are none a file for each key.
func filesOf(v corev1.Volume, read Reader) (map[string]file, error) {
	kind, from := ConfigMap, v.ConfigMap
	if s := v.Secret; s != nil {
		kind, from = Secret, &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: s.SecretName},
			Items: s.Items, DefaultMode: s.DefaultMode, Optional: s.Optional}
	}
	if from == nil {
		return nil, errors.New("it is of a kind that this worker does not know")
	}
	optional, mode := ptr.Deref(from.Optional, false), ptr.Deref(from.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode) // a Secret's is the same
	content, err := read(kind, from.Name, optional)
	if err != nil {
		return nil, err
	}
	files := map[string]file{}
	if len(from.Items) == 0 {
		for key, data := range content {
			files[key] = file{data, fs.FileMode(mode)}
		}
	}
	for _, item := range from.Items {
		data, found := content[item.Key]
		switch {
		case !filepath.IsLocal(item.Path):
			return nil, fmt.Errorf("path %q leads out of the volume", item.Path)
		case found:
			files[filepath.Clean(item.Path)] = file{data, fs.FileMode(ptr.Deref(item.Mode, mode))}
		case !optional:
			return nil, fmt.Errorf("%s %q references non-existent key: %s", strings.ToLower(kind), from.Name, item.Key)
		}
	}
	return files, nil
}

// show makes a directory show what the volume has, and nothing else. All of it can be done again after it was interrupted
// anywhere.
func show(dir string, v corev1.Volume, group int, read Reader) error {
	files, err1 := filesOf(v, read)
	described, err2 := json.Marshal(files) // with the paths in order
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	hash := sha256.Sum256(described)
	version := fmt.Sprintf("..%x", hash[:8])
	if shown, _ := os.Readlink(filepath.Join(dir, current)); shown != version {
		path := filepath.Join(dir, version)
		if err := errors.Join(os.RemoveAll(path), write(path, files, group)); err != nil { // half of it may have been there
			return errors.Join(err, os.RemoveAll(path)) // a full disk gets its room back
		}
		if err := link(version, filepath.Join(dir, current)); err != nil {
			return err
		}
	}
	return tidy(dir, version, files)
}

// write writes the files. All may look into the directories, whatever the umask is.
func write(dir string, files map[string]file, group int) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	for path, f := range files {
		for i, letter := range path {
			if letter != '/' {
				continue
			}
			if err := makeDir(filepath.Join(dir, path[:i])); err != nil {
				return err
			}
		}
		if group != noGroup {
			f.Mode |= 0o440
		}
		path = filepath.Join(dir, path)
		if err := cmp.Or(os.WriteFile(path, f.Data, 0o600), give(path, group, f.Mode)); err != nil {
			return err
		}
	}
	return nil
}

func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// link makes a link, or has one that is there lead elsewhere, in one step.
func link(to, path string) error {
	fresh := path + "_tmp"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Symlink(to, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// tidy gives each file, or the directory at the beginning of its path, a link, and removes what is not shown any more.
func tidy(dir, version string, files map[string]file) error {
	keep := []string{current, version}
	for path := range files {
		name, _, _ := strings.Cut(path, "/")
		keep = append(keep, name)
		to := filepath.Join(current, name)
		if there, _ := os.Readlink(filepath.Join(dir, name)); there != to {
			if err := link(to, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if !slices.Contains(keep, entry.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}
