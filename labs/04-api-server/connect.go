package apiserver

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"
)

// connect passes a connection on to the kubelet of the pod's node, for `kubectl exec`, `attach` and `port-forward`. What is
// said over it is between the client and the kubelet.
//
// In Kubernetes: the API server also translates, from clients with WebSockets to kubelets that know SPDY only.
func (s *Server) connect(w http.ResponseWriter, r *request) error {
	pod, err := read[*corev1.Pod](r.Context(), s, r.namespace, r.name)
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") == "" {
		return badRequest("pods/%s is a connection that both sides talk over, by WebSocket or SPDY: use kubectl", r.subresource)
	}
	path := pod.Namespace + "/" + pod.Name
	if r.subresource == "portforward" {
		return s.toKubelet(w, r, pod, "/portForward/"+path)
	}
	container, err := chooseContainer(pod, r.URL.Query().Get("container"))
	if err != nil {
		return err
	}
	return s.toKubelet(w, r, pod, "/"+r.subresource+"/"+path+"/"+container)
}
