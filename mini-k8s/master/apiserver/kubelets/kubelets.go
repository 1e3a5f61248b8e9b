// Package kubelets passes requests on to the kubelets of the nodes: for what containers write, for connections to them, and
// for what they use.
//
// Invariants:
//  1. Who may ask has been decided before. A kubelet sees the API server's own certificate, never a client's token.
//  2. What is said over a connection is between the client and the kubelet.
//
// In Kubernetes: k8s.io/apiserver/pkg/util/proxy, which also translates, from clients with WebSockets to kubelets that know
// SPDY only.
package kubelets

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Caller calls kubelets. It is safe for concurrent use.
type Caller struct {
	Client *http.Client // with a certificate for which kubelets answer
	Node   func(ctx context.Context, namespace, name string) (*corev1.Node, error)
	// WriteError answers a client with an error.
	WriteError func(w http.ResponseWriter, err error)
}

// Pass passes a request for a subresource of a pod on to the kubelet of its node, and the answer back as it comes.
func (c *Caller) Pass(w http.ResponseWriter, r *http.Request, pod *corev1.Pod, subresource string) error {
	path, err := pathTo(r, pod, subresource)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		return apierrors.NewBadRequest("pod " + pod.Name + " is not on a node yet")
	}
	host, err := c.hostOf(r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	(&httputil.ReverseProxy{
		Transport:     c.Client.Transport,
		FlushInterval: -1, // at once
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "https", Host: host, Path: path, RawQuery: r.URL.RawQuery}
			p.Out.Host = host
			p.Out.Header.Del("Authorization") // is for this server: the kubelet could use it
		},
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode < 400 {
				return nil
			}
			text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
			return apierrors.NewBadRequest(string(text))
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !apierrors.IsBadRequest(err) {
				err = apierrors.NewServiceUnavailable(fmt.Sprintf("the kubelet of node %s does not answer: %v", pod.Spec.NodeName, err))
			}
			c.WriteError(w, err)
		},
	}).ServeHTTP(w, r)
	return nil
}

// pathTo returns where the kubelet serves a subresource.
func pathTo(r *http.Request, pod *corev1.Pod, subresource string) (string, error) {
	if subresource != "log" && r.Header.Get("Upgrade") == "" {
		return "", apierrors.NewBadRequest("pods/" + subresource + " is a connection that both sides talk over, by WebSocket or SPDY: use kubectl")
	}
	path := pod.Namespace + "/" + pod.Name
	if subresource == "portforward" {
		return "/portForward/" + path, nil
	}
	container, err := chooseContainer(pod, r.URL.Query().Get("container"))
	if subresource == "log" {
		subresource = "containerLogs"
	}
	return "/" + subresource + "/" + path + "/" + container, err
}

// chooseContainer returns the container that is meant: the only one may be left unsaid.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	var names []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		names = append(names, c.Name)
	}
	switch {
	case slices.Contains(names, name):
		return name, nil
	case name != "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	case len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, names))
}

// hostOf returns the host and port where the kubelet of a node listens, as the node says in its status.
func (c *Caller) hostOf(ctx context.Context, name string) (string, error) {
	node, err := c.Node(ctx, "", name)
	if err != nil {
		return "", err
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(address.Address, strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port))), nil
		}
	}
	return "", apierrors.NewServiceUnavailable("node " + node.Name + " has no address yet")
}
