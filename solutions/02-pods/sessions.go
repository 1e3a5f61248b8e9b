package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
)

// A session connects a client with a program: `kubectl exec` with a new one, `kubectl attach` with the container's own.
//
// In Kubernetes: the kubelet passes sessions on to the container runtime, which serves the streams
// (k8s.io/kubelet/pkg/cri/streaming/remotecommand).

func (k *Kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	k.session(w, r, func(ctx context.Context, id string, streams runtime.Streams) (int, error) {
		return k.Runtime.Exec(ctx, id, r.URL.Query()["command"], streams)
	})
}

func (k *Kubelet) serveAttach(w http.ResponseWriter, r *http.Request) {
	k.session(w, r, func(ctx context.Context, id string, streams runtime.Streams) (int, error) {
		return 0, k.Runtime.Attach(ctx, id, streams)
	})
}

// session lets the client talk until the program's output ends or the client leaves, and tells it how it went.
func (k *Kubelet) session(w http.ResponseWriter, r *http.Request, talk func(context.Context, string, runtime.Streams) (int, error)) {
	pod, actual, ok := k.held(w, r)
	if !ok {
		return
	}
	if len(actual.Containers) == 0 || actual.Containers[0].State != runtime.Running {
		http.Error(w, fmt.Sprintf("container %q in pod %q does not run", r.PathValue("container"), pod.Name), http.StatusBadRequest)
		return
	}
	client, err := openStreams(w, r, wantedStreams(r.URL.Query()))
	if err != nil {
		return // the client knows
	}
	ctx, cancel := context.WithCancel(r.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer client.close()
	defer cancel()
	others.Go(func() {
		client.wait()
		cancel()
	})
	streams := runtime.Streams{Stdin: client.byName[corev1.StreamTypeStdin], Stdout: client.byName[corev1.StreamTypeStdout],
		Stderr: client.byName[corev1.StreamTypeStderr]}
	if resize := client.byName[corev1.StreamTypeResize]; resize != nil {
		sizes := make(chan runtime.Size)
		streams.TTY, streams.Sizes = true, sizes
		others.Go(func() { readSizes(ctx, resize, sizes) })
	}
	code, err := talk(ctx, actual.Containers[0].ID, streams)
	if r.Context().Err() != nil {
		err = errors.New("the node's worker was stopped")
	}
	json.NewEncoder(client.byName[corev1.StreamTypeError]).Encode(outcome(code, err))
}

// wantedStreams reads the query as kubectl sends it (PodExecOptions). A terminal has no stream for errors of its own.
func wantedStreams(query url.Values) []string {
	wanted, tty := []string{corev1.StreamTypeError}, isOn(query, "tty")
	for _, name := range []string{corev1.StreamTypeStdin, corev1.StreamTypeStdout, corev1.StreamTypeStderr} {
		if isOn(query, name) && !(tty && name == corev1.StreamTypeStderr) {
			wanted = append(wanted, name)
		}
	}
	if tty {
		wanted = append(wanted, corev1.StreamTypeResize)
	}
	return wanted
}

// readSizes passes on how large the client's terminal is, each time that it changes.
func readSizes(ctx context.Context, from io.Reader, to chan<- runtime.Size) {
	defer close(to)
	var size runtime.Size
	for decoder := json.NewDecoder(from); decoder.Decode(&size) == nil; {
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// outcome is what the client learns at the end, in the fourth version of the protocol.
func outcome(code int, err error) metav1.Status {
	switch {
	case err != nil:
		return apierrors.NewInternalError(err).Status()
	case code == 0:
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
		Message: fmt.Sprintf("command terminated with non-zero exit code %d", code),
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}}}
}
