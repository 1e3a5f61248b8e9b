package volumes

// Volumes in memory: file systems that the worker mounts, so that they outlive the containers.

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a file system in memory, if none is there: after the machine has started anew there is only its place.
func mountMemory(path string, group int) error {
	if err := os.Remove(path); errors.Is(err, unix.EBUSY) {
		return nil // it is mounted
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	options := "mode=0777"
	if group != noGroup {
		options = fmt.Sprintf("mode=02777,gid=%d", group)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount memory at %s: %w", path, err)
	}
	return nil
}

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }
