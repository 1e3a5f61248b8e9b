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
	options, limit, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	attempts, previous := actual.Containers, isOn(r.URL.Query(), "previous")
	if previous && len(attempts) > 0 {
		attempts = attempts[1:]
	}
	if len(attempts) == 0 {
		http.Error(w, noLogs(pod, r.PathValue("container"), previous), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := flushing{w, http.NewResponseController(w), limit}
	out.Flush()
	err = k.Runtime.Logs(r.Context(), attempts[0].ID, options, out)
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

// logOptions reads the query as `kubectl logs` sends it (PodLogOptions). The limit is in bytes, nil for all.
func logOptions(query url.Values) (options runtime.LogOptions, limit *int64, err error) {
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
	options = runtime.LogOptions{Follow: isOn(query, "follow"), Timestamps: isOn(query, "timestamps"), Tail: number("tailLines", 0)}
	limit = number("limitBytes", 1)
	if seconds := number("sinceSeconds", 1); seconds != nil {
		options.Since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	if since := query.Get("sinceTime"); since != "" && err == nil {
		options.Since, err = time.Parse(time.RFC3339, since)
	}
	return options, limit, err
}

func isOn(query url.Values, name string) bool {
	on, _ := strconv.ParseBool(query.Get(name)) // what does not parse is off
	return on
}

// errEnough ends a log that has reached its limit.
var errEnough = errors.New("that is all that was asked for")

// flushing sends on at once what is written to it, up to the limit, if there is one.
type flushing struct {
	http.ResponseWriter
	*http.ResponseController
	limit *int64
}

func (f flushing) Write(data []byte) (int, error) {
	if f.limit != nil {
		data = data[:min(int64(len(data)), *f.limit)]
		*f.limit -= int64(len(data))
	}
	n, err := f.ResponseWriter.Write(data)
	f.Flush()
	if f.limit != nil && *f.limit == 0 && err == nil {
		err = errEnough
	}
	return n, err
}
