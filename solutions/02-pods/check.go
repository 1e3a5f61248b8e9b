package kubelet

// How a container is asked: the edge of probes and hooks.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Container is one that runs, and is asked how it is.
type Container struct {
	*corev1.Container
	Pod   *corev1.Pod
	ID    string // as the runtime knows it
	PodIP string
}

// Check asks a container as a handler says, until the context ends. It returns what is wrong, "" if nothing is, and an
// error if it could not ask.
type Check func(ctx context.Context, handler corev1.ProbeHandler, about Container) (failure string, err error)

// AllIsWell is the Check for pods that are hollow: nobody is there to be asked.
func AllIsWell(context.Context, corev1.ProbeHandler, Container) (string, error) { return "", nil }

// askContainer is the Check for pods that run.
func (k *Kubelet) askContainer(ctx context.Context, handler corev1.ProbeHandler, about Container) (string, error) {
	switch {
	case handler.Exec != nil:
		var output firstBytes
		code, err := k.Runtime.Exec(ctx, about.ID, handler.Exec.Command, runtime.Streams{Stdout: &output, Stderr: &output})
		if errors.Is(err, context.DeadlineExceeded) {
			return "command timed out: " + strings.Join(handler.Exec.Command, " "), nil
		}
		if code != 0 && err == nil {
			return cmp.Or(strings.TrimSpace(output.String()), fmt.Sprint("command ended with exit code ", code)), nil
		}
		return "", err
	case handler.HTTPGet != nil:
		request, err := requestFor(ctx, handler.HTTPGet, about)
		if err != nil {
			return "", err
		}
		response, err := asking.Do(request)
		if err != nil {
			return err.Error(), nil
		}
		response.Body.Close()
		if response.StatusCode >= http.StatusBadRequest {
			return fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode), nil
		}
		return "", nil
	case handler.TCPSocket != nil:
		port, err := portOf(handler.TCPSocket.Port, about)
		if err != nil {
			return "", err
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(cmp.Or(handler.TCPSocket.Host, about.PodIP), port))
		if err != nil {
			return err.Error(), nil
		}
		connection.Close()
		return "", nil
	}
	return "", errors.New("there is no way to ask but exec, httpGet and tcpSocket")
}

// maxOutput is how much is kept of what a command writes, in bytes.
const maxOutput = 10 << 10

// firstBytes keeps the first maxOutput of what is written to it.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(data []byte) (int, error) {
	f.Buffer.Write(data[:min(len(data), maxOutput-f.Len())])
	return len(data), nil
}

// asking follows redirects on the same host: where another one sends its guests is no business of a probe, and counts as
// an answer. Certificates are not verified: they are for names, and a probe goes to an address.
var asking = http.Client{
	Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if to.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	},
}

func requestFor(ctx context.Context, get *corev1.HTTPGetAction, about Container) (*http.Request, error) {
	port, err := portOf(get.Port, about)
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(get.Path) // with its query
	if err != nil {
		return nil, fmt.Errorf("path of the probe: %w", err)
	}
	to.Scheme, to.Host = strings.ToLower(string(get.Scheme)), net.JoinHostPort(cmp.Or(get.Host, about.PodIP), port)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "kube-probe/"+api.KubernetesVersion)
	request.Header.Set("Accept", "*/*")
	for _, header := range get.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
		}
		request.Header.Set(header.Name, header.Value)
	}
	return request, nil
}

// portOf returns the number of a port, which may be given by its name in the container.
func portOf(port intstr.IntOrString, about Container) (string, error) {
	if port.Type == intstr.Int {
		return strconv.Itoa(int(port.IntVal)), nil
	}
	for _, named := range about.Ports {
		if named.Name == port.StrVal {
			return strconv.Itoa(int(named.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("container %s has no port %q", about.Name, port.StrVal)
}
