// Package doctor looks whether a machine has what mini-k8s and the labs need, and says how to get what is missing. It
// changes nothing.
package doctor

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// What a check is needed for.
const (
	Labs    = "the labs"
	Docker  = "pods in Docker"
	Comfort = "comfort"
)

// Check is one thing that is needed.
type Check struct {
	Name string
	For  string // Labs, Docker or Comfort
	Look func(ctx context.Context) (found string, err error)
	Fix  string
}

// Checks are all of them.
var Checks = []Check{
	{"Go 1.26+", Labs, shell("go version"), "https://go.dev/dl (distributions often have older ones), or brew install go"},
	{"C compiler", Labs, shell("cc --version"), "sudo apt install gcc libc6-dev, or xcode-select --install"},
	{"memory 2 GB", Labs, memory, "close other programs, or give the virtual machine more"},
	{"disk 3 GB free", Labs, disk, "make room: go clean -cache, docker image prune"},
	{"clock", Labs, clock, "set it (sudo timedatectl set-ntp true): certificates of a wrong time are refused"},
	{"port 6443", Labs, port, "nothing to do: the next free one is taken; or stop what listens there"},
	{"Linux", Docker, shell("test $(uname) = Linux && uname -sr"), "use a virtual machine; simulated pods run anywhere"},
	{"root", Docker, shell("test $(id -u) = 0 && echo yes"), "run it with sudo: the pod network needs it"},
	{"Docker 20.10+", Docker, shell("docker version --format '{{.Server.Version}}'"), "make docker, or sudo apt install docker.io; if it is there: sudo systemctl start docker"},
	{"nftables", Docker, shell("nft --version"), "sudo apt install nftables"},
	{"iptables", Docker, shell("iptables --version"), "sudo apt install iptables"},
	// The oldest of the seven minor releases with which the API server is tested.
	{"kubectl 1.27+", Comfort, shell("kubectl version --client"), "https://kubernetes.io/docs/tasks/tools; `mini-k8s get` and its like do as well"},
}

// Examine runs all checks, writes what they found, and returns the names of those of Docker's needs that are missing,
// and of the labs'.
func Examine(ctx context.Context, out io.Writer) (forDocker, forLabs []string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	columns := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(columns, "NEEDED\tFOR\tFOUND")
	for _, check := range Checks {
		found, err := check.Look(ctx)
		if err != nil {
			found = "MISSING: " + check.Fix
			if text := strings.Join(strings.Fields(err.Error()), " "); text != "" {
				found += " (" + text + ")"
			}
			switch check.For {
			case Docker:
				forDocker = append(forDocker, check.Name)
			case Labs:
				forLabs = append(forLabs, check.Name)
			}
		}
		fmt.Fprintf(columns, "%s\t%s\t%s\n", check.Name, check.For, found)
	}
	columns.Flush()
	return forDocker, forLabs
}

// shell returns a check by a command that you can run yourself, and that succeeds if all is well.
func shell(command string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		// Also what only root has on its PATH.
		out, err := exec.CommandContext(ctx, "/bin/sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; "+command).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s", out)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		return first, nil
	}
}

func memory(ctx context.Context) (string, error) {
	text, err := os.ReadFile("/proc/meminfo")
	unit := 1024.0
	_, said, _ := strings.Cut(string(text), "MemAvailable:")
	if err != nil { // not Linux
		said, _ = shell("sysctl -n hw.memsize")(ctx)
		unit = 1
	}
	var amount float64
	if _, err := fmt.Sscan(said, &amount); err != nil {
		return "not known here", nil
	}
	return atLeast(amount*unit, 2)
}

func disk(context.Context) (string, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(".", &stat); err != nil {
		return "", err
	}
	return atLeast(float64(stat.Bavail)*float64(stat.Bsize), 3)
}

func atLeast(bytes, gigabytes float64) (string, error) {
	text := fmt.Sprintf("%.1f GB", bytes/1e9)
	if bytes < gigabytes*1e9 {
		return "", fmt.Errorf("there are %s", text)
	}
	return text, nil
}

// clock compares the time with that of the newest commit here, which cannot be in the future.
func clock(ctx context.Context) (string, error) {
	now := time.Now()
	text, err := shell("git log -1 --format=%ct")(ctx)
	var seconds int64
	if _, scanErr := fmt.Sscan(text, &seconds); err == nil && scanErr == nil && now.Before(time.Unix(seconds, 0).Add(-24*time.Hour)) {
		return "", fmt.Errorf("it says %s, which is before the newest commit here", now.Format(time.DateTime))
	}
	return now.Format(time.DateTime), nil
}

func port(context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:6443")
	if err != nil {
		return "taken; a cluster takes the next free one", nil
	}
	l.Close()
	return "free", nil
}
