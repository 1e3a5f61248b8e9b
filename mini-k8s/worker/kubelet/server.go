package kubelet

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

// Handler serves what the API server asks of a node: the logs of its containers. Who may ask is decided by
// allowed, from the client's certificate.
func (k *Kubelet) Handler(allowed func(*http.Request) bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r) {
			http.Error(w, "only the API server may ask a kubelet", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (k *Kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	pod, ok := k.pods.Get(control.JoinKey(r.PathValue("namespace"), r.PathValue("pod")))
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q is not on node %s", r.PathValue("pod"), k.Node), http.StatusNotFound)
		return
	}
	options, previous, err := logOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	actual, err := k.Runtime.Pod(r.Context(), pod.UID)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := r.PathValue("container")
	attempts := slices.DeleteFunc(actual.Containers, func(c runtime.Container) bool { return c.Name != name })
	if previous && len(attempts) > 0 {
		attempts = attempts[1:]
	}
	if len(attempts) == 0 {
		http.Error(w, noLogs(pod, name, previous), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := flushing{w, http.NewResponseController(w)}
	out.Flush()
	if err := k.Runtime.Logs(r.Context(), attempts[0].ID, options, out); err != nil && r.Context().Err() == nil {
		fmt.Fprintf(w, "read the log: %v\n", err)
	}
}

// noLogs says why there is no log, in the words of the real kubelet.
func noLogs(pod *corev1.Pod, container string, previous bool) string {
	if previous {
		return fmt.Sprintf("previous terminated container %q in pod %q not found", container, pod.Name)
	}
	reason := "ContainerCreating"
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == container && s.State.Waiting != nil {
			reason = s.State.Waiting.Reason
		}
	}
	return fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, pod.Name, reason)
}

// logOptions reads the query as `kubectl logs` sends it (PodLogOptions).
func logOptions(r *http.Request) (options runtime.LogOptions, previous bool, err error) {
	query := r.URL.Query()
	flag := func(name string) bool { on, _ := strconv.ParseBool(query.Get(name)); return on }
	options.Follow, options.Timestamps, previous = flag("follow"), flag("timestamps"), flag("previous")
	if lines := query.Get("tailLines"); lines != "" {
		n, err := strconv.ParseInt(lines, 10, 64)
		if err != nil || n < 0 {
			return options, previous, fmt.Errorf("tailLines: %q is not a number of lines", lines)
		}
		options.Tail = &n
	}
	if seconds := query.Get("sinceSeconds"); seconds != "" {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || n < 1 {
			return options, previous, fmt.Errorf("sinceSeconds: %q is not a number of seconds", seconds)
		}
		options.Since = time.Now().Add(-time.Duration(n) * time.Second)
	}
	if since := query.Get("sinceTime"); since != "" {
		if options.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return options, previous, fmt.Errorf("sinceTime: %q is not a time like 2006-01-02T15:04:05Z", since)
		}
	}
	return options, previous, nil
}

// flushing sends on at once what is written to it.
type flushing struct {
	http.ResponseWriter
	*http.ResponseController
}

func (f flushing) Write(data []byte) (int, error) {
	n, err := f.ResponseWriter.Write(data)
	f.Flush()
	return n, err
}
