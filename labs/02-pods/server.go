package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// window is the least time over which the use of CPUs is averaged.
const window = 10 * time.Second

// between are two samples of a container, of when somebody asked: what it uses now is averaged from the older one on.
type between struct{ older, newer runtime.Usage }

// averaged returns the average use of CPUs, and the samples for the next one. The first is averaged from the start.
func (b between) averaged(now runtime.Usage) (cpus float64, next between) {
	if now.At.Sub(b.newer.At) >= window {
		b.older, b.newer = b.newer, now
	}
	if took := now.At.Sub(b.older.At); took > 0 {
		cpus = (now.CPU - b.older.CPU).Seconds() / took.Seconds()
	}
	return max(0, cpus), b
}

// serveUsage answers with what each container of the node uses now. Nothing is measured before somebody asks.
func (k *Kubelet) serveUsage(w http.ResponseWriter, r *http.Request) {
	pods, err := k.Runtime.Pods(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var asking sync.WaitGroup
	var mu sync.Mutex // guards all below
	measured, next := map[string][]api.ContainerMetrics{}, map[string]between{}
	known, _ := k.samples.Load().(map[string]between)
	for _, pod := range pods {
		uid := string(pod.UID) // or that of its mirror
		for _, shown := range k.pods.ByIndex("uid", uid) {
			uid = string(shown.UID)
		}
		for _, c := range pod.Containers {
			if c.State != runtime.Running {
				continue
			}
			asking.Go(func() {
				usage, err := k.Runtime.Usage(r.Context(), c.ID)
				if err != nil {
					slog.Debug("cannot measure a container", "pod", pod.Namespace+"/"+pod.Name, "container", c.Name, "reason", err) // it may just have ended
					return
				}
				before, sampled := known[c.ID]
				if !sampled {
					before.older.At, before.newer.At = c.StartedAt, c.StartedAt
				}
				cpus, before := before.averaged(usage)
				mu.Lock()
				defer mu.Unlock()
				next[c.ID] = before
				measured[uid] = append(measured[uid], api.ContainerMetrics{Name: c.Name, Usage: corev1.ResourceList{
					corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(cpus*1e9), resource.Nano),
					corev1.ResourceMemory: *resource.NewQuantity(usage.MemoryBytes, resource.BinarySI)}})
			})
		}
	}
	asking.Wait()
	k.samples.Store(next) // containers that are gone are forgotten
	for _, containers := range measured {
		slices.SortFunc(containers, func(a, b api.ContainerMetrics) int { return strings.Compare(a.Name, b.Name) })
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(api.NodeUsage{Timestamp: metav1.Now(), Window: metav1.Duration{Duration: window}, Pods: measured})
}
