package kubelet

import (
	"fmt"
	"net/http"
	"slices"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// Handler serves what the API server asks of a node for its clients: what containers write and use, and connections to
// them. Who may ask is decided by allowed, from the client's certificate.
func (k *Kubelet) Handler(allowed func(*http.Request) bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	mux.HandleFunc("GET /usage", k.serveUsage)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", k.serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.servePortForward)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r) {
			http.Error(w, "only the API server may ask a kubelet", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// held returns the pod that is asked for, and what the runtime has of it: of its containers those that are asked for. If
// that fails it answers.
func (k *Kubelet) held(w http.ResponseWriter, r *http.Request) (pod *corev1.Pod, actual runtime.Pod, ok bool) {
	pod, ok = k.pods.Get(control.JoinKey(r.PathValue("namespace"), r.PathValue("pod")))
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q is not on node %s", r.PathValue("pod"), k.Node), http.StatusNotFound)
		return nil, runtime.Pod{}, false
	}
	actual, err := k.Runtime.Pod(r.Context(), uidOf(pod))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	others := func(c runtime.Container) bool { return c.Name != r.PathValue("container") }
	actual.Containers = slices.DeleteFunc(slices.Clone(actual.Containers), others) // what the runtime returns stays as it is
	return pod, actual, err == nil
}
