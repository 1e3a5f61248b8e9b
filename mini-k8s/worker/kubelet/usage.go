package kubelet

// What the containers use of the node.

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
