package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"workshop/mini-k8s/worker/runtime"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/apimachinery/pkg/util/httpstream/wsstream"
)

const (
	portForwardProtocol = "portforward.k8s.io"
	// tunnelProtocol is the same inside a WebSocket (KEP-4006): its messages are the bytes of SPDY.
	tunnelProtocol = "SPDY/3.1+" + portForwardProtocol
)

// servePortForward connects the client to ports of a pod, as often as it likes, until it leaves. Each connection is a pair
// of streams: one for data, and one that says why there is none.
func (k *Kubelet) servePortForward(w http.ResponseWriter, r *http.Request) {
	pod, actual, ok := k.held(w, r)
	if !ok {
		return
	}
	if actual.Sandbox == nil || !actual.Sandbox.Running {
		http.Error(w, fmt.Sprintf("pod %q does not run", pod.Name), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	opened := make(chan httpstream.Stream)
	open := func(stream httpstream.Stream, _ <-chan struct{}) error {
		select {
		case opened <- stream:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	serve := func(conn httpstream.Connection) {
		defer conn.Close()
		k.forwardAll(ctx, *actual.Sandbox, conn, opened)
	}
	if wsstream.IsWebSocketRequest(r) {
		websocket.Server{Handshake: tunnelHandshake, Handler: func(tunnel *websocket.Conn) {
			tunnel.PayloadType = websocket.BinaryFrame
			if conn, err := spdy.NewServerConnection(tunnel, open); err == nil {
				serve(conn)
			}
		}}.ServeHTTP(w, r)
	} else if _, err := httpstream.Handshake(r, w, []string{portForwardProtocol}); err == nil {
		if conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, open); conn != nil {
			serve(conn)
		}
	}
}

func tunnelHandshake(config *websocket.Config, r *http.Request) error {
	if !wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		return errors.New("the protocol is " + tunnelProtocol)
	}
	config.Protocol = []string{tunnelProtocol}
	return nil
}

// forwardAll serves pairs of streams until the client has left or the context ends.
func (k *Kubelet) forwardAll(ctx context.Context, sandbox runtime.Sandbox, conn httpstream.Connection, opened <-chan httpstream.Stream) {
	ctx, cancel := context.WithCancel(ctx)
	var pairs sync.WaitGroup
	defer pairs.Wait()
	defer cancel()
	halves := map[string]httpstream.Stream{} // whose other half has not come yet, by the number of the connection
	for {
		select {
		case data := <-opened:
			id := data.Headers().Get(corev1.PortForwardRequestIDHeader)
			failure, paired := halves[id]
			if !paired {
				halves[id] = data
				continue
			}
			delete(halves, id)
			if data.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				data, failure = failure, data
			}
			pairs.Go(func() {
				if err := k.forward(ctx, sandbox, data); err != nil {
					fmt.Fprint(failure, err)
				}
				for _, stream := range []httpstream.Stream{data, failure} {
					stream.Close() // what was written arrives
					stream.Reset() // and nobody waits for more
				}
				conn.RemoveStreams(data, failure)
			})
		case <-conn.CloseChan():
			return
		case <-ctx.Done():
			return
		}
	}
}

// forward copies in both directions until the pod has sent all.
func (k *Kubelet) forward(ctx context.Context, sandbox runtime.Sandbox, data httpstream.Stream) error {
	port, err := strconv.ParseUint(data.Headers().Get(corev1.PortHeader), 10, 16)
	if err != nil {
		return fmt.Errorf("port: %w", err)
	}
	conn, err := k.Runtime.Dial(ctx, sandbox, uint16(port))
	if err != nil {
		return err
	}
	var sent sync.WaitGroup
	defer sent.Wait()
	defer data.Reset()
	defer data.Close()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	sent.Go(func() {
		io.Copy(conn, data)
		if tcp, is := conn.(*net.TCPConn); is {
			tcp.CloseWrite() // the answer may still be on its way
		}
	})
	io.Copy(data, conn)
	return nil
}
