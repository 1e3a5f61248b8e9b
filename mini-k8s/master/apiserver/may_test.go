package apiserver_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	accessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	secretsPath   = "/api/v1/namespaces/default/secrets"
)

// may asks the server whether it would let the user do it.
func (w *world) may(user apiserver.User, do authorizationv1.ResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	w.t.Helper()
	body, err := json.Marshal(authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &do}})
	if err != nil {
		w.t.Fatal(err)
	}
	var review authorizationv1.SelfSubjectAccessReview
	if err := json.Unmarshal(w.call(user, "POST", accessReviews, string(body)).ok().body, &review); err != nil {
		w.t.Fatal(err)
	}
	return review.Status
}

// forbids has the user really do it, but for storing it, and reports whether it was forbidden.
func (w *world) forbids(user apiserver.User, kind *api.Kind, do authorizationv1.ResourceAttributes) bool {
	w.t.Helper()
	method, body, path := "", "", kind.Path(do.Namespace, do.Name, do.Subresource)+"?dryRun=All"
	switch do.Verb {
	case "get":
		method = http.MethodGet
	case "list":
		method, path = http.MethodGet, kind.Path(do.Namespace, "", "")
	case "watch": // with a mistake that is met only where watching is allowed
		method, path = http.MethodGet, kind.Path(do.Namespace, "", "")+"?watch=true&resourceVersion=none"
	case "create":
		method, body = http.MethodPost, `{"metadata": {"name": "node-1"}}`
		if kind.Resource == "pods" {
			body = toJSON(`{metadata: {name: node-1, annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: node-1, containers: [{name: c, image: i}]}}`)
		}
		if do.Subresource == "" {
			path = kind.Path(do.Namespace, "", "") + "?dryRun=All"
		}
	case "update":
		method, body = http.MethodPut, `{}`
	case "patch":
		method, body = http.MethodPatch, `{}`
	case "delete":
		method = http.MethodDelete
	default:
		w.t.Fatalf("verb %s", do.Verb)
	}
	a := w.call(user, method, path, body, "Content-Type: application/"+map[bool]string{true: "merge-patch+"}[method == http.MethodPatch]+"json")
	if a.code == http.StatusNotFound && strings.Contains(string(a.body), "requested resource") {
		w.t.Errorf("%s %s is not served", method, path)
	}
	return a.code == http.StatusForbidden
}

// cellsOf returns what can be done to a kind, to each of some objects that differ in whose they are.
func cellsOf(kind *api.Kind) (cells []authorizationv1.ResourceAttributes) {
	objects := map[string][]string{
		"nodes": {"/node-1", "/node-2"}, "pods": {"default/mine", "default/other", "default/free"},
		"leases":  {"kube-node-lease/node-1", "kube-node-lease/node-2", "default/node-1"},
		"secrets": {"default/used", "default/unused", "kube-system/used"},
	}[kind.Resource]
	if objects == nil {
		objects = []string{"default/node-1"}
	}
	served := map[string][]string{"": {"get", "list", "watch", "create", "update", "patch", "delete"},
		"binding": {"create"}, "eviction": {"create"}, "log": {"get"}, "history": {"get"},
		"exec": {"create", "get"}, "attach": {"create", "get"}, "portforward": {"create", "get"}}
	for _, object := range objects {
		for _, sub := range append([]string{""}, kind.Subresources...) {
			verbs := served[sub]
			if verbs == nil {
				verbs = []string{"get", "update", "patch"}
			}
			for _, verb := range verbs {
				do := authorizationv1.ResourceAttributes{Verb: verb, Group: kind.Group, Resource: kind.Resource, Subresource: sub}
				do.Namespace, do.Name, _ = strings.Cut(object, "/")
				if !kind.Namespaced {
					do.Namespace = ""
				}
				if verb == "list" || verb == "watch" || verb == "create" && sub == "" {
					do.Name = ""
				}
				if !slices.Contains(cells, do) {
					cells = append(cells, do)
				}
			}
		}
	}
	return cells
}

// Each verb on each kind and subresource, for each user: what is asked beforehand and what is tried have one answer.
func TestWhoMayDoWhat(t *testing.T) {
	w := newWorld(t)
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-1}}`)).ok()
	w.post("/api/v1/nodes", toJSON(`{metadata: {name: node-2}}`)).ok()
	for _, name := range []string{"used", "unused"} {
		w.post(secretsPath, toJSON(`{metadata: {name: `+name+`}}`)).ok()
	}
	for name, spec := range map[string]string{"mine": "imagePullSecrets: [{name: used}]", "other": "imagePullSecrets: [{name: unused}]", "free": ""} {
		w.post(pods, pod(name, spec)).ok()
	}
	w.bind("mine", "node-1")
	w.bind("other", "node-2")

	all := func(authorizationv1.ResourceAttributes) bool { return true }
	none := func(authorizationv1.ResourceAttributes) bool { return false }
	shows := func(subresources ...string) func(authorizationv1.ResourceAttributes) bool {
		return func(do authorizationv1.ResourceAttributes) bool {
			return slices.Contains([]string{"get", "list", "watch"}, do.Verb) && do.Resource != "secrets" && slices.Contains(subresources, do.Subresource)
		}
	}
	for _, row := range []struct {
		user  apiserver.User
		reads func(authorizationv1.ResourceAttributes) bool
		more  []string // "verb resource/subresource namespace/name"
	}{
		{"admin", all, nil},
		{"component:scheduler", all, nil},
		{"viewer", shows("", "status", "scale", "log", "history"), nil},
		{"node:node-1", shows("", "status"), []string{
			"get secrets default/used",
			"create events default/", "update events default/node-1", "patch events default/node-1",
			"create nodes /", "create pods default/", "update nodes/status /node-1", "patch nodes/status /node-1",
			"create leases kube-node-lease/", "update leases kube-node-lease/node-1", "patch leases kube-node-lease/node-1",
			"update pods/status default/mine", "patch pods/status default/mine", "delete pods default/mine", "create pods/eviction default/mine",
		}},
		{"node:", none, nil},
		{"stranger", none, nil},
		{"", none, nil},
		{"admins", none, nil},
		{"components", none, nil},
	} {
		t.Run(string(row.user), func(t *testing.T) {
			w := w.in(t)
			left := slices.Clone(row.more)
			for _, kind := range api.Kinds {
				for _, do := range cellsOf(kind) {
					name := strings.TrimSuffix(do.Verb+" "+do.Resource+"/"+do.Subresource, "/") + " " + do.Namespace + "/" + do.Name
					want := row.reads(do) || slices.Contains(row.more, name)
					left = slices.DeleteFunc(left, func(line string) bool { return line == name })
					if got := w.may(row.user, do).Allowed; got != want {
						t.Errorf("%s: the review says %v", name, got)
					}
					if got := !w.forbids(row.user, kind, do); got != want {
						t.Errorf("%s: the request is allowed: %v", name, got)
					}
				}
				for _, do := range []authorizationv1.ResourceAttributes{
					{Verb: "deletecollection", Resource: kind.Resource, Namespace: "default"}, {Verb: "*", Resource: kind.Resource}, {Verb: "*", Resource: "*"},
					{Verb: "get", Resource: "pods", Subresource: "exec", Namespace: "default", Name: "mine"}, {Verb: "get", Resource: "*"},
					{Verb: "delete", Resource: "pods", Namespace: "default"}, {Verb: "get", Resource: "secrets", Name: "used"},
				} {
					if got := w.may(row.user, do).Allowed; got != row.reads(authorizationv1.ResourceAttributes{}) {
						t.Errorf("%+v: the review says %v", do, got)
					}
				}
			}
			if len(left) > 0 {
				t.Errorf("never asked: %v", left)
			}
		})
	}
}

func TestNodeReadsTheSecretsOfItsPodsAndNoOthers(t *testing.T) {
	w := newWorld(t)
	w.post(secretsPath, toJSON(`{metadata: {name: a}}`)).ok()
	w.post("/api/v1/namespaces/kube-system/secrets", toJSON(`{metadata: {name: a}}`)).ok()
	const node1, node2 = apiserver.User("node:node-1"), apiserver.User("node:node-2")
	for _, row := range []struct{ name, spec string }{
		{"image-pull", `imagePullSecrets: [{name: a}], containers: [{name: c, image: i}]`},
		{"volume", `volumes: [{name: v, secret: {secretName: a}}], containers: [{name: c, image: i}]`},
		{"env", `containers: [{name: c, image: i}, {name: d, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: k}}}]}]`},
		{"env-from", `containers: [{name: c, image: i, envFrom: [{secretRef: {name: a}}]}]`},
		{"init-env", `initContainers: [{name: b, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: k}}}]}], containers: [{name: c, image: i}]`},
		{"init-env-from", `initContainers: [{name: b, image: i, envFrom: [{secretRef: {name: a}}]}], containers: [{name: c, image: i}]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			w.post(pods, toJSON(`{metadata: {name: `+row.name+`}, spec: {`+row.spec+`}}`)).ok()
			w.call(node1, "GET", secretsPath+"/a", "").fails(403, metav1.StatusReasonForbidden) // bound to nobody
			w.bind(row.name, "node-1")
			w.call(node1, "GET", secretsPath+"/a", "").ok()
			w.call(node2, "GET", secretsPath+"/a", "").fails(403, metav1.StatusReasonForbidden)
			for _, path := range []string{secretsPath + "/b", "/api/v1/namespaces/kube-system/secrets/a", secretsPath,
				secretsPath + "?fieldSelector=metadata.name%3Da", secretsPath + "?watch=true&fieldSelector=metadata.name%3Da"} {
				w.call(node1, "GET", path, "").fails(403, metav1.StatusReasonForbidden)
			}
			for _, method := range []string{"PUT", "PATCH", "DELETE"} {
				w.call(node1, method, secretsPath+"/a", "{}").fails(403, metav1.StatusReasonForbidden)
			}
			w.delete(pods + "/" + row.name + "?gracePeriodSeconds=0").ok()
			w.call(node1, "GET", secretsPath+"/a", "").fails(403, metav1.StatusReasonForbidden)
		})
	}
	w.post(pods, toJSON(`{metadata: {name: says-a}, spec: {volumes: [{name: a, configMap: {name: a}}], containers: [{name: a, image: a, env: [{name: A, value: a}]}]}}`)).ok()
	w.bind("says-a", "node-1")
	w.call(node1, "GET", secretsPath+"/a", "").fails(403, metav1.StatusReasonForbidden)
}

func TestNodeGivesItselfNothingThatOthersTrust(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{
		`metadata: {name: node-1}, spec: {podCIDR: 10.244.7.0/24}`,
		`metadata: {name: node-1}, spec: {unschedulable: true}`,
		`metadata: {name: node-1}, spec: {taints: [{key: a, effect: NoSchedule}]}`,
		`metadata: {name: node-1, labels: {node-role.kubernetes.io/control-plane: ""}}`,
		`metadata: {name: node-1, labels: {node-restriction.kubernetes.io/for: secrets}}`,
	} {
		w.call("node:node-1", "POST", "/api/v1/nodes", toJSON("{"+bad+"}")).fails(403, metav1.StatusReasonForbidden, "a node may give itself neither")
		w.post("/api/v1/nodes?dryRun=All", toJSON("{"+bad+"}")).ok()
	}
	w.call("node:node-1", "POST", "/api/v1/nodes", toJSON(`{metadata: {name: node-1, labels: {disk: fast}}}`)).ok()
	w.call("node:node-1", "PATCH", "/api/v1/nodes/node-1/status", `{"metadata": {"labels": {"node-role.kubernetes.io/a": ""}}, "spec": {"unschedulable": true}}`,
		"Content-Type: application/merge-patch+json").ok()
	if node := w.get("/api/v1/nodes/node-1").object(); len(node.Labels) != 1 || len(node.Spec) != 0 {
		t.Errorf("through its status it has become %v %v", node.Labels, node.Spec)
	}
}

func TestReviewsTellWhoCallsAndWhatTheyMay(t *testing.T) {
	w := newWorld(t)
	for _, user := range []apiserver.User{"admin", "viewer", "node:node-1", "stranger"} {
		for _, version := range []string{"v1", "v1beta1"} {
			var who authenticationv1.SelfSubjectReview
			body := `{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/` + version + `"}`
			a := w.call(user, "POST", "/apis/authentication.k8s.io/"+version+"/selfsubjectreviews", body).ok()
			if err := json.Unmarshal(a.body, &who); err != nil || a.code != 201 || who.Status.UserInfo.Username != string(user) ||
				who.APIVersion != "authentication.k8s.io/"+version || who.Kind != "SelfSubjectReview" {
				t.Errorf("%s: %v %d %s", user, err, a.code, a.body)
			}
		}
	}
	for spec, want := range map[string]bool{
		`nonResourceAttributes: {verb: get, path: /healthz}`: true, `nonResourceAttributes: {verb: post, path: /healthz}`: false,
		`resourceAttributes: {verb: create, group: authorization.k8s.io, resource: selfsubjectaccessreviews}`: true,
		`resourceAttributes: {verb: get, group: authorization.k8s.io, resource: selfsubjectaccessreviews}`:    false,
	} {
		var review authorizationv1.SelfSubjectAccessReview
		body := w.call("viewer", "POST", accessReviews, toJSON("{spec: {"+spec+"}}")).ok().body
		if err := json.Unmarshal(body, &review); err != nil || review.Status.Allowed != want || review.Kind != "SelfSubjectAccessReview" {
			t.Errorf("%s: %s", spec, body)
		}
	}
	if status := w.may("node:node-1", authorizationv1.ResourceAttributes{Verb: "delete", Resource: "pods", Namespace: "default", Name: "none"}); status.Allowed || status.Reason != `pods "none" not found` {
		t.Errorf("a pod that is not there: %+v", status)
	}
	for _, body := range []string{`{}`, `{"spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}}`} {
		w.call("admin", "POST", accessReviews, body).fails(400, metav1.StatusReasonBadRequest, "exactly one of")
	}
	w.call("admin", "POST", accessReviews, `[]`).fails(400, metav1.StatusReasonBadRequest, "the body is not a SelfSubjectAccessReview")
	raw, err := (&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods"}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if a := w.call("viewer", "POST", accessReviews, "k8s\x00"+string(envelope), "Content-Type: application/vnd.kubernetes.protobuf").ok(); !strings.Contains(string(a.body), `"allowed":true`) {
		t.Errorf("in protobuf: %s", a.body)
	}
	w.get(accessReviews).fails(404, metav1.StatusReasonNotFound)
}

func TestRulesReviewListsWhatAUserMay(t *testing.T) {
	w := newWorld(t)
	rules := func(user apiserver.User) (authorizationv1.SubjectRulesReviewStatus, string) {
		t.Helper()
		var review authorizationv1.SelfSubjectRulesReview
		body := w.call(user, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", `{"spec": {"namespace": "kube-node-lease"}}`).ok().body
		if err := json.Unmarshal(body, &review); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, rule := range review.Status.ResourceRules {
			lines = append(lines, strings.Join(rule.Verbs, ",")+" "+strings.Join(rule.Resources, ",")+"."+strings.Join(rule.APIGroups, ","))
		}
		return review.Status, "\n" + strings.Join(lines, "\n") + "\n"
	}
	for _, row := range []struct {
		user       apiserver.User
		has        []string
		hasNot     []string
		incomplete bool
	}{
		{"admin", []string{"create,delete,get,list,patch,update,watch", " secrets.\n", "\ncreate pods/binding.\n", " deployments.apps\n"}, nil, false},
		{"viewer", []string{"\nget,list,watch pods.\n", "\nget pods/log.\n", "\nget deployments/scale.apps\n", "\ncreate selfsubjectreviews.authentication.k8s.io\n"},
			[]string{"secrets", "create pods", "patch", "update", "delete"}, false},
		{"node:node-1", []string{"\ncreate,get,list,watch leases.coordination.k8s.io\n", "\ncreate,get,list,watch nodes.\n"}, []string{"secrets", "delete", "pods/log"}, true},
		{"stranger", []string{"\ncreate selfsubjectrulesreviews.authorization.k8s.io\n"}, []string{"pods", "get"}, false},
	} {
		status, lines := rules(row.user)
		for _, line := range row.has {
			if !strings.Contains(lines, line) {
				t.Errorf("%s: there is no %q in %s", row.user, line, lines)
			}
		}
		for _, word := range row.hasNot {
			if strings.Contains(lines, word) {
				t.Errorf("%s: there is %q in %s", row.user, word, lines)
			}
		}
		if status.Incomplete != row.incomplete || (status.EvaluationError != "") != row.incomplete || len(status.NonResourceRules) != 1 {
			t.Errorf("%s: %+v", row.user, status)
		}
	}
}

func TestImpersonationIsRefusedAndNotIgnored(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	token, err := ca.Token("admin")
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{"Impersonate-User": 403, "Impersonate-Group": 403, "Impersonate-Uid": 403, "Impersonate-Extra-Scopes": 403, "X-Anything": 200} {
		r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, web.URL+"/api/v1/namespaces", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set(header, "viewer")
		response, err := web.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var status metav1.Status
		json.NewDecoder(response.Body).Decode(&status)
		response.Body.Close()
		if response.StatusCode != want || (want == 403) != strings.Contains(status.Message, "impersonation (kubectl --as) is out of scope here") {
			t.Errorf("%s: %d %s", header, response.StatusCode, status.Message)
		}
	}
}
