package runtime

// Hollow is a runtime with no containers in it: pods start, have addresses and end, in memory. It serves tests,
// simulations of a thousand nodes and machines that have no Docker. What it does not do: run programs, answer on
// the addresses, survive its process.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// HollowOptions may all be left out.
type HollowOptions struct {
	// PodCIDR is asked at each start of a sandbox, as a node gets its range only after it has registered.
	// Default: 10.244.0.0/24.
	PodCIDR func() string
	// StartDelay is how long the start of a container takes.
	StartDelay time.Duration
	// Image says why an image cannot be pulled. By default one cannot if its name contains "does-not-exist".
	Image func(name string) error
}

// Hollow runs a container until it is signalled (SIGTERM: code 0, SIGKILL: 137), or until Exit says so. Init
// containers end at once, and so do those with the arguments "exit N", as our image hello knows them.
type Hollow struct {
	options HollowOptions

	mu       sync.Mutex // guards all below
	pods     map[types.UID]*Pod
	taken    map[string]bool // addresses
	made     int             // containers so far, for their IDs
	watchers map[*watcher]bool
}

var _ Runtime = (*Hollow)(nil)

func NewHollow(options HollowOptions) *Hollow {
	if options.PodCIDR == nil {
		options.PodCIDR = func() string { return "10.244.0.0/24" }
	}
	if options.Image == nil {
		options.Image = func(name string) error {
			if strings.Contains(name, "does-not-exist") {
				return errors.New("the repository does not exist")
			}
			return nil
		}
	}
	return &Hollow{options: options, pods: map[types.UID]*Pod{}, taken: map[string]bool{}, watchers: map[*watcher]bool{}}
}

func (h *Hollow) Name() string                            { return "hollow" }
func (h *Hollow) Version(context.Context) (string, error) { return "1", nil }

func (h *Hollow) Pods(context.Context) ([]Pod, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pods := make([]Pod, 0, len(h.pods))
	for _, pod := range h.pods {
		pods = append(pods, pod.copy())
	}
	return pods, nil
}

func (h *Hollow) Pod(_ context.Context, uid types.UID) (Pod, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod := h.pods[uid]; pod != nil {
		return pod.copy(), nil
	}
	return Pod{UID: uid}, nil
}

func (p *Pod) copy() Pod {
	out := *p
	out.Containers = slices.Clone(p.Containers)
	if p.Sandbox != nil {
		sandbox := *p.Sandbox
		out.Sandbox = &sandbox
	}
	return out
}

// EnsureImage takes every image for present that could be pulled.
func (h *Hollow) EnsureImage(_ context.Context, image string, policy corev1.PullPolicy) error {
	err := h.options.Image(image)
	switch {
	case err == nil:
		return nil
	case policy == corev1.PullNever:
		return fmt.Errorf("image %s: %w", image, ErrImageNotPresent)
	}
	return fmt.Errorf("pull image %s: %w", image, err)
}

func (h *Hollow) StartSandbox(_ context.Context, pod *corev1.Pod) (Sandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pods[pod.UID] != nil {
		return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: it exists", pod.Namespace, pod.Name)
	}
	sandbox := Sandbox{ID: h.newID(pod.UID), Running: true, StartedAt: time.Now()}
	if !pod.Spec.HostNetwork {
		var err error
		if sandbox.IP, err = h.takeAddress(); err != nil {
			return Sandbox{}, fmt.Errorf("start sandbox of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	h.pods[pod.UID] = &Pod{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Sandbox: &sandbox}
	h.notify(pod.UID)
	return sandbox, nil
}

// newID returns an ID that tells whose it is. It needs the lock.
func (h *Hollow) newID(uid types.UID) string {
	h.made++
	return fmt.Sprintf("hollow-%d/%s", h.made, uid)
}

func owner(id string) types.UID {
	_, uid, _ := strings.Cut(id, "/")
	return types.UID(uid)
}

// takeAddress returns the lowest that is free. The first of the range is the gateway's, the last is for broadcasts.
// It needs the lock.
func (h *Hollow) takeAddress() (string, error) {
	cidr, err := netip.ParsePrefix(h.options.PodCIDR())
	if err != nil {
		return "", fmt.Errorf("the node's pod range: %w", err)
	}
	for addr := cidr.Masked().Addr().Next().Next(); cidr.Contains(addr.Next()); addr = addr.Next() {
		if ip := addr.String(); !h.taken[ip] {
			h.taken[ip] = true
			return ip, nil
		}
	}
	return "", fmt.Errorf("all addresses of %s are taken", cidr)
}

// StartContainer blocks for the start delay, as Docker does while it works.
func (h *Hollow) StartContainer(ctx context.Context, sandbox Sandbox, pod *corev1.Pod, spec ContainerSpec) (string, error) {
	if h.options.StartDelay > 0 {
		select {
		case <-time.After(h.options.StartDelay):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.pods[pod.UID]
	if held == nil || held.Sandbox.ID != sandbox.ID || !held.Sandbox.Running {
		return "", fmt.Errorf("start container %s of pod %s/%s: its sandbox does not run", spec.Name, pod.Namespace, pod.Name)
	}
	now := time.Now()
	c := Container{ID: h.newID(pod.UID), Name: spec.Name, Image: spec.Image, ImageID: "hollow:" + spec.Image,
		Attempt: spec.Attempt, State: Running, CreatedAt: now, StartedAt: now}
	if code, ends := endsAtOnce(pod, spec); ends {
		c.State, c.ExitCode, c.FinishedAt = Exited, code, now
	}
	held.Containers = slices.Insert(held.Containers, 0, c)
	h.notify(pod.UID)
	return c.ID, nil
}

// endsAtOnce tells of the programs that do, and with which code.
func endsAtOnce(pod *corev1.Pod, spec ContainerSpec) (code int, ends bool) {
	if len(spec.Args) == 2 && spec.Args[0] == "exit" {
		code, err := strconv.Atoi(spec.Args[1])
		return code, err == nil
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == spec.Name {
			return 0, c.RestartPolicy == nil // with one it is a sidecar, which stays
		}
	}
	return 0, false
}

// Signal ends the container if the signal is one that ends programs; others change nothing.
func (h *Hollow) Signal(_ context.Context, containerID, signal string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch strings.TrimPrefix(signal, "SIG") {
	case "TERM", "INT":
		h.end(h.find(containerID), 0)
	case "KILL":
		h.end(h.find(containerID), 137)
	}
	return nil
}

// find returns where the container is kept, or nil. It needs the lock.
func (h *Hollow) find(containerID string) *Container {
	if pod := h.pods[owner(containerID)]; pod != nil {
		for i := range pod.Containers {
			if pod.Containers[i].ID == containerID {
				return &pod.Containers[i]
			}
		}
	}
	return nil
}

// end needs the lock.
func (h *Hollow) end(c *Container, code int) {
	if c != nil && c.State == Running {
		c.State, c.ExitCode, c.FinishedAt = Exited, code, time.Now()
		h.notify(owner(c.ID))
	}
}

// Exit lets the newest container of that name die by itself, for tests. It says whether one ran.
func (h *Hollow) Exit(uid types.UID, container string, code int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod := h.pods[uid]; pod != nil {
		for i := range pod.Containers {
			if c := &pod.Containers[i]; c.Name == container && c.State == Running {
				h.end(c, code)
				return true
			}
		}
	}
	return false
}

// KillSandbox lets the sandbox of a pod die, for tests. Its containers go on, cut off from the network, as they do
// in Docker.
func (h *Hollow) KillSandbox(uid types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod := h.pods[uid]; pod != nil && pod.Sandbox.Running {
		delete(h.taken, pod.Sandbox.IP)
		pod.Sandbox.Running, pod.Sandbox.IP = false, ""
		h.notify(uid)
	}
}

func (h *Hollow) RemoveContainer(_ context.Context, containerID string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod := h.pods[owner(containerID)]; pod != nil {
		pod.Containers = slices.DeleteFunc(pod.Containers, func(c Container) bool { return c.ID == containerID })
		h.notify(pod.UID)
	}
	return nil
}

func (h *Hollow) RemovePod(_ context.Context, uid types.UID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pod := h.pods[uid]; pod != nil {
		delete(h.taken, pod.Sandbox.IP)
		delete(h.pods, uid)
		h.notify(uid)
	}
	return nil
}
