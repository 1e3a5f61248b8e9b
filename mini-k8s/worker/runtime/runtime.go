// Package runtime runs the containers of one node. It knows nothing of the API server: the kubelet tells it
// what to do, it tells the kubelet what is there.
//
// A pod here is a sandbox and the containers inside it. The sandbox is a container as well, the pause container,
// which does nothing but hold the pod's network namespace: the others come and go, the pod's address stays.
//
// Invariants:
//  1. All state is in the runtime itself (for Docker: labels on the containers), none in this process: after a
//     kill -9 the next process finds every pod again.
//  2. A node sees and touches only what carries the labels of its cluster and its name.
//
// In Kubernetes: the Container Runtime Interface, gRPC between the kubelet and containerd or CRI-O
// (k8s.io/cri-api). Docker spoke it through an adapter, dockershim, until Kubernetes 1.24 (KEP-2221).
package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ErrImageNotPresent is returned, possibly wrapped, by EnsureImage under the pull policy Never.
var ErrImageNotPresent = errors.New("image is not present and the pull policy is Never")

// Runtime is safe for concurrent use. Calls for different pods may run at the same time; the kubelet makes one
// call at a time for the same pod. Removing what is not there is no error.
type Runtime interface {
	// Machine describes what the containers run on.
	Machine(ctx context.Context) (Machine, error)

	// Pods returns every pod of this node, Pod only the one with this UID (empty if there is none).
	Pods(ctx context.Context) ([]Pod, error)
	Pod(ctx context.Context, uid types.UID) (Pod, error)
	// Events sends the UID of a pod whenever one of its containers started, died or vanished, until the context
	// ends; then it closes the channel. After a lost connection it sends every pod's UID.
	Events(ctx context.Context) <-chan types.UID

	// EnsureImage makes the image present as the policy says, and returns as whom its program runs: empty for root.
	EnsureImage(ctx context.Context, image string, policy corev1.PullPolicy) (user string, err error)
	// StartSandbox creates and starts the pod's sandbox and returns it with its address.
	StartSandbox(ctx context.Context, pod *corev1.Pod) (Sandbox, error)
	// StartContainer creates and starts a container in a sandbox that runs. The image must be present.
	StartContainer(ctx context.Context, sandbox Sandbox, pod *corev1.Pod, spec ContainerSpec) (id string, err error)
	// Signal sends a signal ("SIGTERM", "SIGKILL") to a container and does not wait for its effect.
	Signal(ctx context.Context, containerID, signal string) error
	// RemoveContainer removes a container, running or not.
	RemoveContainer(ctx context.Context, containerID string) error
	// RemovePod removes all containers of a pod and then its sandbox.
	RemovePod(ctx context.Context, uid types.UID) error
	// Usage measures what a container uses now.
	Usage(ctx context.Context, containerID string) (Usage, error)
	// Logs copies what the container wrote to out until the end, or with Follow until the container or the
	// context ends.
	Logs(ctx context.Context, containerID string, options LogOptions, out io.Writer) error

	// Exec runs a command in a container that runs, until it ends, and returns its exit code.
	Exec(ctx context.Context, containerID string, command []string, streams Streams) (code int, err error)
	// Attach joins the program of a container that runs, until its output ends. If the context ends before, the program goes
	// on, here and in Exec.
	Attach(ctx context.Context, containerID string, streams Streams) error
	// Dial connects to a TCP port of a pod.
	Dial(ctx context.Context, sandbox Sandbox, port uint16) (net.Conn, error)
}

// Machine is what a node tells of itself in its status.
type Machine struct {
	Runtime     string // and its version: docker://20.10.24
	OS, Kernel  string
	CPUs        int
	MemoryBytes int64
}

// Pod is what the runtime holds of one pod.
type Pod struct {
	UID             types.UID
	Namespace, Name string
	Sandbox         *Sandbox    // nil if there is none
	Containers      []Container // newest first
}

// Sandbox is the pause container of a pod.
type Sandbox struct {
	ID        string
	Running   bool
	IP        string
	StartedAt time.Time
}

// Container is one container of a pod. A container that restarts is a new container with the next Attempt.
type Container struct {
	ID      string
	Name    string // as in the pod's spec
	Image   string
	ImageID string
	Attempt int // 0 is the first
	State   State
	// Zero while unknown.
	CreatedAt, StartedAt time.Time
	// All below is valid when State is Exited.
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool
	Message    string // why it could not start or was killed, if the runtime says so
}

// State of a container.
type State string

const (
	Created State = "Created"
	Running State = "Running"
	Exited  State = "Exited"
)

// Usage is what a container uses.
type Usage struct {
	At          time.Time
	CPU         time.Duration // of all CPUs, since it was started
	MemoryBytes int64         // that the kernel cannot take back
}

// ContainerSpec is what the kubelet made of a container in a pod's spec: references resolved, variables expanded.
type ContainerSpec struct {
	Name       string
	Image      string
	Attempt    int
	Command    []string // replaces the image's ENTRYPOINT, if not empty
	Args       []string // replaces the image's CMD, if not empty
	WorkingDir string
	Env        []string // KEY=value
	Resources  corev1.ResourceRequirements
	TTY, Stdin bool
	StdinOnce  bool // Stdin ends when the first client that attaches ends it
	Mounts     []Mount
	User       string                  // or user:group; empty for the image's
	Groups     []string                // beside its own
	Rights     *corev1.SecurityContext // all but user and groups; nil for what the runtime gives
}

// Mount is a part of the machine that a container sees.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// LogOptions select from a container's log.
type LogOptions struct {
	Follow     bool
	Timestamps bool
	Tail       *int64 // lines from the end; nil for all
	Since      time.Time
}

// Streams connect a client with a program.
type Streams struct {
	Stdin          io.ReadCloser // nil for none; closed when the program's output has ended
	Stdout, Stderr io.Writer     // nil for none
	TTY            bool          // of a command that is executed: it gets a terminal, and all its output is Stdout
	Sizes          <-chan Size   // of the terminal, as it changes; nil if there is none
}

// Size of a terminal, in characters.
type Size struct{ Width, Height uint16 }
