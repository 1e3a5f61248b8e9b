package master_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/mastertest"
	"workshop/mini-k8s/pki"
	"workshop/mini-k8s/worker"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// commandTime bounds one call of kubectl.
const commandTime = time.Minute

// kubectl is one binary against one cluster: a master on a port, and two workers whose pods are hollow.
type kubectl struct {
	t         *testing.T
	binary    string
	home      string
	admin     *client.Client
	ca        *pki.CA
	namespace string
	env       []string
}

// TestKubectl drives the kubectl of the PATH, and those that the environment variable KUBECTLS lists.
func TestKubectl(t *testing.T) {
	for _, binary := range kubectls(t) {
		t.Run(filepath.Base(binary), func(t *testing.T) {
			k := startCluster(t, binary)
			for _, test := range []struct {
				name string
				run  func(*kubectl)
			}{
				{"get shows objects in every form", testGet},
				{"get -w follows changes", testGetWatch},
				{"create makes objects and says so", testCreate},
				{"apply creates, changes and leaves alone", testApply},
				{"apply of several documents does what it can", testApplySeveral},
				{"apply names what is wrong or not acted on", testApplyWarnings},
				{"changes of single fields", testChange},
				{"delete waits, or not", testDelete},
				{"rollout goes forward and back", testRollout},
				{"describe tells what happened", testDescribe},
				{"pods that end", testRun},
				{"nodes are emptied", testDrain},
				{"discovery", testDiscovery},
				{"create has a generator for each kind", testGenerators},
				{"expose and autoscale", testExpose},
				{"set changes parts of a template", testSet},
				{"lists are changed by the keys of their elements", testApplyLists},
				{"kustomize, diff and dry runs", testKustomize},
				{"get sorts and selects", testGetOrder},
				{"describe knows every kind", testDescribeAll},
				{"delete takes many at once", testDeleteMany},
				{"who may do what", testAuth},
				{"explain describes every kind", testExplain},
				{"kinds out of scope are refused with a sentence", testOutOfScope},
				{"kinds out of scope harm nothing else", testOutOfScopeHarmsNothingElse},
				{"requests that are not served", testNotServed},
				{"services have addresses", testServices},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(k.in(t)) })
			}
		})
	}
}

// kubectls returns the binaries to test, and skips the test where there are none.
func kubectls(t *testing.T) []string {
	t.Helper()
	binaries := filepath.SplitList(os.Getenv("KUBECTLS"))
	binary, err := exec.LookPath("kubectl")
	if err == nil {
		binaries = append([]string{binary}, binaries...)
	}
	if len(binaries) == 0 && os.Getenv("CI") == "true" {
		t.Fatal("no kubectl on the PATH")
	} else if len(binaries) == 0 {
		t.Skip("no kubectl on the PATH")
	}
	return binaries
}

func startCluster(t *testing.T, binary string) *kubectl {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	m, err := master.New(ctx, master.Config{Name: "test", Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	must(err)
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	run := func(name string, run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	run("master", m.Run)
	for _, name := range []string{"node-1", "node-2"} {
		pair, err := m.CA.Issue(pki.NodePrefix+name, "127.0.0.1")
		must(err)
		serving, err := pki.ServerTLS(m.CA.CertPEM, pair)
		must(err)
		w, err := worker.New(worker.Config{Cluster: "test", Node: name, Address: "127.0.0.1", TLS: serving, Client: m.Client(apiserver.User(pki.NodePrefix+name), "worker")})
		must(err)
		run(name, w.Run)
	}
	k := &kubectl{t: t, binary: binary, home: t.TempDir(), admin: m.Client("admin", "test"), ca: m.CA}
	must(m.WriteKubeconfig(filepath.Join(k.home, "kubeconfig")))
	k.ok("wait --for=condition=Ready --timeout=30s node/node-1 node/node-2")
	return k
}

// in returns the same kubectl for a subtest, in a namespace of its own.
func (k *kubectl) in(t *testing.T) *kubectl {
	t.Helper()
	inside := *k
	inside.t = t
	created, err := client.Of[*corev1.Namespace](k.admin).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}})
	if err != nil {
		t.Fatal(err)
	}
	inside.namespace = created.Name
	return &inside
}

func (k *kubectl) command(ctx context.Context, args ...string) *exec.Cmd {
	if k.namespace != "" {
		args = append([]string{"--namespace", k.namespace}, args...)
	}
	c := exec.CommandContext(ctx, k.binary, args...)
	c.Env = append(os.Environ(), append([]string{"HOME=" + k.home, "KUBECONFIG=" + filepath.Join(k.home, "kubeconfig")}, k.env...)...)
	return c
}

// run runs a command line. A word cannot have blanks in it.
func (k *kubectl) run(stdin, line string) (out, errOut string, err error) {
	k.t.Helper()
	return k.runArgs(stdin, strings.Fields(line)...)
}

func (k *kubectl) runArgs(stdin string, args ...string) (out, errOut string, err error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := k.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err = c.Run(); ctx.Err() != nil {
		k.t.Fatalf("kubectl %s: still running after %v\n%s%s", strings.Join(args, " "), commandTime, &stdout, &stderr)
	}
	return stdout.String(), stderr.String(), err
}

// ok runs a command that must succeed and returns what it printed.
func (k *kubectl) ok(line string) string {
	k.t.Helper()
	out, errOut, err := k.run("", line)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s%s", line, err, out, errOut)
	}
	return out
}

// says runs a command that must succeed and print just that.
func (k *kubectl) says(line, want string) {
	k.t.Helper()
	if got := strings.TrimSpace(k.ok(line)); got != strings.TrimSpace(want) {
		k.t.Errorf("kubectl %s\ngot:\n%s\nwant:\n%s", line, got, want)
	}
}

// shows runs a command that must succeed and print what the patterns match.
func (k *kubectl) shows(line string, patterns ...string) {
	k.t.Helper()
	out := k.ok(line)
	for _, pattern := range patterns {
		if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
			k.t.Errorf("kubectl %s does not show %q:\n%s", line, pattern, out)
		}
	}
}

// fails runs a command that must fail and print the text to stderr.
func (k *kubectl) fails(line, want string) {
	k.t.Helper()
	out, errOut, err := k.run("", line)
	if err == nil || !strings.Contains(errOut, want) {
		k.t.Errorf("kubectl %s: %v, want an error that says\n%s\ngot:\n%s%s", line, err, want, out, errOut)
	}
}

// apply applies manifests and returns all that was printed, also if it fails.
func (k *kubectl) apply(manifest string) (out, errOut string, err error) {
	k.t.Helper()
	return k.run(manifest, "apply -f -")
}

// applies checks what an apply prints: its lines, and its lines to stderr, none of them more.
func (k *kubectl) applies(manifest, out, errOut string) {
	k.t.Helper()
	gotOut, gotErr, _ := k.apply(manifest)
	if strings.TrimSpace(gotOut) != out || strings.TrimSpace(gotErr) != errOut {
		k.t.Errorf("apply prints\n%s--- and to stderr\n%s--- want\n%s\n--- and\n%s", gotOut, gotErr, out, errOut)
	}
}

func testGet(k *kubectl) {
	k.says("create deployment web --image=hello:1 --replicas=2", "deployment.apps/web created")
	k.shows("rollout status deployment/web --timeout=30s", `deployment "web" successfully rolled out`)
	k.shows("get pods", `^NAME +READY +STATUS +RESTARTS +AGE$`, `^web-\w+-\w+ +1/1 +Running +0 +\d+s$`)
	k.shows("get pods -o wide", `^NAME .* AGE +IP +NODE +NOMINATED NODE +READINESS GATES$`, ` 10\.244\.\d+\.\d+ +node-[12] +<none> +<none>$`)
	k.shows("get deployment web", `^web +2/2 +2 +2 `)
	k.shows("get rs -o wide", `^NAME +DESIRED +CURRENT +READY +AGE +CONTAINERS +IMAGES +SELECTOR$`, `^web-\w+ +2 +2 +2 .* hello +hello:1 +app=web,pod-template-hash=\w+$`)
	k.shows("get deployment web -o yaml", `^apiVersion: apps/v1$`, `^kind: Deployment$`, `^  replicas: 2$`, `^  readyReplicas: 2$`)
	k.shows("get deployments -o json", `"kind": "List"`, `"availableReplicas": 2`)
	k.says("get deployments -o name", "deployment.apps/web")
	k.says("get deployment web -o jsonpath={.spec.replicas}", "2")
	k.says("get deploy web -o custom-columns=N:.metadata.name,R:.status.readyReplicas", "N     R\nweb   2")
	k.shows("get pods -A", `^NAMESPACE +NAME +READY`, `^`+k.namespace+` +web-`)
	if out := k.ok("get pods -l app=web --field-selector=status.phase=Running -o name"); strings.Count(out, "pod/web-") != 2 {
		k.t.Errorf("by label and field: %s", out)
	}
	if out, errOut, err := k.run("", "get pods -l app=none"); err != nil || out != "" || errOut != "No resources found in "+k.namespace+" namespace.\n" {
		k.t.Errorf("by another label: %q %q %v", out, errOut, err)
	}
	k.shows("get all", `^pod/web-`, `^deployment.apps/web `, `^replicaset.apps/web-`)
	k.shows("get deployments,namespaces", `^deployment.apps/web `, `^namespace/default +Active`)
	k.shows("get nodes", `^node-1 +Ready +<none> +`, `^node-2 +Ready`)
	k.shows("get --raw /healthz", `^ok$`)
	k.fails("get pods none", `Error from server (NotFound): pods "none" not found`)
	k.fails("get nonsense", `the server doesn't have a resource type "nonsense"`)
	k.fails("get pods --field-selector=spec.replicas=1", `field label not supported: spec.replicas`)
}

func testGetWatch(k *kubectl) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := k.command(ctx, "get", "configmaps", "-w", "-l", "app=watched")
	out, err := c.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	create := func(name, data string) {
		k.t.Helper()
		k.applies("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+", labels: {app: watched}}\ndata: "+data+"\n", "configmap/"+name+" created", "")
	}
	create("first", "{a: b}")
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	expect := func(pattern string) {
		k.t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil || !regexp.MustCompile(pattern).MatchString(line) {
			k.t.Fatalf("got %q %v, want %s", line, err, pattern)
		}
	}
	expect(`^NAME +DATA +AGE`)
	expect(`^first +1 `)
	create("second", "{a: b, c: d}")
	expect(`^second +2 `)
	k.ok(`patch configmap first --type=merge -p={"data":{"c":"d"}}`)
	expect(`^first +2 `)
	k.ok("delete configmap second")
	expect(`^second +2 `)
	cancel()
	io.Copy(io.Discard, lines)
	if err := c.Wait(); err == nil {
		k.t.Error("the watch has ended by itself")
	}
}

func testCreate(k *kubectl) {
	k.says("create configmap settings --from-literal=a=b", "configmap/settings created")
	k.says("get configmap settings -o jsonpath={.data.a}", "b")
	k.says("create secret generic password --from-literal=a=b", "secret/password created")
	k.says("get secret password -o jsonpath={.data.a}/{.type}", "Yg==/Opaque")
	k.fails("create configmap settings", `error: failed to create configmap: configmaps "settings" already exists`)
	name := k.namespace + "-more"
	k.says("create namespace "+name, "namespace/"+name+" created")
	k.shows("get namespace "+name, `^`+name+` +Active`)
	k.says("create configmap other --dry-run=server", "configmap/other created (server dry run)")
	k.fails("get configmap other", `configmaps "other" not found`)
	k.fails("--namespace=none create configmap a", `namespaces "none" not found`)
	k.fails("create deployment Web --image=i", `Deployment.apps "Web" is invalid: metadata.name: Invalid value: "Web"`)
	k.shows("create deployment web --image=hello:1 --dry-run=server -o yaml", `imagePullPolicy: IfNotPresent`)
}

const webDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: "hello:1", env: [{name: A, value: a}]}]
`

func testApply(k *kubectl) {
	k.applies(webDeployment, "deployment.apps/web created", "")
	k.applies(webDeployment, "deployment.apps/web unchanged", "")
	k.applies(strings.Replace(webDeployment, "hello:1", "hello:2", 1), "deployment.apps/web configured", "")
	k.says("get deploy web -o jsonpath={.spec.template.spec.containers[*].image}/{.metadata.generation}", "hello:2/2")
	k.ok("scale deployment web --replicas=1") // a field that the manifest has, changed by another
	k.applies(strings.NewReplacer("hello:1", "hello:2", ", env: [{name: A, value: a}]", "", ", labels: {app: web}}\nspec", "}\nspec").Replace(webDeployment), "deployment.apps/web configured", "")
	k.says("get deploy web -o jsonpath=<{.spec.template.spec.containers[*].env}{.metadata.labels}{.spec.replicas}>", "<0>")
	changed := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {kept: x, removed: x}\n"
	k.applies(changed, "configmap/a created", "")
	k.ok(`patch configmap a --type=merge -p={"data":{"foreign":"x"}}`)
	k.applies(strings.Replace(changed, ", removed: x", "", 1), "configmap/a configured", "")
	k.says("get configmap a -o jsonpath={.data}", `{"foreign":"x","kept":"x"}`)
	if out, errOut, err := k.run(changed, "apply -f - --dry-run=server"); err != nil || out != "configmap/a configured (server dry run)\n" {
		k.t.Errorf("dry run: %s%s%v", out, errOut, err)
	}
	if out, errOut, err := k.run(changed, "apply -f - --server-side"); err == nil || !strings.Contains(errOut, "server-side apply is out of scope here: use `kubectl apply` without --server-side") {
		k.t.Errorf("server side: %s%s%v", out, errOut, err)
	}
	k.says("get configmap a -o jsonpath={.data}", `{"foreign":"x","kept":"x"}`)
	if out, errOut, err := k.run(changed, "replace -f -"); err != nil || out != "configmap/a replaced\n" {
		k.t.Errorf("replace: %s%s%v", out, errOut, err)
	}
	k.says("get configmap a -o jsonpath={.data}", `{"kept":"x","removed":"x"}`)
	if out, errOut, err := k.run(changed, "delete -f -"); err != nil || !strings.HasPrefix(out, `configmap "a" deleted`) {
		k.t.Errorf("delete: %s%s%v", out, errOut, err)
	}
}

func testApplySeveral(k *kubectl) {
	const document = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
	first, last := fmt.Sprintf(document, "first"), fmt.Sprintf(document, "last")
	const created, unchanged = "configmap/first created\nconfigmap/last created", "configmap/first unchanged\nconfigmap/last unchanged"
	job := "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n"
	k.applies(first+strings.Replace(job, "batch/v1", "batch/v0", 1)+last, created, `error: resource mapping not found for name: "once" namespace: "" from "STDIN": no matches for kind "Job" in version "batch/v0"`+"\nensure CRDs are installed first")
	k.applies(first+job+last, unchanged, `Error from server (NotFound): error when creating "STDIN": jobs.batch is out of scope in mini-k8s: a Pod with restartPolicy Never or OnFailure runs to its end; the kind itself is a bonus for learners`)
	k.applies(first+"---\n"+strings.Replace(webDeployment, "replicas: 0", "replicas: -1", 1)+last, unchanged,
		`The Deployment "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`)
	k.applies(first+"---\n"+strings.Replace(webDeployment, "replicas: 0", "replica: 0", 1)+last, unchanged,
		`Error from server (BadRequest): error when creating "STDIN": Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica"`)
	k.applies(first+"---\n"+strings.Replace(webDeployment, "{name: web,", "{name: web, namespace: none,", 1)+last, unchanged, "error: the namespace from the provided object \"none\" does not match the namespace \""+
		k.namespace+"\". You must pass '--namespace=none' to perform this operation.")
	k.fails("get deployment web", `deployments.apps "web" not found`)
	k.applies(first+"---\napiVersion: v1\nkind: Pod\nmetadata: {name: two}\nspec: {containers: [{name: C}, {name: d, image: i, ports: [{containerPort: 0}]}]}\n", "configmap/first unchanged",
		`The Pod "two" is invalid: 
* spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
* spec.containers[0].image: Required value
* spec.containers[1].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive`)
}

func testApplyWarnings(k *kubectl) {
	const notServed = "Warning: spec.template.spec.containers[*].resizePolicy: this field is stored, but nothing acts on it in this version of mini-k8s"
	unserved := strings.Replace(webDeployment, "name: c,", "name: c, resizePolicy: [{resourceName: cpu, restartPolicy: a}],", 1)
	k.applies(webDeployment, "deployment.apps/web created", "")
	k.applies(unserved, "deployment.apps/web configured", notServed)
	k.applies(unserved, "deployment.apps/web unchanged", "")
	k.applies(strings.Replace(unserved, "hello:1", "hello:2", 1), "deployment.apps/web configured", "")
	k.says("scale deployment web --replicas=1", "deployment.apps/web scaled")
	k.says("delete deployment web --wait=false", deleted(`deployment.apps "web"`, k))
	k.ok("wait --for=delete deployment/web --timeout=30s")
	k.applies(unserved, "deployment.apps/web created", notServed)
	out, errOut, err := k.apply(strings.Replace(unserved, "image:", "imagePullPolice: Never, image:", 1))
	if err == nil || out != "" || !strings.Contains(errOut, `strict decoding error: unknown field "spec.template.spec.containers[0].imagePullPolice"`) {
		k.t.Errorf("a typo in a change: %s%s%v", out, errOut, err)
	}
	if _, errOut, err := k.run(strings.Replace(webDeployment, "image:", "imagePullPolice: Never, image:", 1), "apply --validate=warn -f -"); err != nil ||
		!strings.Contains(errOut, `Warning: unknown field "spec.template.spec.containers[0].imagePullPolice"`) {
		k.t.Errorf("with --validate=warn: %s%v", errOut, err)
	}
}

// deleted returns what the version of kubectl says; from 1.34 on it names the namespace.
func deleted(what string, k *kubectl) string {
	out := k.ok("version --client -o json")
	if regexp.MustCompile(`"minor": "(2\d|3[0-3])`).MatchString(out) {
		return what + " deleted"
	}
	return what + " deleted from " + k.namespace + " namespace"
}

func testChange(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --replicas=1")
	k.says("scale deployment/web --replicas=2", "deployment.apps/web scaled")
	k.fails("scale deployment/web --replicas=3 --current-replicas=7", "xpected replicas to be 7, was 2")
	k.says("get deploy web -o jsonpath={.spec.replicas}", "2")
	k.says("label deployment web tier=front", "deployment.apps/web labeled")
	k.fails("label deployment web tier=back", "already has a value (front), and --overwrite is false")
	k.says("label deployment web tier-", "deployment.apps/web unlabeled")
	k.fails("label deployment web tier=a/b/c", `invalid label value: "tier=a/b/c"`)
	k.shows("annotate deployment web note=hello", `^deployment.apps/web annotated?$`) // 1.27 forgets a letter
	k.says(`get deploy web -o jsonpath={.metadata.annotations.note}{.metadata.labels}`, `hello{"app":"web"}`)
	k.says(`patch deployment web -p={"spec":{"template":{"spec":{"containers":[{"name":"hello","image":"hello:2"}]}}}}`, "deployment.apps/web patched")
	k.says(`patch deployment web --type=json -p=[{"op":"replace","path":"/spec/replicas","value":1}]`, "deployment.apps/web patched")
	k.fails(`patch deployment web --type=merge -p={"spec":{"selector":{"matchLabels":{"a":"b"}}}}`, "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"app\":\"web\"}}: field is immutable")
	k.says("set image deployment/web hello=hello:3", "deployment.apps/web image updated")
	k.says("set env deployment/web A=b", "deployment.apps/web env updated")
	k.says("get deploy web -o jsonpath={.spec.replicas}/{.spec.template.spec.containers[0].image}/{.spec.template.spec.containers[0].env[0].value}", "1/hello:3/b")

	k.ok("create configmap a --from-literal=key=one")
	k.says(`patch configmap a --type=merge -p={"data":{"key":"one"}}`, "configmap/a patched (no change)")
	k.env = []string{"KUBE_EDITOR=sed -i s/one/two/"}
	k.says("edit configmap a", "configmap/a edited")
	k.says("get configmap a -o jsonpath={.data.key}", "two")
	if out, errOut, err := k.run("", "edit configmap a"); err != nil || !strings.Contains(out+errOut, "Edit cancelled, no changes made") {
		k.t.Errorf("an edit that changes nothing: %s%s%v", out, errOut, err)
	}
}

func testDelete(k *kubectl) {
	pods := client.Of[*corev1.Pod](k.admin)
	for i := range 6 {
		k.ok(fmt.Sprintf("run pod-%d --image=hello:1 --labels=n=%d", i, i/4))
	}
	k.ok("wait --for=condition=Ready pod --all --timeout=30s")
	k.says("delete pod pod-0", deleted(`pod "pod-0"`, k))
	k.fails("get pod pod-0", `pods "pod-0" not found`) // at once: delete has waited
	k.shows("delete pod pod-1 --wait=false", `pod "pod-1" deleted`)
	k.ok("wait --for=delete pod/pod-1 --timeout=30s")
	k.shows("delete pod pod-2 --force", `^pod "pod-2" force deleted`)
	k.fails("get pod pod-2", `pods "pod-2" not found`)
	k.shows("delete pod pod-3 --now", `^pod "pod-3" deleted`)
	k.shows("delete pods -l n=1", `^pod "pod-4" deleted`, `^pod "pod-5" deleted`)
	if left, err := pods.List(k.t.Context(), client.Selection{Namespace: k.namespace}); err != nil || len(left.Items) != 0 {
		k.t.Errorf("left over: %v %v", left.Items, err)
	}
	k.fails("delete pod pod-0", `Error from server (NotFound): pods "pod-0" not found`)
	k.says("delete pod pod-0 --ignore-not-found", "")

	k.ok("create deployment web --image=hello:1")
	k.ok("rollout status deployment web --timeout=30s")
	k.ok("delete deployment web --cascade=orphan")
	k.shows("get rs", `^web-\w+ +1 +1 +1`)
	k.ok("create deployment more --image=hello:1")
	k.ok("rollout status deployment more --timeout=30s")
	k.ok("delete deployment more --cascade=foreground")
	if out := k.ok("get rs,pods -l app=more -o name"); out != "" {
		k.t.Errorf("after a foreground deletion: %s", out)
	}
	k.shows("delete namespace "+k.namespace, `^namespace "`+k.namespace+`" deleted`)
	if left, err := pods.List(k.t.Context(), client.Selection{Namespace: k.namespace}); err != nil || len(left.Items) != 0 {
		k.t.Errorf("the namespace is gone and its pods are not: %v %v", left.Items, err)
	}
}

func testRollout(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --replicas=2")
	k.ok("rollout status deployment/web --timeout=30s")
	k.ok("set image deployment/web hello=hello:2")
	k.env = []string{"KUBE_FEATURE_WatchListClient=true"} // what kubectl does by itself from 1.35 on
	k.shows("rollout status deployment/web --timeout=30s", `successfully rolled out`)
	k.env = nil
	k.shows("rollout history deployment/web", `^deployment.apps/web *$`, `^REVISION +CHANGE-CAUSE$`, `^1 +<none>$`, `^2 +<none>$`)
	k.shows("rollout history deployment/web --revision=1", `Image:\s+hello:1`)
	k.says("rollout undo deployment/web", "deployment.apps/web rolled back")
	k.ok("rollout status deployment/web --timeout=30s")
	k.says("get deploy web -o jsonpath={.spec.template.spec.containers[0].image}", "hello:1")
	k.shows("rollout history deployment/web", `^2 +<none>$`, `^3 +<none>$`)
	k.says("rollout undo deployment/web --to-revision=2", "deployment.apps/web rolled back")
	k.ok("rollout status deployment/web --timeout=30s")
	k.says("get deploy web -o jsonpath={.spec.template.spec.containers[0].image}", "hello:2")
	k.says("rollout restart deployment/web", "deployment.apps/web restarted")
	k.ok("rollout status deployment/web --timeout=30s")
	k.says("rollout pause deployment/web", "deployment.apps/web paused")
	k.says("rollout resume deployment/web", "deployment.apps/web resumed")
	k.ok("set image deployment/web hello=does-not-exist:1")
	k.fails("rollout status deployment/web --timeout=1s", "timed out waiting for the condition")
	k.shows("get deployment web", `^web +[12]/2 `)
}

func testDescribe(k *kubectl) {
	k.ok("create deployment web --image=hello:1")
	k.ok("rollout status deployment/web --timeout=30s")
	name := strings.TrimSpace(k.ok("get pods -o name"))
	k.shows("describe deployment web", `^Name: +web$`, `^Replicas: +1 desired \| 1 updated \| 1 total \| 1 available`, `^StrategyType: +RollingUpdate$`, `Image: +hello:1`)
	k.shows("describe "+name, `^Node: +node-[12]/127.0.0.1$`, `^Status: +Running$`, `^IP: +10\.244\.`, `^Controlled By: +ReplicaSet/web-`, `Image: +hello:1$`, `^Events:`)
	k.shows("describe node node-1", `^Name: +node-1$`, `^PodCIDR: +10\.244\.\d\.0/24$`, `Ready +True`, `Container Runtime Version: +hollow://1`)
	k.shows("describe rs", `^Controlled By: +Deployment/web$`)
	k.shows("describe namespace "+k.namespace, `^Status: +Active$`)
	k.ok("create configmap a --from-literal=key=value")
	k.shows("describe configmap a", `^key:$`, `^value$`)
	k.ok("create secret generic s --from-literal=key=value")
	k.shows("describe secret s", `^key: +5 bytes$`)
}

func testRun(k *kubectl) {
	k.says("run once --image=hello:1 --restart=Never -- exit 0", "pod/once created")
	k.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=30s")
	k.shows("get pod once", `^once +0/1 +Completed +0`)
	k.ok("run fails --image=hello:1 --restart=Never -- exit 3")
	k.ok("wait --for=jsonpath={.status.phase}=Failed pod/fails --timeout=30s")
	k.shows("get pod fails", `^fails +0/1 +Error +0`)
	k.ok("run server --image=hello:1")
	k.ok("wait --for=condition=Ready pod/server --timeout=30s")
	k.ok("logs server")
	k.fails("logs server -c none", "container none is not valid for pod server")
	k.fails("logs none", `pods "none" not found`)
	k.fails("run bad --image=", "--image is required")
}

func testDrain(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --replicas=4")
	k.ok("rollout status deployment/web --timeout=30s")
	k.says("cordon node-1", "node/node-1 cordoned")
	k.shows("get node node-1", `Ready,SchedulingDisabled`)
	k.ok("drain node-1 --force --timeout=30s --pod-selector=app=web")
	k.ok("rollout status deployment/web --timeout=30s")
	if out := k.ok("get pods --field-selector=spec.nodeName=node-1 -o name"); out != "" {
		k.t.Errorf("left on node-1: %s", out)
	}
	k.says("uncordon node-1", "node/node-1 uncordoned")
	k.says("taint node node-1 a=b:NoSchedule", "node/node-1 tainted")
	k.says("taint node node-1 a-", "node/node-1 untainted")
}

func testDiscovery(k *kubectl) {
	k.shows("api-resources", `^NAME +SHORTNAMES +APIVERSION +NAMESPACED +KIND`, `^deployments +deploy +apps/v1 +true +Deployment *$`, `^nodes +no +v1 +false +Node *$`)
	k.shows("api-resources --api-group=apps -o name", `^deployments.apps$`, `^replicasets.apps$`)
	k.shows("api-versions", `^v1$`, `^apps/v1$`, `^autoscaling/v2$`)
	k.shows("version", `Server Version: .*v1\.33\.0\+mini-k8s`)
	k.shows("cluster-info", `Kubernetes control plane.* is running at .*https://127.0.0.1:`)
	k.shows("get --raw /api/v1/namespaces/default", `"kind":"Namespace"`)
	var exit *exec.ExitError
	if _, _, err := k.run("", "get --raw /nowhere"); !errors.As(err, &exit) {
		k.t.Errorf("an unknown path: %v", err)
	}
}

func testServices(k *kubectl) {
	mastertest.Eventually(k.t, "the namespace has its account and the certificate", func() bool {
		_, _, err := k.run("", "get serviceaccount/default configmap/kube-root-ca.crt")
		return err == nil
	})
	k.shows("get configmap kube-root-ca.crt -o yaml", `BEGIN CERTIFICATE`)
	k.ok("create service nodeport web --tcp=80:8080")
	k.shows("get service web", `^web +NodePort +10\.96\.[0-9]+\.[0-9]+ +<none> +80:3[0-9]{4}/TCP`)
	before := k.ok("get service web -o jsonpath={.spec}")
	k.ok("label service web a=b")
	k.says("get service web -o jsonpath={.spec}", before)
	k.ok(`patch service web -p={"spec":{"type":"ClusterIP"}}`)
	k.shows("get service web", `^web +ClusterIP +10\.96\.[0-9]+\.[0-9]+ +<none> +80/TCP`)
	k.shows("describe service web", `^IP Family Policy: +SingleStack`, `^IP Families: +IPv4`)
	k.ok("create service clusterip headless --clusterip=None")
	k.shows("get service headless", `^headless +ClusterIP +None +<none> +<none>`)
	ip := k.ok("get service web -o jsonpath={.spec.clusterIP}")
	k.fails("create service clusterip taken --tcp=80 --clusterip="+ip, "failed to allocate IP "+ip+": provided IP is already allocated")
	k.fails(`patch service headless -p={"spec":{"clusterIP":"10.96.0.9"}}`, "may not change once set")
}
