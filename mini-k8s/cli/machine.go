package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machine is what the doctor looks at. A size is 0 if it cannot be found out.
type machine struct {
	os     string
	root   bool
	run    func(ctx context.Context, command ...string) (output string, err error) // the error has what went to stderr
	disk   func() (bytes uint64)
	memory func(ctx context.Context) (bytes uint64)
	free   func(address string) bool
	built  time.Time // when this program was, which is past if the clock is right
}

// thisMachine is the one that the program runs on.
func thisMachine() machine {
	m := machine{os: runtime.GOOS, root: os.Geteuid() == 0, run: run, disk: freeDisk, memory: memory, free: freePort}
	if path, err := os.Executable(); err == nil {
		if program, err := os.Stat(path); err == nil {
			m.built = program.ModTime().Add(-time.Minute)
		}
	}
	return m
}

// run also finds what only root has on its PATH.
func run(ctx context.Context, command ...string) (string, error) {
	path, err := exec.LookPath(command[0])
	for _, directory := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(directory + command[0])
		}
	}
	if err != nil {
		return "", err
	}
	output, err := exec.CommandContext(ctx, path, command[1:]...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(output), err
}

func freeDisk() uint64 {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(".", &disk); err != nil {
		return 0
	}
	return disk.Bavail * uint64(disk.Bsize)
}

// memory returns what programs can still have; on macOS, which gives that no name, what is built in.
func memory(ctx context.Context) (bytes uint64) {
	if runtime.GOOS == "darwin" {
		text, _ := run(ctx, "sysctl", "-n", "hw.memsize")
		_, _ = fmt.Sscan(text, &bytes)
		return bytes
	}
	text, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	_, _ = fmt.Sscan(rest, &bytes)
	return bytes << 10
}

func freePort(address string) bool {
	listener, err := net.Listen("tcp", address)
	return err == nil && listener.Close() == nil
}
