package master_test

import (
	"path/filepath"
	"strings"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
)

// as returns the flags with which kubectl is another user, by a bearer token or by a certificate.
func (k *kubectl) as(user string) map[string]string {
	k.t.Helper()
	token, err := k.ca.Token(user)
	if err != nil {
		k.t.Fatal(err)
	}
	config, err := pki.ReadKubeconfig(filepath.Join(k.home, "kubeconfig"))
	if err != nil {
		k.t.Fatal(err)
	}
	if config.Pair, err = k.ca.Issue(user); err != nil {
		k.t.Fatal(err)
	}
	path := filepath.Join(k.t.TempDir(), "kubeconfig")
	if err := config.Write(path); err != nil {
		k.t.Fatal(err)
	}
	return map[string]string{"token": " --token=" + token, "certificate": " --kubeconfig=" + path}
}

// answers runs auth can-i, whose exit code tells the answer too.
func (k *kubectl) answers(question, want string) {
	k.t.Helper()
	out, errOut, err := k.run("", "auth can-i "+question)
	if got := strings.TrimSpace(out); got != want || (err == nil) != (want == "yes") {
		k.t.Errorf("kubectl auth can-i %s: %q, want %q (%v)\n%s", question, got, want, err, errOut)
	}
}

func testAuth(k *kubectl) {
	k.ok("create secret generic used --from-literal=a=b")
	k.ok("create secret generic unused --from-literal=a=b")
	pod, _, _ := k.run(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"}, "spec": {"nodeName": "node-1",
		"imagePullSecrets": [{"name": "used"}], "containers": [{"name": "c", "image": "hello:1"}]}}`, "create -f -")
	if pod != "pod/mine created\n" {
		k.t.Fatalf("create says %q", pod)
	}
	k.shows("auth whoami", `^Username +admin$`)
	k.says("auth whoami -o jsonpath={.status.userInfo.username}", "admin")
	k.answers("create pods", "yes")
	k.answers("delete secrets -A", "yes")
	k.answers("* *", "yes")
	k.answers("get /healthz", "yes")
	k.answers("post /healthz", "yes")
	k.shows("auth can-i --list", `^secrets +\[\] +\[\] +\[.*create.*\]$`, `^deployments.apps +\[\] +\[\] +\[.*patch.*\]$`)
	for _, line := range []string{"auth can-i get pods --as=viewer", "get pods --as=viewer", "get pods --as=viewer --as-group=a"} {
		k.fails(line, "impersonation (kubectl --as) is out of scope here")
	}
	for how, flags := range k.as("viewer") {
		k.t.Log("the viewer by", how)
		k.shows("auth whoami"+flags, `^Username +viewer$`)
		for question, want := range map[string]string{"list pods": "yes", "watch deployments.apps": "yes", "get pods --subresource=log": "yes", "get pods --subresource=exec": "no",
			"create pods": "no", "get secrets": "no", "list secrets": "no", "get secret/used": "no", "* *": "no", "get *": "no", "get /api": "yes", "post /api": "no"} {
			k.answers(question+flags, want)
		}
		list := k.ok("auth can-i --list" + flags)
		if strings.Contains(list, "secrets") || !strings.Contains(list, "pods/log") || strings.Contains(list, "delete") {
			k.t.Errorf("the viewer may\n%s", list)
		}
		k.shows("get pods"+flags, `^mine `)
		for _, line := range []string{"get secrets", "get secrets -w", "get secret used -o yaml", "describe secret used"} {
			k.fails(line+flags, `user "viewer" may not`)
		}
		k.fails("delete pod mine"+flags, `pods "mine" is forbidden: user "viewer" may not delete resource "pods"`)
	}
	for how, flags := range k.as("node:node-1") {
		k.t.Log("a node by", how)
		k.shows("auth whoami"+flags, `^Username +node:node-1$`)
		for question, want := range map[string]string{"list pods": "yes", "create nodes": "yes", "update node/node-1 --subresource=status": "yes", "update node/node-2 --subresource=status": "no",
			"patch node/node-1": "no", "patch pod/mine --subresource=status": "yes", "delete pod/mine": "yes", "patch pod/mine": "no", "get secret/used": "yes", "get secret/unused": "no",
			"get secrets": "no", "list secrets": "no", "delete pod/none": `no - pods "none" not found`} {
			k.answers(question+flags, want)
		}
		if _, warned, err := k.run("", "auth can-i --list"+flags); err != nil || !strings.Contains(warned, "the list may be incomplete") {
			k.t.Errorf("%v %s", err, warned)
		}
		k.says("get secret used -o name"+flags, "secret/used")
		k.fails("get secret unused"+flags, `secrets "unused" is forbidden`)
		k.fails("label node node-1 a=b"+flags, `nodes "node-1" is forbidden`)
	}
	for how, flags := range k.as("stranger") {
		k.t.Log("a stranger by", how)
		k.answers("list pods"+flags, "no")
		k.fails("get pods"+flags, `user "stranger" may not list resource "pods"`)
		k.shows("auth whoami"+flags, `^Username +stranger$`)
	}
	k.fails("get pods --token=nonsense", "the bearer token is not one of this cluster")
	if mine, err := client.Of[*corev1.Pod](k.admin).Get(k.t.Context(), k.namespace, "mine"); err != nil || mine.DeletionTimestamp != nil {
		k.t.Errorf("what was forbidden has happened: %v %v", mine, err)
	}
}
