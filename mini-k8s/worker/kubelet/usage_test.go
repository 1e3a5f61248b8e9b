package kubelet

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/worker/runtime"
)

func TestUseOfCPUsIsAveragedOverAWhile(t *testing.T) {
	at := func(seconds float64, cpu time.Duration) runtime.Usage {
		return runtime.Usage{At: noon.Add(time.Duration(seconds * float64(time.Second))), CPU: cpu}
	}
	b := between{at(0, 0), at(0, 0)} // it was started at noon
	for _, step := range []struct {
		now  runtime.Usage
		want float64
	}{
		{at(2, time.Second), .5},         // as long as it is young, since its start
		{at(100, 50*time.Second), .5},    // also when it is asked for the first time
		{at(101, 51*time.Second), .505},  // too soon after that for another beginning
		{at(120, 70*time.Second), 1},     // since the last one
		{at(120.001, 70*time.Second), 1}, // whoever else asks changes nothing
		{at(140, 70*time.Second), 0},     // idle
		{at(140, 70*time.Second), 0},     // at the same moment
		{at(200, 60*time.Second), 0},     // counted backwards: never less than nothing
	} {
		var got float64
		if got, b = b.averaged(step.now); got-step.want > .005 || step.want-got > .005 {
			t.Errorf("%v after noon it used %v CPUs, want %v", step.now.At.Sub(noon), got, step.want)
		}
	}
}

func TestUsageIsToldOfWhatRuns(t *testing.T) {
	withKubelet(t, func(t *testing.T, b *kubeletBench) {
		pod := b.create(containers("app", "log"))
		b.waitState("running", 0)
		b.runtime.Exit(pod.UID, "log", 0)
		ask := func() (usage api.NodeUsage) {
			answer := httptest.NewRecorder()
			b.kubelet.Handler(func(*http.Request) bool { return true }).ServeHTTP(answer, httptest.NewRequest("GET", "/usage", nil))
			if err := json.Unmarshal(answer.Body.Bytes(), &usage); err != nil || answer.Code != http.StatusOK {
				t.Fatal(err, answer)
			}
			return usage
		}
		mastertest.Settle() // log is started again
		if got := ask().Pods[string(pod.UID)]; len(got) != 2 || got[0].Name != "app" || got[1].Name != "log" || !got[0].Usage.Cpu().IsZero() {
			t.Errorf("the usage is %+v", got)
		}
		b.runtime.RemovePod(t.Context(), pod.UID)
		time.Sleep(time.Minute)
		ask()
		if known := b.kubelet.samples.Load().(map[string]between); len(known) != 2 {
			t.Errorf("it remembers %v", known)
		}
	})
}
