package apiserver_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"workshop/mini-k8s/master/apiserver"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestScaleIsTheSameForDeploymentsAndReplicaSets(t *testing.T) {
	for _, resource := range []string{"deployments", "replicasets"} {
		t.Run(resource, func(t *testing.T) {
			w := newWorld(t)
			path := "/apis/apps/v1/namespaces/default/" + resource
			kind := map[string]string{"deployments": "Deployment", "replicasets": "ReplicaSet"}[resource]
			w.post(path, strings.Replace(deployment("web", "replicas: 2,"), `"Deployment"`, `"`+kind+`"`, 1)).ok()
			w.patch("merge", path+"/web/status", `{"status":{"replicas":1}}`).ok()
			scale := path + "/web/scale"
			o := w.get(scale).object()
			if o.Kind != "Scale" || o.APIVersion != "autoscaling/v1" || o.Name != "web" || o.Spec["replicas"] != 2.0 || o.Status["replicas"] != 1.0 || o.Status["selector"] != "app=web" {
				t.Errorf("got %+v", o)
			}
			put := w.put(scale, toJSON(`{metadata: {name: web, resourceVersion: "`+o.ResourceVersion+`"}, spec: {replicas: 3}}`)).object()
			if put.Kind != "Scale" || put.Spec["replicas"] != 3.0 || put.ResourceVersion == o.ResourceVersion {
				t.Errorf("put: %+v", put)
			}
			w.put(scale, toJSON(`{metadata: {resourceVersion: "`+o.ResourceVersion+`"}, spec: {replicas: 4}}`)).fails(409, metav1.StatusReasonConflict)
			w.patch("merge", scale, `{"metadata":{"resourceVersion":"`+o.ResourceVersion+`"},"spec":{"replicas":4}}`).fails(409, metav1.StatusReasonConflict)
			if got := w.patch("merge", scale, `{"spec":{"replicas":4}}`).object(); got.Spec["replicas"] != 4.0 {
				t.Errorf("patch: %+v", got)
			}
			w.put(scale, toJSON(`{spec: {replicas: -1}}`)).fails(422, metav1.StatusReasonInvalid, "spec.replicas: Invalid value: -1")
			w.put(scale, `[]`).fails(400, metav1.StatusReasonBadRequest, `Scale in version "v1" cannot be handled as a Scale`)
			if got := w.patch("json", scale, `[{"op":"replace","path":"/spec/replicas","value":5}]`).object(); got.Spec["replicas"] != 5.0 {
				t.Errorf("JSON patch: %+v", got)
			}
			if got := w.get(path + "/web").object(); got.Spec["replicas"] != 5.0 || !strings.HasSuffix(managers(got), "test/Update/scale") {
				t.Errorf("stored: %v by %s", got.Spec["replicas"], managers(got))
			}
		})
	}
}

func TestPodIsBoundOnce(t *testing.T) {
	w := newWorld(t)
	w.post(pods, pod("web", "")).ok()
	w.post(pods+"/web/binding", `{}`).fails(400, metav1.StatusReasonBadRequest, "target.name")
	w.post(pods+"/web/binding", `[]`).fails(400, metav1.StatusReasonBadRequest, "the body is not a Binding")
	w.bind("web", "node-1")
	o := w.get(pods + "/web").object()
	if o.Spec["nodeName"] != "node-1" {
		t.Errorf("on node %v", o.Spec["nodeName"])
	}
	condition := o.Status["conditions"].([]any)[0].(map[string]any)
	if condition["type"] != "PodScheduled" || condition["status"] != "True" {
		t.Errorf("condition %v", condition)
	}
	w.post(pods+"/web/binding", toJSON(`{target: {name: node-2}}`)).fails(409, metav1.StatusReasonConflict, `pod web is already assigned to node "node-1"`)
	w.post(pods+"/none/binding", toJSON(`{target: {name: node-2}}`)).fails(404, metav1.StatusReasonNotFound)
	if got := w.get(pods + "/web").object().Spec["nodeName"]; got != "node-1" {
		t.Errorf("now on node %v", got)
	}
}

func TestLogsComeFromTheKubeletOfThePodsNode(t *testing.T) {
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/containerLogs/default/web/c" {
			http.Error(w, "container is waiting to start", http.StatusBadRequest)
			return
		}
		w.Write([]byte("hello, tail " + r.URL.Query().Get("tailLines")))
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
	w.get(pods+"/none/log").fails(404, metav1.StatusReasonNotFound)
	w.post(pods, pod("web", "initContainers: [{name: first, image: i}]")).ok()
	w.get(pods+"/web/log").fails(400, metav1.StatusReasonBadRequest, "pod web is not on a node yet")
	w.get(pods+"/web/log?container=d").fails(400, metav1.StatusReasonBadRequest, "container d is not valid for pod web")
	w.bind("web", "node-1")
	w.get(pods+"/web/log").fails(404, metav1.StatusReasonNotFound, `nodes "node-1" not found`)
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-1}}`)).ok()
	w.get(pods+"/web/log").fails(503, metav1.StatusReasonServiceUnavailable, "node node-1 has no address yet")
	w.patch("merge", "/api/v1/nodes/node-1/status", toJSON(`{status: {addresses: [{type: InternalIP, address: `+address.Hostname()+`}],
		daemonEndpoints: {kubeletEndpoint: {Port: `+address.Port()+`}}}}`)).ok()
	if got := string(w.get(pods + "/web/log?tailLines=5").ok().body); got != "hello, tail 5" {
		t.Errorf("got %q", got)
	}
	w.get(pods+"/web/log?container=first").fails(400, metav1.StatusReasonBadRequest, "container is waiting to start")
	kubelet.Close()
	w.get(pods+"/web/log").fails(503, metav1.StatusReasonServiceUnavailable, "the kubelet of node node-1 does not answer")
}

// A connection that is upgraded is the client's and the kubelet's alone, but for who the client is.
func TestConnectionsGoToTheKubeletOfThePodsNode(t *testing.T) {
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		fmt.Fprintf(buffered, "%s %s %q\n", r.Method, r.URL, r.Header.Get("Authorization"))
		buffered.Flush()
		io.CopyN(conn, buffered, 5)
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
	w.post(pods, pod("web", "")).ok()
	w.bind("web", "node-1")
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-1}}`)).ok()
	w.patch("merge", "/api/v1/nodes/node-1/status", toJSON(`{status: {addresses: [{type: InternalIP, address: `+address.Hostname()+`}],
		daemonEndpoints: {kubeletEndpoint: {Port: `+address.Port()+`}}}}`)).ok()
	web, ca := w.overTLS()
	token, err := ca.Token("admin")
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"POST " + pods + "/web/exec?command=ls&command=-l": "POST /exec/default/web/c?command=ls&command=-l",
		"GET " + pods + "/web/attach?stdin=true":           "GET /attach/default/web/c?stdin=true",
		"GET " + pods + "/web/portforward":                 "GET /portForward/default/web",
	} {
		conn, err := tls.Dial("tcp", web.Listener.Addr().String(), web.Client().Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", request, token)
		answer := bufio.NewReader(conn)
		response, err := http.ReadResponse(answer, nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v %v", request, response, err)
		}
		io.WriteString(conn, "hello")
		if got, err := io.ReadAll(answer); err != nil || string(got) != want+" \"\"\nhello" {
			t.Errorf("%s: the kubelet says %q (%v)", request, got, err)
		}
	}
	w.get(pods+"/web/exec?command=ls").fails(400, metav1.StatusReasonBadRequest, "pods/exec is a connection")
	w.get(pods+"/none/exec?command=ls").fails(404, metav1.StatusReasonNotFound)
	for _, user := range []apiserver.User{"viewer", "node:node-1"} {
		for _, part := range []string{"exec", "attach", "portforward"} {
			for _, method := range []string{"GET", "POST"} {
				w.call(user, method, pods+"/web/"+part, "", "Upgrade: SPDY/3.1", "Connection: Upgrade").fails(403, metav1.StatusReasonForbidden)
			}
		}
	}
}

func TestLogOfSeveralContainersNeedsAName(t *testing.T) {
	w := newWorld(t)
	two := toJSON(`{metadata: {name: web}, spec: {containers: [{name: c, image: i}, {name: d, image: i}]}}`)
	w.post(pods, two).ok()
	w.get(pods+"/web/log").fails(400, metav1.StatusReasonBadRequest, "a container name must be specified for pod web, choose one of: [c d]")
}

func TestNodeKeepsItsAuthorityOverItselfOnly(t *testing.T) {
	const node1, secret, otherLease = apiserver.User("node:node-1"), "/api/v1/namespaces/default/secrets/a", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	w := newWorld(t)
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-2}}`)).ok()
	w.post("/api/v1/namespaces/default/secrets", toJSON(`{metadata: {name: a}}`)).ok()
	w.post(configMaps, configMap("a", "", "")).ok()
	for _, name := range []string{"mine", "other", "free"} {
		w.post(pods, pod(name, "")).ok()
	}
	w.bind("mine", "node-1")
	w.bind("other", "node-2")
	merge, status := "application/merge-patch+json", `{"status":{"phase":"Running"}}`
	for _, row := range []struct {
		name               string
		user               apiserver.User
		method, path, body string
		allowed            bool
	}{
		{"admin reads a secret", "admin", "GET", secret, "", true},
		{"component writes", "component:scheduler", "PATCH", configMaps + "/a", `{}`, true},
		{"viewer reads", "viewer", "GET", configMaps + "/a", "", true},
		{"viewer lists nodes", "viewer", "GET", "/api/v1/nodes", "", true},
		{"viewer reads a secret", "viewer", "GET", secret, "", false},
		{"viewer lists secrets", "viewer", "GET", "/api/v1/secrets", "", false},
		{"viewer creates", "viewer", "POST", configMaps, configMap("b", "", ""), false},
		{"viewer updates", "viewer", "PUT", configMaps + "/a", configMap("a", "", ""), false},
		{"viewer patches", "viewer", "PATCH", configMaps + "/a", `{}`, false},
		{"viewer deletes", "viewer", "DELETE", configMaps + "/a", "", false},
		{"stranger reads", "stranger", "GET", configMaps + "/a", "", false},
		{"nobody reads", "", "GET", configMaps + "/a", "", false},
		{"node without a name", "node:", "GET", configMaps + "/a", "", false},
		{"node reads", node1, "GET", pods, "", true},
		{"node reads a secret", node1, "GET", secret, "", false},
		{"node registers itself", node1, "POST", "/api/v1/nodes", toJSON(`{metadata: {name: node-1}}`), true},
		{"node registers another", node1, "POST", "/api/v1/nodes", toJSON(`{metadata: {name: node-3}}`), false},
		{"node updates itself", node1, "PATCH", "/api/v1/nodes/node-1", `{}`, false},
		{"node updates its status", node1, "PATCH", "/api/v1/nodes/node-1/status", `{}`, true},
		{"node deletes itself", node1, "DELETE", "/api/v1/nodes/node-1", "", false},
		{"node updates another", node1, "PATCH", "/api/v1/nodes/node-2", `{}`, false},
		{"node updates another's status", node1, "PATCH", "/api/v1/nodes/node-2/status", `{}`, false},
		{"node writes its pod's status", node1, "PATCH", pods + "/mine/status", status, true},
		{"node writes another's pod's status", node1, "PATCH", pods + "/other/status", status, false},
		{"node writes a free pod's status", node1, "PATCH", pods + "/free/status", status, false},
		{"node changes its pod", node1, "PATCH", pods + "/mine", `{}`, false},
		{"node binds a pod", node1, "POST", pods + "/free/binding", toJSON(`{target: {name: node-1}}`), false},
		{"node creates a pod", node1, "POST", pods, pod("new", ""), false},
		{"node deletes another's pod", node1, "DELETE", pods + "/other", "", false},
		{"node deletes its pod", node1, "DELETE", pods + "/mine?gracePeriodSeconds=0", "", true},
		{"node creates its lease", node1, "POST", otherLease, toJSON(`{metadata: {name: node-1}}`), true},
		{"node creates another's lease", node1, "POST", otherLease, toJSON(`{metadata: {name: node-2}}`), false},
		{"node renews its lease", node1, "PATCH", otherLease + "/node-1", `{}`, true},
		{"node renews another's lease", node1, "PATCH", otherLease + "/node-2", `{}`, false},
		{"node writes a lease elsewhere", node1, "POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", toJSON(`{metadata: {name: node-1}}`), false},
		{"node writes an event", node1, "POST", "/api/v1/namespaces/default/events", toJSON(`{metadata: {name: e}}`), true},
		{"node writes a config map", node1, "PATCH", configMaps + "/a", `{}`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			contentType := "application/json"
			if row.method == http.MethodPatch {
				contentType = merge
			}
			a := w.in(t).call(row.user, row.method, row.path, row.body, "Content-Type: "+contentType)
			if row.allowed {
				a.ok()
			} else {
				a.fails(403, metav1.StatusReasonForbidden, `user "`+string(row.user)+`" may not`)
			}
		})
	}
	if node := apiserver.User("node:node-1").Node(); node != "node-1" || apiserver.User("admin").Node() != "" {
		t.Errorf("node %q", node)
	}
	if got := w.get("/api/v1/nodes").object().names(); got != "node-1 node-2" {
		t.Errorf("nodes %s", got)
	}
	if w.get(pods + "/other").object().Status["phase"] != string(corev1.PodPending) {
		t.Error("another's pod has changed")
	}
}
