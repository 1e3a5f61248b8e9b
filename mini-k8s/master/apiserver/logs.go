package apiserver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// logs fetches a container's log from the kubelet of its node and passes it on as it comes.
func (s *Server) logs(w http.ResponseWriter, r *request) error {
	object, _, err := s.read(r.Context(), r.kind, r.namespace, r.name)
	if err != nil {
		return err
	}
	pod := object.(*corev1.Pod)
	container, err := chooseContainer(pod, r.URL.Query().Get("container"))
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("pod %s is not on a node yet", pod.Name))
	}
	target, err := s.kubeletURL(r, pod, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target+"?"+r.URL.RawQuery, nil)
	if err != nil {
		return err
	}
	response, err := s.Kubelet.Do(request)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("the kubelet of node %s does not answer: %v", pod.Spec.NodeName, err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return apierrors.NewBadRequest(string(text))
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	copyFlushing(w, response.Body)
	return nil
}

// copyFlushing copies until either side ends; what has come is not held back.
func copyFlushing(w http.ResponseWriter, from io.Reader) {
	flusher := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			flusher.Flush()
		}
		if err != nil {
			return
		}
	}
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

// kubeletURL returns where the kubelet of the pod's node listens, as the node says in its status.
func (s *Server) kubeletURL(r *request, pod *corev1.Pod, path string) (string, error) {
	object, _, err := s.read(r.Context(), api.KindOf[*corev1.Node](), "", pod.Spec.NodeName)
	if err != nil {
		return "", err
	}
	node := object.(*corev1.Node)
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			port := strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port))
			return (&url.URL{Scheme: "https", Host: net.JoinHostPort(address.Address, port), Path: path}).String(), nil
		}
	}
	return "", apierrors.NewServiceUnavailable("node " + node.Name + " has no address yet")
}
