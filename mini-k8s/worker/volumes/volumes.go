// Package volumes makes the files that pods are given: directories of their own, parts of the machine, and what ConfigMaps
// and Secrets hold.
//
// Invariants:
//  1. What is made for a pod lies in one directory, named by its UID, and goes with it. Nobody but root and the worker's
//     user gets into that from outside the pod's containers. What is the machine's is never removed.
//  2. A volume that is there is left as it is: an emptyDir outlives the containers, and what they made of its mode.
//  3. A container sees a ConfigMap or Secret whole, as it was at one time, or is not started: never a part of it.
//
// In Kubernetes: pkg/volume and the kubelet's volume manager, for these kinds, projected ones and storage of every vendor.
// Secrets are kept in memory alone there, and a subPath is opened step by step before it is mounted, so that no container can
// put a link in its way at the last moment.
package volumes

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Dir is where a node keeps the files of its pods; with none nothing is made, for containers that are hollow. Calls for
// different pods may run at the same time.
type Dir string

// Content is what a ConfigMap or Secret holds, by its keys.
type Content map[string][]byte

// The kinds that a Reader reads.
const (
	ConfigMap = "ConfigMap"
	Secret    = "Secret"
)

// Reader reads one of the ConfigMaps or Secrets of a pod's namespace. One that is optional and not there has no content.
type Reader func(kind, name string, optional bool) (Content, error)

// Make makes those of a pod's volumes that are not there, and brings the others up to date.
func (d Dir) Make(pod *corev1.Pod, read Reader) error {
	if d == "" {
		return nil
	}
	for _, v := range pod.Spec.Volumes {
		if err := d.makeVolume(pod, v, read); err != nil {
			return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err)
		}
	}
	return nil
}

func (d Dir) makeVolume(pod *corev1.Pod, v corev1.Volume, read Reader) error {
	if err := os.MkdirAll(d.of(pod.UID), 0o700); err != nil {
		return err
	}
	path := filepath.Join(d.of(pod.UID), v.Name)
	switch {
	case v.HostPath != nil:
		return makeHostPath(v.HostPath.Path, v.HostPath.Type)
	case v.EmptyDir != nil:
		return makeEmptyDir(path, v.EmptyDir.Medium, groupOf(pod))
	}
	return show(path, v, groupOf(pod), read)
}

// Source returns what of the machine is to be mounted for a mount of the pod, and whether it can only be read. The pod's
// volumes must have been made.
func (d Dir) Source(pod *corev1.Pod, mount corev1.VolumeMount) (path string, readOnly bool, err error) {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
	if i < 0 {
		return "", false, fmt.Errorf("the pod has no volume %q", mount.Name)
	}
	v := pod.Spec.Volumes[i]
	readOnly = v.ConfigMap != nil || v.Secret != nil
	if path = filepath.Join(d.of(pod.UID), v.Name); v.HostPath != nil {
		path = v.HostPath.Path
	}
	if mount.SubPath != "" && d != "" {
		if path, err = inside(path, mount.SubPath, readOnly); err != nil {
			return "", false, fmt.Errorf("subPath %q of volume %q: %w", mount.SubPath, v.Name, err)
		}
	}
	return path, readOnly || mount.ReadOnly, nil
}

// inside returns the path of what a subPath leads to. No link leads out of the volume. What is missing becomes a directory
// of all, unless the volume has its files from elsewhere.
func inside(volume, subPath string, readOnly bool) (string, error) {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err = root.Stat(subPath); errors.Is(err, fs.ErrNotExist) && !readOnly {
		err = root.MkdirAll(subPath, 0o755)
	}
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(filepath.Join(volume, subPath))
}

// Pods returns the UIDs of the pods that have files here.
func (d Dir) Pods() (uids []types.UID) {
	entries, _ := os.ReadDir(string(d)) // what cannot be listed cannot be removed either
	for _, entry := range entries {
		uids = append(uids, types.UID(entry.Name()))
	}
	return uids
}

// Remove removes what was made for a pod. Its containers must be gone.
func (d Dir) Remove(uid types.UID) error {
	if d == "" {
		return nil
	}
	return Remove(d.of(uid))
}

// Remove removes a directory in which there may be volumes.
func Remove(path string) error {
	for {
		err := os.RemoveAll(path)
		var busy *fs.PathError
		if !errors.As(err, &busy) || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		if err := unmount(busy.Path); err != nil { // memory, which RemoveAll has emptied
			return fmt.Errorf("unmount %s: %w", busy.Path, err)
		}
	}
}

func (d Dir) of(uid types.UID) string { return filepath.Join(string(d), string(uid)) }

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
var kinds = map[corev1.HostPathType]fs.FileMode{
	corev1.HostPathDirectory: fs.ModeDir, corev1.HostPathDirectoryOrCreate: fs.ModeDir,
	corev1.HostPathFile: 0, corev1.HostPathFileOrCreate: 0, corev1.HostPathSocket: fs.ModeSocket,
	corev1.HostPathCharDev: fs.ModeDevice | fs.ModeCharDevice, corev1.HostPathBlockDev: fs.ModeDevice,
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
	if wanted, ok := kinds[kind]; ok && (err != nil || info.Mode().Type() != wanted) {
		return fmt.Errorf("hostPath type check failed: %s is not of the type %s", path, kind)
	}
	return err
}
