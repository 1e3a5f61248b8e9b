package runtime

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"workshop/mini-k8s/images"

	"github.com/docker/docker/client"
)

// hangUp ends the caller's context when Docker gets a request to make a container. Docker goes on with it: if the
// caller hangs up for that, the container is made and nobody hears of it.
type hangUp struct {
	next   http.RoundTripper
	cancel func()
}

func (h *hangUp) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/containers/create") {
		return h.next.RoundTrip(r)
	}
	h.cancel()
	response, err := h.next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	if err == nil && r.Context().Err() != nil {
		response.Body.Close()
		return nil, r.Context().Err()
	}
	return response, err
}

func TestDockerKnowsOfEveryContainerThoughItWasInterrupted(t *testing.T) {
	plain := dockerOrSkip(t)
	ctx, cancel := context.WithCancel(t.Context())
	line := &hangUp{next: plain.HTTPClient().Transport, cancel: cancel}
	docker, err := client.NewClientWithOpts(client.WithHost(plain.DaemonHost()), client.WithHTTPClient(&http.Client{Transport: line}), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	docker.NegotiateAPIVersion(t.Context())
	interrupted, r := newDocker(t, docker), newDocker(t, plain)
	interrupted.options = r.options

	pod := newPod(t, r)
	if _, err := interrupted.StartSandbox(ctx, pod); !errors.Is(err, context.Canceled) {
		t.Errorf("a sandbox was started after the context had ended: %v", err)
	}
	if held := mustPod(t, r, pod.UID); held.Sandbox != nil {
		t.Errorf("it left the sandbox %+v", held.Sandbox)
	}

	sandbox := mustStartSandbox(t, r, pod)
	ctx, cancel = context.WithCancel(t.Context())
	line.cancel = cancel
	id, err := interrupted.StartContainer(ctx, sandbox, pod, ContainerSpec{Name: "web", Image: images.HelloV1.Name})
	if !errors.Is(err, context.Canceled) || id == "" {
		t.Errorf("it says that the container is %q (%v)", id, err)
	}
	if c := mustContainer(t, r, pod.UID, id); c.State != Created {
		t.Errorf("the container is %+v", c)
	}
}
