package volumes

// Volumes that containers write to.

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// noGroup is in the place of a pod's fsGroup, if it has none.
const noGroup = -1

// groupOf returns the group that gets all rights to what is made for a pod.
func groupOf(pod *corev1.Pod) int {
	if s := pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		return int(*s.FSGroup)
	}
	return noGroup
}

// give gives a file to the group and sets its mode, whatever the umask is. A change of the group takes bits of the mode away.
func give(path string, group int, mode fs.FileMode) error {
	return cmp.Or(os.Chown(path, -1, group), os.Chmod(path, mode))
}

// makeEmptyDir makes a directory that everybody may write to. It has its name only when all is done.
func makeEmptyDir(path string, medium corev1.StorageMedium, group int) error {
	if medium == corev1.StorageMediumMemory {
		return mountMemory(path, group)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new" // no volume has a dot in its name
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mode := fs.ModePerm
	if group != noGroup {
		mode |= fs.ModeSetgid // so that what is made in it is the group's as well
	}
	if err := give(fresh, group, mode); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// kinds are the types of hostPath volumes: what has to be there.
var kinds = map[corev1.HostPathType]struct {
	mode fs.FileMode
	name string
}{
	corev1.HostPathDirectory:         {fs.ModeDir, "a directory"},
	corev1.HostPathDirectoryOrCreate: {fs.ModeDir, "a directory"},
	corev1.HostPathFile:              {0, "a file"},
	corev1.HostPathFileOrCreate:      {0, "a file"},
	corev1.HostPathSocket:            {fs.ModeSocket, "a socket file"},
	corev1.HostPathCharDev:           {fs.ModeDevice | fs.ModeCharDevice, "a character device"},
	corev1.HostPathBlockDev:          {fs.ModeDevice, "a block device"},
}

// makeHostPath makes what may be missing, and checks what must be there. With no type anything will do, and what is missing
// becomes a directory, as it does with containerd.
func makeHostPath(path string, of *corev1.HostPathType) error {
	kind := ptr.Deref(of, corev1.HostPathUnset)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch kind {
		case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
			return os.MkdirAll(path, 0o755)
		case corev1.HostPathFileOrCreate:
			return os.WriteFile(path, nil, 0o644)
		}
	}
	if wanted, ok := kinds[kind]; ok && (err != nil || info.Mode().Type() != wanted.mode) {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, wanted.name)
	}
	return err
}
