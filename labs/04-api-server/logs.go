package apiserver

import (
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

// logs passes a container's log on from the kubelet of its node, as it comes.
func (s *Server) logs(w http.ResponseWriter, r *request) error {
	pod, err := read[*corev1.Pod](r.Context(), s, r.namespace, r.name)
	if err != nil {
		return err
	}
	container, err := chooseContainer(pod, r.URL.Query().Get("container"))
	if err != nil {
		return err
	}
	return s.toKubelet(w, r, pod, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container)
}

// toKubelet passes a request on to the kubelet of the pod's node.
func (s *Server) toKubelet(w http.ResponseWriter, r *request, pod *corev1.Pod, path string) error {
	host, err := s.kubeletOf(r, pod)
	if err != nil {
		return err
	}
	(&httputil.ReverseProxy{
		Transport:     s.Kubelet.Transport,
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
			writeError(w, err)
		},
	}).ServeHTTP(w, r.Request)
	return nil
}

// kubeletOf returns the host and port where the kubelet of the pod's node listens, as the node says in its status.
func (s *Server) kubeletOf(r *request, pod *corev1.Pod) (string, error) {
	if pod.Spec.NodeName == "" {
		return "", badRequest("pod %s is not on a node yet", pod.Name)
	}
	node, err := read[*corev1.Node](r.Context(), s, "", pod.Spec.NodeName)
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
		return "", badRequest("container %s is not valid for pod %s", name, pod.Name)
	case len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	}
	return "", badRequest("a container name must be specified for pod %s, choose one of: %v", pod.Name, names)
}
