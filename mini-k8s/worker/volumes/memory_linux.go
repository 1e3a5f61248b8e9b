package volumes

// Volumes in memory: file systems that the worker mounts, so that they outlive the containers.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a file system in memory, if none is there: after the machine has started anew there is only its place.
func mountMemory(path string, group int) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	outside, err1 := os.Stat(filepath.Dir(path))
	inside, err2 := os.Stat(path)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if outside.Sys().(*syscall.Stat_t).Dev != inside.Sys().(*syscall.Stat_t).Dev {
		return nil
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

// unmountBelow unmounts what is mounted below a path that has no links in it.
func unmountBelow(path string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for _, line := range slices.Backward(strings.Split(string(table), "\n")) { // the last that was mounted first
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(unescape.Replace(fields[4]), path+"/") {
			continue
		}
		point := unescape.Replace(fields[4])
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) { // somebody else did
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}
