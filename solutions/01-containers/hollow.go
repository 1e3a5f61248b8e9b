package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hollowBacklog is how many events wait for a reader. One that is further behind misses some, and finds out at its next
// look at all pods.
const hollowBacklog = 256

// HollowOptions may be left out.
type HollowOptions struct {
	// PodCIDR is asked at each start of a sandbox, as a node gets its range only after it has registered.
	// Default: 10.244.0.0/24.
	PodCIDR func() string
}

// Hollow is a runtime with no containers in it: pods start, have addresses and end, in memory. It serves tests,
// simulations of a thousand nodes and machines that have no Docker. What it does not do: run programs, answer on
// the addresses, survive its process.
//
// A container runs until it is signalled (SIGTERM: code 0, SIGKILL: 137), or until Exit says so. Init containers end
// at once, and so do those with the arguments "exit N", as our image hello knows them. An image whose name contains
// "does-not-exist" cannot be pulled.
type Hollow struct {
	options HollowOptions

	mu       sync.Mutex        // guards all below
	pods     map[types.UID]Pod // what a pod refers to is never changed, only replaced: see change
	made     int               // containers so far, for their IDs
	watchers map[chan types.UID]bool
}

var _ Runtime = (*Hollow)(nil)

func NewHollow(options HollowOptions) *Hollow {
	if options.PodCIDR == nil {
		options.PodCIDR = func() string { return "10.244.0.0/24" }
	}
	return &Hollow{options: options, pods: map[types.UID]Pod{}, watchers: map[chan types.UID]bool{}}
}

// Machine has room enough for a simulation.
func (h *Hollow) Machine(context.Context) (Machine, error) {
	return Machine{Runtime: "hollow://1", OS: "hollow", CPUs: goruntime.NumCPU(), MemoryBytes: 8 << 30}, nil
}

func (h *Hollow) Pods(context.Context) ([]Pod, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.pods)), nil
}

func (h *Hollow) Pod(_ context.Context, uid types.UID) (Pod, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pod := h.pods[uid]
	pod.UID = uid
	return pod, nil
}

func (h *Hollow) Events(ctx context.Context) <-chan types.UID {
	events := make(chan types.UID, hollowBacklog)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[events] = true
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, events)
		close(events)
	})
	return events
}

// notify needs the lock. It never blocks.
func (h *Hollow) notify(uid types.UID) {
	for events := range h.watchers {
		select {
		case events <- uid:
		default:
		}
	}
}

func (h *Hollow) EnsureImage(_ context.Context, image string, policy corev1.PullPolicy) (user string, err error) {
	switch {
	case !strings.Contains(image, "does-not-exist"):
		return "", nil
	case policy == corev1.PullNever:
		return "", fmt.Errorf("image %s: %w", image, ErrImageNotPresent)
	}
	return "", fmt.Errorf("pull image %s: the repository does not exist", image)
}

func (h *Hollow) StartSandbox(_ context.Context, pod *corev1.Pod) (Sandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, found := h.pods[pod.UID]; found {
		return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: it exists", pod.Namespace, pod.Name)
	}
	sandbox := Sandbox{ID: h.newID(pod), Running: true, StartedAt: time.Now()}
	if !pod.Spec.HostNetwork {
		var err error
		if sandbox.IP, err = h.freeAddress(); err != nil {
			return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	h.pods[pod.UID] = Pod{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Sandbox: &sandbox}
	h.notify(pod.UID)
	return sandbox, nil
}

// freeAddress returns the lowest that no sandbox has. The first of the range is the gateway's, the last is for
// broadcasts. It needs the lock.
func (h *Hollow) freeAddress() (string, error) {
	cidr, err := netip.ParsePrefix(h.options.PodCIDR())
	if err != nil {
		return "", fmt.Errorf("the node's pod range: %w", err)
	}
	taken := map[string]bool{}
	for _, pod := range h.pods {
		taken[pod.Sandbox.IP] = true
	}
	for addr := cidr.Masked().Addr().Next().Next(); cidr.Contains(addr.Next()); addr = addr.Next() {
		if ip := addr.String(); !taken[ip] {
			return ip, nil
		}
	}
	return "", fmt.Errorf("all addresses of %s are taken", cidr)
}

// newID returns an ID that tells whose it is. It needs the lock.
func (h *Hollow) newID(pod *corev1.Pod) string {
	h.made++
	return fmt.Sprintf("hollow-%d/%s", h.made, pod.UID)
}

func owner(id string) types.UID {
	_, uid, _ := strings.Cut(id, "/")
	return types.UID(uid)
}

func (h *Hollow) StartContainer(_ context.Context, sandbox Sandbox, pod *corev1.Pod, spec ContainerSpec) (id string, err error) {
	err = fmt.Errorf("start container %s of pod %s/%s: its sandbox does not run", spec.Name, pod.Namespace, pod.Name)
	h.change(pod.UID, func(held *Pod) {
		if held.Sandbox.ID != sandbox.ID || !held.Sandbox.Running {
			return
		}
		now := time.Now()
		id, err = h.newID(pod), nil
		c := Container{ID: id, Name: spec.Name, Image: spec.Image, ImageID: "hollow:" + spec.Image,
			Attempt: spec.Attempt, State: Running, CreatedAt: now, StartedAt: now}
		if code, ends := endsAtOnce(pod, spec); ends {
			c.State, c.ExitCode, c.FinishedAt = Exited, code, now
		}
		held.Containers = slices.Insert(held.Containers, 0, c)
	})
	return id, err
}

// endsAtOnce tells of the programs that do, and with which code.
func endsAtOnce(pod *corev1.Pod, spec ContainerSpec) (code int, ends bool) {
	if len(spec.Args) == 2 && spec.Args[0] == "exit" {
		code, err := strconv.Atoi(spec.Args[1])
		return code, err == nil
	}
	return 0, slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == spec.Name && c.RestartPolicy == nil // with one it is a sidecar, which stays
	})
}

// change puts a changed copy in the place of a pod that is there, and tells the watchers.
func (h *Hollow) change(uid types.UID, apply func(*Pod)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod, found := h.pods[uid]; found {
		pod.Containers = slices.Clone(pod.Containers)
		apply(&pod)
		h.pods[uid] = pod
		h.notify(uid)
	}
}

// Signal ends the container if the signal is one that ends programs; others change nothing.
func (h *Hollow) Signal(_ context.Context, containerID, signal string) error {
	if code, ends := map[string]int{"SIGTERM": 0, "SIGINT": 0, "SIGKILL": 137}[signal]; ends {
		h.end(owner(containerID), code, func(c Container) bool { return c.ID == containerID })
	}
	return nil
}

// Exit lets the container of that name die by itself, for tests. It says whether one ran.
func (h *Hollow) Exit(uid types.UID, container string, code int) bool {
	return h.end(uid, code, func(c Container) bool { return c.Name == container })
}

func (h *Hollow) end(uid types.UID, code int, meant func(Container) bool) (ended bool) {
	h.change(uid, func(pod *Pod) {
		for i := range pod.Containers {
			if c := &pod.Containers[i]; c.State == Running && meant(*c) {
				c.State, c.ExitCode, c.FinishedAt = Exited, code, time.Now()
				ended = true
			}
		}
	})
	return ended
}

// KillSandbox lets the sandbox of a pod die, for tests. Its containers go on, cut off from the network, as they do
// in Docker.
func (h *Hollow) KillSandbox(uid types.UID) {
	h.change(uid, func(pod *Pod) { pod.Sandbox = &Sandbox{ID: pod.Sandbox.ID, StartedAt: pod.Sandbox.StartedAt} })
}

func (h *Hollow) RemoveContainer(_ context.Context, containerID string) error {
	h.change(owner(containerID), func(pod *Pod) {
		pod.Containers = slices.DeleteFunc(pod.Containers, func(c Container) bool { return c.ID == containerID })
	})
	return nil
}

func (h *Hollow) RemovePod(_ context.Context, uid types.UID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, found := h.pods[uid]; found {
		delete(h.pods, uid)
		h.notify(uid)
	}
	return nil
}

// Usage is nothing.
func (h *Hollow) Usage(context.Context, string) (Usage, error) { return Usage{At: time.Now()}, nil }

// Logs has one line to show, and nothing to follow.
func (h *Hollow) Logs(_ context.Context, _ string, options LogOptions, out io.Writer) error {
	if options.Tail != nil && *options.Tail == 0 {
		return nil
	}
	_, err := fmt.Fprintln(out, "(hollow: no program runs in this container, so it writes no log)")
	return err
}

// errNoPrograms is the answer to who wants to talk to one.
var errNoPrograms = errors.New("hollow pods run no programs")

func (h *Hollow) Exec(context.Context, string, []string, Streams) (int, error) {
	return 0, errNoPrograms
}

func (h *Hollow) Attach(context.Context, string, Streams) error { return errNoPrograms }

func (h *Hollow) Dial(context.Context, Sandbox, uint16) (net.Conn, error) { return nil, errNoPrograms }
