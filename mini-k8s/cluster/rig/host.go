package rig

// A host is a set of namespaces: network, processes, mounts and name. Its first process reads from a pipe that this
// process holds. When the pipe ends, for whatever reason, that process ends, and the kernel ends all that is in its
// process namespace: so nothing of a rig outlives a test, also one that was killed.

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// setup is how a host comes up. What it would share with this machine without its wish gets covered: /run with its
// sockets and locks, /var/lib with the state of Docker and ours, /sys with the network devices, resolv.conf.
const setup = `set -e
dir=$1 name=$2
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
mount --bind "$dir/lib" /var/lib
resolv=$(readlink -m /etc/resolv.conf)
case $resolv in
/run/*) mkdir -p "$(dirname "$resolv")" && : >"$resolv" ;;
*) mount --bind "$dir/resolv.conf" "$resolv" ;;
esac
hostname "$name"
ip link set lo up
echo ready
exec cat
`

// Host is one of the machines.
type Host struct {
	Name, Address string
	t             testing.TB
	rig           *Rig
	dir           string
	first         *exec.Cmd // the first process
	pipe          io.Closer // its end is the host's
	pidfd         int
	cable         *cable
	started       sync.WaitGroup
}

func (r *Rig) newHost(number int) (*Host, error) {
	h := &Host{Name: fmt.Sprintf("host-%d", number), Address: fmt.Sprintf("198.51.100.%d", number), t: r.t, rig: r}
	h.dir = filepath.Join(r.dir, h.Name)
	if err := os.MkdirAll(filepath.Join(h.dir, "lib"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(h.dir, "resolv.conf"), nil, 0o644); err != nil {
		return nil, err
	}
	h.first = exec.Command("sh", "-c", setup, "sh", h.dir, h.Name)
	h.first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	var stderr strings.Builder
	h.first.Stderr = &stderr
	out, err := h.first.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if h.pipe, err = h.first.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.first.Start(); err != nil {
		return nil, fmt.Errorf("make the namespaces of %s: %w", h.Name, err)
	}
	if said, _ := bufio.NewReader(out).ReadString('\n'); said != "ready\n" {
		h.pipe.Close()
		h.first.Wait()
		return nil, fmt.Errorf("set up %s: %s", h.Name, stderr.String())
	}
	if h.pidfd, err = unix.PidfdOpen(h.first.Process.Pid, 0); err == nil {
		err = h.plugIn([]byte{2, 0, 0, 0, 0, byte(number)})
	}
	if err != nil {
		h.end()
	}
	return h, err
}

// plugIn gives the host its cable, its address, and a way to everywhere that nobody answers on.
func (h *Host) plugIn(mac net.HardwareAddr) (err error) {
	if inside := h.inside(func() { h.cable, err = h.rig.wire.attach(mac) }); inside != nil {
		return inside
	}
	for _, command := range []string{"link set eth0 address " + mac.String(), "address add " + h.Address + "/24 dev eth0", "link set eth0 up",
		"route add default via 198.51.100.254"} {
		if err == nil {
			_, err = h.Try("ip", strings.Fields(command)...)
		}
	}
	return err
}

// end ends the host, with all that runs on it.
func (h *Host) end() {
	h.pipe.Close()
	h.started.Wait()
	h.first.Wait()
	if h.cable != nil {
		h.rig.wire.detach(h.cable)
	}
	unix.Close(h.pidfd)
}

// inside calls a function on a thread of the host: what it opens, and the processes that it starts, are the host's.
func (h *Host) inside(do func()) (err error) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with this goroutine
		if err = unix.Unshare(unix.CLONE_FS); err == nil {
			err = unix.Setns(h.pidfd, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)
		}
		if err == nil {
			do()
		}
	})
	done.Wait()
	if err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	return nil
}

// start starts a program on the host. "mini-k8s" is ours, and "hello" the one in our image.
func (h *Host) start(cmd *exec.Cmd) error {
	for name, path := range map[string]string{"mini-k8s": h.rig.binary, "hello": h.rig.hello} {
		if cmd.Args[0] == name {
			cmd.Path, cmd.Err = path, nil
		}
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "KUBECONFIG=" + kubeconfig, "GORACE=halt_on_error=1 atexit_sleep_ms=0"}
	err := h.inside(func() { cmd.Err = cmd.Start() })
	if err == nil {
		err = cmd.Err
	}
	return err
}

// Try runs a program on the host and returns what it wrote.
func (h *Host) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := h.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(cmd.Args, " "), err, out.String())
	}
	return out.String(), err
}

// Run is Try for what must succeed.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	out, err := h.Try(name, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// Dial opens a connection from the host.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	if inside := h.inside(func() { c, err = dialer.DialContext(ctx, network, address) }); inside != nil {
		return nil, inside
	}
	return c, err
}

// Get returns what a URL answers, asked from the host over a connection of its own.
func (h *Host) Get(url string) (string, error) {
	asks := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}
	response, err := asks.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// transport returns how a client on this host speaks to a server.
func (h *Host) transport(tls *tls.Config) *http.Transport {
	return &http.Transport{TLSClientConfig: tls, DialContext: h.Dial, ForceAttemptHTTP2: true}
}

// Process is a program that goes on, until Stop or the host's end.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// Start starts a program on the host.
func (h *Host) Start(name string, args ...string) *Process {
	h.t.Helper()
	p := &Process{t: h.t, cmd: exec.Command(name, args...), log: filepath.Join(h.dir, name+"-"+strings.Join(args[:min(len(args), 1)], "")+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := h.start(p.cmd); err != nil {
		h.t.Fatalf("%s: start %s: %v", h.Name, name, err)
	}
	h.started.Go(func() {
		defer close(p.ended)
		p.cmd.Wait()
	})
	return p
}

// Printed returns what the program has written so far, with what an earlier one of the same name has.
func (p *Process) Printed() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// Pid is the program's on this machine.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Stop sends the signal and waits for the end.
func (p *Process) Stop(signal os.Signal) {
	p.t.Helper()
	p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("%v does not stop it:\n%s", signal, p.Printed())
	}
}

// Cut takes the host off the network, as if its cable were pulled: nothing is told of it, frames just do not arrive.
func (h *Host) Cut() { h.rig.wire.change(h.cable, func(c *cable) { c.cut = true }) }

// Drop loses so many percent of the frames from the host, and to it.
func (h *Host) Drop(percent int) { h.rig.wire.change(h.cable, func(c *cable) { c.drop = percent }) }

// Delay has every frame from the host, and to it, come so much later.
func (h *Host) Delay(d time.Duration) { h.rig.wire.change(h.cable, func(c *cable) { c.delay = d }) }

// Heal ends all faults of the host's cable.
func (h *Host) Heal() {
	h.rig.wire.change(h.cable, func(c *cable) { c.cut, c.drop, c.delay = false, 0, 0 })
}
