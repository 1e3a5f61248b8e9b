package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"workshop/mini-k8s/worker/runtime"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/apimachinery/pkg/util/httpstream/wsstream"
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

// streams are several byte streams over one connection to a client: by WebSocket (KEP-4006), or by SPDY, which browsers
// have forgotten, and kubectl before 1.31 knows alone.
type streams struct {
	byName map[string]io.ReadWriteCloser
	wait   func() // until the client has left, or close
	close  func() // returns when the client has left
}

// openStreams takes the connection over, and waits for the streams. If that fails it answers.
func openStreams(w http.ResponseWriter, r *http.Request, wanted []string) (*streams, error) {
	if wsstream.IsWebSocketRequest(r) {
		return overWebSocket(w, r, wanted)
	}
	return overSPDY(w, r, wanted)
}

// channels are the streams by their numbers in a WebSocket. Nobody sends on that for errors, so that who reads from it learns
// when the connection ends.
var channels = []struct {
	name string
	kind wsstream.ChannelType
}{
	remotecommand.StreamStdIn:  {corev1.StreamTypeStdin, wsstream.ReadChannel},
	remotecommand.StreamStdOut: {corev1.StreamTypeStdout, wsstream.WriteChannel},
	remotecommand.StreamStdErr: {corev1.StreamTypeStderr, wsstream.WriteChannel},
	remotecommand.StreamErr:    {corev1.StreamTypeError, wsstream.ReadWriteChannel},
	remotecommand.StreamResize: {corev1.StreamTypeResize, wsstream.ReadChannel},
}

func overWebSocket(w http.ResponseWriter, r *http.Request, wanted []string) (*streams, error) {
	protocol := wsstream.ChannelProtocolConfig{Binary: true, Channels: make([]wsstream.ChannelType, len(channels))}
	for i, channel := range channels {
		if slices.Contains(wanted, channel.name) {
			protocol.Channels[i] = channel.kind
		}
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: protocol, remotecommand.StreamProtocolV4Name: protocol})
	// It logs as an error that a client has left.
	_, opened, err := conn.Open(w, r.WithContext(logr.NewContext(r.Context(), logr.Discard())))
	if err != nil {
		return nil, err
	}
	s := &streams{byName: map[string]io.ReadWriteCloser{}, close: func() { conn.Close() }}
	for i, channel := range channels {
		if slices.Contains(wanted, channel.name) {
			s.byName[channel.name] = opened[i]
		}
	}
	s.wait = func() { io.Copy(io.Discard, s.byName[corev1.StreamTypeError]) }
	return s, nil
}

func overSPDY(w http.ResponseWriter, r *http.Request, wanted []string) (*streams, error) {
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return nil, err
	}
	opened := make(chan httpstream.Stream, len(wanted))
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		if !slices.Contains(wanted, stream.Headers().Get(corev1.StreamType)) {
			return errors.New("nobody asked for this stream")
		}
		select {
		case opened <- stream:
			return nil
		default:
			return errors.New("more streams than were asked for at once")
		}
	})
	if conn == nil {
		return nil, errors.New("no SPDY")
	}
	ctx, cancel := context.WithTimeout(r.Context(), remotecommand.DefaultStreamCreationTimeout)
	defer cancel()
	s := &streams{byName: map[string]io.ReadWriteCloser{}, wait: func() { <-conn.CloseChan() }}
	s.close = func() { conn.Close(); s.wait() }
	for len(s.byName) < len(wanted) {
		select {
		case stream := <-opened:
			s.byName[stream.Headers().Get(corev1.StreamType)] = whole{stream}
		case <-conn.CloseChan():
			return nil, errors.New("the client has left")
		case <-ctx.Done():
			s.close()
			return nil, ctx.Err()
		}
	}
	return s, nil
}

// whole is a stream that is closed in both directions, so that nobody goes on to read from it.
type whole struct{ httpstream.Stream }

func (s whole) Close() error { return s.Reset() }
