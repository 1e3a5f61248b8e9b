package kubelet

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
)

func (k *Kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	pod, actual, ok := k.held(w, r)
	if !ok {
		return
	}
	wanted, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	attempts := actual.Containers
	if wanted.previous && len(attempts) > 0 {
		attempts = attempts[1:]
	}
	if len(attempts) == 0 {
		http.Error(w, noLogs(pod, r.PathValue("container"), wanted.previous), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := &limited{flushing{w, http.NewResponseController(w)}, wanted.limit}
	out.Flush()
	err = k.Runtime.Logs(r.Context(), attempts[0].ID, wanted.LogOptions, out)
	if err != nil && !errors.Is(err, errEnough) && r.Context().Err() == nil {
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

// logQuery is what a client wants to see.
type logQuery struct {
	runtime.LogOptions
	previous bool   // of the container before this one
	limit    *int64 // bytes; nil for all
}

// logOptions reads the query as `kubectl logs` sends it (PodLogOptions).
func logOptions(query url.Values) (wanted logQuery, err error) {
	flag := func(name string) bool { on, _ := strconv.ParseBool(query.Get(name)); return on }
	number := func(name string, least int64) *int64 {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		n, failure := strconv.ParseInt(text, 10, 64)
		if failure != nil || n < least {
			err = fmt.Errorf("%s: %q is not a number from %d up", name, text, least)
		}
		return &n
	}
	options := runtime.LogOptions{Follow: flag("follow"), Timestamps: flag("timestamps"), Tail: number("tailLines", 0)}
	if seconds := number("sinceSeconds", 1); seconds != nil {
		options.Since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	wanted = logQuery{options, flag("previous"), number("limitBytes", 1)}
	if since := query.Get("sinceTime"); since != "" && err == nil {
		wanted.Since, err = time.Parse(time.RFC3339, since)
	}
	return wanted, err
}

// errEnough ends a log that has reached its limit.
var errEnough = errors.New("that is all that was asked for")

// limited passes on no more than the limit.
type limited struct {
	flushing
	limit *int64
}

func (l *limited) Write(data []byte) (int, error) {
	if l.limit == nil {
		return l.flushing.Write(data)
	}
	n, err := l.flushing.Write(data[:min(int64(len(data)), *l.limit)])
	if *l.limit -= int64(n); *l.limit == 0 && err == nil {
		err = errEnough
	}
	return n, err
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
