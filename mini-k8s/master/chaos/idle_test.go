package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
)

// TestAnHourWithNothingToDoCostsLittle counts what each component asks of the API server, in a cluster of three nodes with
// two Deployments, a Service and an autoscaler.
func TestAnHourWithNothingToDoCostsLittle(t *testing.T) {
	mastertest.Run(t, func(t *testing.T, bench *mastertest.Bench) {
		var mu sync.Mutex
		calls := map[string]int{} // "kubelet write leases"
		bench.Wire.Intercept(func(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
			mu.Lock()
			calls[callOf(r)]++
			mu.Unlock()
			if strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/") {
				return metrics(r, bench.Client)
			}
			return do()
		})
		s := &scene{newPlane(bench, 3), t}
		time.Sleep(10 * time.Second)
		deploy.do(s)
		autoscale.do(s)
		mastertest.Create(t, bench.Client, mastertest.Deployment("other", 4, "hello:1"))
		time.Sleep(10 * time.Minute)
		if n := len(mastertest.List[*corev1.Pod](t, bench.Client)); n != 9 {
			t.Fatalf("%d pods, want 5 and 4", n)
		}
		mu.Lock()
		clear(calls)
		mu.Unlock()
		time.Sleep(time.Hour - time.Second) // not both ends of it
		mu.Lock()
		defer mu.Unlock()

		budget := map[string]int{
			"kubelet write leases": 3 * 720, "kubelet watch": 3 * 2 * 2, // a watch ends after half an hour
			"horizontal-pod-autoscaler read deployments": 720, "horizontal-pod-autoscaler read pods": 720, // the scale and its metrics, every 5 s
			"garbage-collector read events": 12, "garbage-collector read secrets": 12, "garbage-collector write events": 100, // what has expired
			"garbage-collector watch": 2 * len(api.Kinds), "master watch": 2 * len(api.Kinds), "namespace-controller watch": 2 * 2,
		}
		spent := map[string]int{}
		for call, count := range calls {
			t.Log(call, count)
			if who, _, watch := strings.Cut(call, " watch"); watch {
				call = who + " watch"
			}
			spent[call] += count
		}
		for call, count := range spent {
			if count > budget[call] {
				t.Errorf("%s: %d times in an hour, its budget is %d", call, count, budget[call])
			}
		}
		if beats := spent["kubelet write leases"]; beats < 3*715 {
			t.Errorf("%d heartbeats: what is counted is not all", beats)
		}
	})
}

// callOf names a request by who asks for what.
func callOf(r *http.Request) string {
	verb := "write"
	switch {
	case r.URL.Query().Get("watch") != "":
		verb = "watch"
	case r.Method == http.MethodGet:
		verb = "read"
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	what := parts[2]
	for i, part := range parts {
		if part == "namespaces" && i+2 < len(parts) {
			what = parts[i+2]
		} else if part == "apis" && !slices.Contains(parts, "namespaces") {
			what = parts[i+3]
		}
	}
	return fmt.Sprint(r.UserAgent(), " ", verb, " ", what)
}
