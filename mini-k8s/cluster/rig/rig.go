// Package rig makes several machines of one, for tests. How to use it:
//
//	r := rig.New(t, 2)                     // two hosts on one switch; all is gone when the test ends, however it ends
//	a, b := r.Hosts[0], r.Hosts[1]
//	a.Run("ip", "route")                   // runs a program there, which must succeed; Try may fail
//	b.Get("http://" + a.Address + ":8080") // asks from there; Dial opens a connection
//	p := a.Start("hello")                  // goes on; p.Stop(syscall.SIGTERM), p.Printed()
//
//	r.Up()                                 // a Docker on each host, a master on the first, a worker on each
//	r.Client                               // of the master; the nodes have the hosts' names
//	r.Workers[1].Stop(os.Interrupt)        // a host's worker; r.StartWorker(b) starts it again, and so with r.Dockers, r.Master
//
//	b.Cut()                                // pulls its cable
//	b.Delay(50 * time.Millisecond)         // to and from it
//	b.Drop(10)                             // percent of what is sent, to and from it
//	b.Heal()                               // takes all that back
//
// A host has a network, processes, mounts and a name of its own, and an own /run and /var/lib: programs run there with
// their defaults, as on a machine that is not shared. Its only cable leads to the switch, which is in this process: nothing
// that hosts send leaves this machine, or is seen on it. It takes root, /dev/net/tun, dockerd, nft, iptables and ip; where
// one is missing the test is skipped, and with CI=true it fails.
package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
)

const (
	prefix     = "mini-k8s-rig-"
	kubeconfig = "/var/lib/mini-k8s/mini/kubeconfig" // on the first host
	cgroups    = "/sys/fs/cgroup"
)

// Rig is some hosts.
type Rig struct {
	Hosts   []*Host
	Client  *client.Client // the admin's, on the first host; after Up
	Master  *Process       // on the first host; after Up
	Dockers []*Process     // by host, as Workers; after Up
	Workers []*Process

	t             testing.TB
	dir           string
	binary, hello string
	token         string // with which workers join
	wire          wire
}

// New returns so many hosts, on which nothing runs.
func New(t testing.TB, hosts int) *Rig {
	t.Helper()
	need(t)
	sweep(t)
	r := &Rig{t: t}
	var err error
	if r.dir, err = os.MkdirTemp("", prefix); err != nil {
		t.Fatal(err)
	}
	unlock, ok := lock(r.dir)
	if !ok {
		t.Fatalf("somebody else has %s", r.dir)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.tell()
		}
		for _, h := range r.Hosts {
			h.end()
		}
		remove(t, r.dir)
		unlock()
	})
	if err := r.build(); err != nil {
		t.Fatal(err)
	}
	for range hosts {
		r.AddHost()
	}
	return r
}

// AddHost returns one more host.
func (r *Rig) AddHost() *Host {
	r.t.Helper()
	h, err := r.newHost(len(r.Hosts) + 1)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Hosts = append(r.Hosts, h)
	return h
}

// Up starts a cluster on all hosts that there are, and returns when its nodes are ready.
func (r *Rig) Up() {
	r.t.Helper()
	var starting sync.WaitGroup
	for _, h := range r.Hosts {
		r.Dockers = append(r.Dockers, r.StartDocker(h))
		starting.Go(func() {
			r.Eventually("Docker answers on "+h.Name, func() error { _, err := h.Try("docker", "version"); return err })
		})
	}
	first := r.Hosts[0]
	r.Master = r.StartMaster()
	r.Eventually("the master runs", func() error {
		if !strings.Contains(r.Master.Printed(), "--token") {
			return errors.New(r.Master.Printed())
		}
		return nil
	})
	r.token = strings.TrimSpace(first.Run("mini-k8s", "token"))
	config, err := pki.ReadKubeconfig(filepath.Join(first.dir, "lib", strings.TrimPrefix(kubeconfig, "/var/lib")))
	if err != nil {
		r.t.Fatal(err)
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Client = client.New(client.Config{Server: config.Server, Name: "test", Transport: first.transport(tls)})
	starting.Wait()
	for _, h := range r.Hosts {
		r.Workers = append(r.Workers, r.StartWorker(h))
	}
	for _, h := range r.Hosts {
		r.Eventually(h.Name+" is ready", func() error { return r.isReady(h) })
	}
}

// StartDocker starts the host's own Docker.
func (r *Rig) StartDocker(h *Host) *Process {
	r.t.Helper()
	return h.Start("dockerd", "--exec-opt=native.cgroupdriver=cgroupfs", "--cgroup-parent=/"+filepath.Base(r.dir))
}

// StartMaster starts the master on the first host.
func (r *Rig) StartMaster() *Process {
	r.t.Helper()
	return r.Hosts[0].Start("mini-k8s", "master", "--listen", r.Hosts[0].Address+":6443")
}

// StartWorker starts the host's worker, which is called as the host is.
func (r *Rig) StartWorker(h *Host) *Process {
	r.t.Helper()
	return h.Start("mini-k8s", "worker", "--master", "https://"+r.Hosts[0].Address+":6443", "--token", r.token)
}

func (r *Rig) isReady(h *Host) error {
	node, err := client.Of[*corev1.Node](r.Client).Get(r.t.Context(), "", h.Name)
	if err == nil && !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}) {
		err = fmt.Errorf("its conditions are %v", node.Status.Conditions)
	}
	return err
}

// Eventually returns when the condition holds, and fails the test with its last error if it does not in time.
func (r *Rig) Eventually(what string, holds func() error) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := holds(); err != nil; err = holds() {
		if time.Now().After(deadline) {
			r.t.Errorf("in vain: %s: %v", what, err)
			runtime.Goexit()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// build builds what runs on the hosts.
func (r *Rig) build() error {
	r.binary = filepath.Join(r.dir, "bin", "mini-k8s")
	args := []string{"build", "-o", r.binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	builds := []*exec.Cmd{exec.Command("go", append(args, "workshop/mini-k8s")...)}
	for _, image := range []images.Image{images.Pause, images.HelloV1} {
		to := filepath.Join(r.dir, "bin", "images", runtime.GOARCH, image.Program)
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, "workshop/mini-k8s/images/"+image.Program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		builds, r.hello = append(builds, build), to
	}
	for _, build := range builds {
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", build.Args, err, out)
		}
	}
	return nil
}

// tell logs what the programs have written, for a test that has failed.
func (r *Rig) tell() {
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*", "*.log"))
	for _, log := range logs {
		if text, err := os.ReadFile(log); err == nil {
			r.t.Logf("%s:\n%s", strings.TrimPrefix(log, r.dir), text)
		}
	}
}

func need(t testing.TB) {
	t.Helper()
	var missing error
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		missing = errors.New("several hosts on one take root on Linux")
	}
	for _, program := range []string{"dockerd", "docker", "nft", "iptables", "ip"} {
		_, err := exec.LookPath(program)
		missing = errors.Join(missing, err)
	}
	_, err := os.Stat("/dev/net/tun")
	if missing = errors.Join(missing, err); missing == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// lock holds a rig's directory for as long as this process lives. It reports false if another one holds it.
func lock(dir string) (unlock func(), ok bool) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, false
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		file.Close()
		return nil, false
	}
	return func() { file.Close() }, true
}

// sweep removes what rigs of dead processes have left: files. All else ended with them. A rig that is just being made is
// not locked yet.
func sweep(t testing.TB) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if unlock, ok := lock(dir); ok {
			remove(t, dir)
			unlock()
		}
	}
}

// remove removes a rig's directory, and the control groups of its containers, of which there is a tree for each kind, or
// one for all.
func remove(t testing.TB, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	trees, _ := filepath.Glob(filepath.Join(cgroups, "*", filepath.Base(dir)))
	for _, tree := range append(trees, filepath.Join(cgroups, filepath.Base(dir))) {
		var groups []string
		filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) { // the inner ones first
			if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
	}
}
