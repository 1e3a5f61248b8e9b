package volumes

// Volumes that show what a ConfigMap or Secret holds. It looks like this, for a ConfigMap with the key color:
//
//	..5feceb66ffc8/color       the content; the name is its hash
//	..data -> ..5feceb66ffc8
//	color -> ..data/color
//
// What has changed is written beside it. Then ..data is replaced, in one step, and with it all files change.
//
// In Kubernetes: the AtomicWriter of pkg/volume/util.

import (
	"crypto/sha256"
	"encoding/json"
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

// filesOf returns what the volume shows, by path.
func filesOf(v corev1.Volume, read Reader) (map[string]file, error) {
	var kind, name string
	var items []corev1.KeyToPath
	var mode *int32
	var optional *bool
	switch {
	case v.ConfigMap != nil:
		kind, name, items, mode, optional = ConfigMap, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional
	case v.Secret != nil:
		kind, name, items, mode, optional = Secret, v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional
	default:
		return nil, fmt.Errorf("it is of a kind that this worker does not know")
	}
	mayMiss := ptr.Deref(optional, false)
	content, err := read(kind, name, mayMiss)
	if err != nil {
		return nil, err
	}
	files, err := project(content, items, mode, mayMiss)
	if err != nil {
		return nil, fmt.Errorf("%s %q %w", strings.ToLower(kind), name, err)
	}
	return files, nil
}

// project returns the files that items make of content: if there are none, one for each key.
func project(content Content, items []corev1.KeyToPath, mode *int32, mayMiss bool) (map[string]file, error) {
	standard := fs.FileMode(ptr.Deref(mode, corev1.ConfigMapVolumeSourceDefaultMode)) // a Secret's is the same
	all := map[string]file{}
	for key, text := range content.Text {
		all[key] = file{[]byte(text), standard}
	}
	for key, data := range content.Binary {
		all[key] = file{data, standard}
	}
	if len(items) == 0 {
		return all, nil
	}
	files := map[string]file{}
	for _, item := range items {
		f, found := all[item.Key]
		if !found && !mayMiss {
			return nil, fmt.Errorf("references non-existent key: %s", item.Key)
		}
		f.Mode = fs.FileMode(ptr.Deref(item.Mode, int32(f.Mode)))
		if found {
			files[filepath.Clean(item.Path)] = f
		}
	}
	return files, nil
}

// show makes a directory show these files and no others. All of it can be done again after it was interrupted anywhere.
func show(dir string, files map[string]file, group int) error {
	described, err := json.Marshal(files) // with the paths in order
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := give(dir, group, 0o755); err != nil {
		return err
	}
	hash := sha256.Sum256(described)
	version := fmt.Sprintf("..%x", hash[:8])
	if shown, _ := os.Readlink(filepath.Join(dir, current)); shown != version {
		if err := write(filepath.Join(dir, version), files, group); err != nil {
			return err
		}
		if err := replaceLink(version, filepath.Join(dir, current)); err != nil {
			return err
		}
	}
	return tidy(dir, version, files)
}

// write writes the files into a new directory, which is gone again if that fails.
func write(dir string, files map[string]file, group int) (err error) {
	if err := os.RemoveAll(dir); err != nil { // half of it may be there
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir) // makes room; if that fails, too, the next try does it
		}
	}()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // no path leads out of it
	if err != nil {
		return err
	}
	defer root.Close()
	for path, f := range files {
		if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(path, f.Data, 0o600); err != nil {
			return err
		}
		if group != noGroup {
			f.Mode |= 0o440
		}
		if err := give(filepath.Join(dir, path), group, f.Mode); err != nil {
			return err
		}
		for ; path != "."; path = filepath.Dir(path) {
			if err := give(filepath.Join(dir, filepath.Dir(path)), group, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceLink makes a link lead elsewhere, in one step.
func replaceLink(to, link string) error {
	fresh := link + "_tmp"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(to, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}

// tidy gives each file, or the directory at the beginning of its path, a link, and removes what is not shown any more.
func tidy(dir, version string, files map[string]file) error {
	keep := []string{current, version}
	for path := range files {
		name, _, _ := strings.Cut(path, "/")
		if slices.Contains(keep, name) {
			continue
		}
		keep = append(keep, name)
		link, to := filepath.Join(dir, name), filepath.Join(current, name)
		if there, _ := os.Readlink(link); there != to {
			if err := replaceLink(to, link); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if !slices.Contains(keep, entry.Name()) && err == nil {
			err = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
	return err
}
