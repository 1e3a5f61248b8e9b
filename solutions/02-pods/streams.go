package kubelet

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/apimachinery/pkg/util/httpstream/wsstream"
	"k8s.io/apimachinery/pkg/util/remotecommand"
)

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
