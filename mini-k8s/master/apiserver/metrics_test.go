package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMetricsAreWhatTheKubeletsMeasure(t *testing.T) {
	const metrics = "/apis/metrics.k8s.io/v1beta1"
	var answer string
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/usage" {
			http.NotFound(w, r)
		}
		w.Write([]byte(answer))
	}))
	defer kubelet.Close()
	address, err := url.Parse(kubelet.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if w.server, err = apiserver.New(w.ctx, apiserver.Config{Store: w.store, Kubelet: kubelet.Client()}); err != nil {
		t.Fatal(err)
	}
	shown := func(path string) string {
		t.Helper()
		var list struct {
			Kind  string
			Items []api.Metrics
		}
		if err := json.Unmarshal(w.get(metrics+path).ok().body, &list); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range list.Items {
			line := m.Kind + " " + m.Name
			for _, c := range append(m.Containers, api.ContainerMetrics{Usage: m.Usage}) {
				if len(c.Usage) > 0 {
					line += fmt.Sprintf(" %s %s %s", c.Name, c.Usage.Cpu(), c.Usage.Memory())
				}
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		return list.Kind + ": " + strings.Join(lines, ", ")
	}
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-1, labels: {zone: a}}}`)).ok()
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-2}}`)).ok() // never answers
	w.patch("merge", "/api/v1/nodes/node-1/status", toJSON(`{status: {addresses: [{type: InternalIP, address: `+address.Hostname()+`}],
		daemonEndpoints: {kubeletEndpoint: {Port: `+address.Port()+`}}}}`)).ok()
	var uids []string
	for _, name := range []string{"web", "log", "elsewhere", "nowhere"} {
		uids = append(uids, string(w.post(pods, pod(name, "")).object().UID))
	}
	w.bind("web", "node-1")
	w.bind("log", "node-1")
	w.bind("elsewhere", "node-2")
	w.patch("merge", pods+"/web", `{"metadata":{"labels":{"app":"shop"}}}`).ok()
	answer = toJSON(`{timestamp: "2026-03-01T12:00:00Z", window: 10s, pods: {` + uids[0] + `: [{name: c, usage: {cpu: 250m, memory: 2Mi}}, {name: d, usage: {cpu: 1m, memory: 1Mi}}],
		` + uids[1] + `: [{name: c, usage: {cpu: 1500000n, memory: 5Ki}}], gone: [{name: c, usage: {cpu: 1, memory: 1Mi}}]}}`)

	const web, log = "PodMetrics web c 250m 2Mi d 1m 1Mi", "PodMetrics log c 1500u 5Ki"
	for path, want := range map[string]string{
		"/pods":                        "PodMetricsList: " + log + ", " + web,
		"/namespaces/default/pods":     "PodMetricsList: " + log + ", " + web,
		"/namespaces/kube-system/pods": "PodMetricsList: ",
		"/namespaces/default/pods?labelSelector=app=shop": "PodMetricsList: " + web,
		"/nodes":                        "NodeMetricsList: NodeMetrics node-1  1252500u 4101Ki",
		"/nodes?labelSelector=zone%3Db": "NodeMetricsList: ",
	} {
		if got := shown(path); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
		}
	}
	if o := w.get(metrics + "/namespaces/default/pods/web").object(); o.Kind != "PodMetrics" || o.APIVersion != "metrics.k8s.io/v1beta1" || o.Labels["app"] != "shop" {
		t.Errorf("one pod is %+v", o)
	}
	w.get(metrics + "/nodes/node-1").ok()
	w.get(metrics+"/nodes/node-2").fails(404, metav1.StatusReasonNotFound)
	w.get(metrics+"/namespaces/default/pods/nowhere").fails(404, metav1.StatusReasonNotFound)
	w.get(metrics+"/namespaces/default/pods/nobody").fails(404, metav1.StatusReasonNotFound)
	w.call("viewer", "GET", metrics+"/pods", "").ok()
	w.call("nobody", "GET", metrics+"/pods", "").fails(403, metav1.StatusReasonForbidden)
	kubelet.Close()
	if got := shown("/pods"); got != "PodMetricsList: " {
		t.Errorf("without a kubelet: %s", got)
	}
}
