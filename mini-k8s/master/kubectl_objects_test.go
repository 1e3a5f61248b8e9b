package master_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"workshop/mini-k8s/pki"
)

// dir returns a directory for files that a command line names: kubectl takes a comma for the end of a name, and the
// testing package makes its directories after tests.
func (k *kubectl) dir() string {
	k.t.Helper()
	dir, err := os.MkdirTemp("", "kubectl-")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (k *kubectl) file(dir, name, text string) string {
	k.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// differs runs a diff that must find differences, as the patterns say.
func (k *kubectl) differs(line string, patterns ...string) {
	k.t.Helper()
	out, errOut, err := k.run("", line)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		k.t.Errorf("kubectl %s: %v, want exit code 1\n%s", line, err, errOut)
	}
	for _, pattern := range patterns {
		if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
			k.t.Errorf("kubectl %s does not show %q:\n%s", line, pattern, out)
		}
	}
}

// testGenerators makes an object with each generator that kubectl has for our kinds.
func testGenerators(k *kubectl) {
	dir := k.dir()
	ca, err := pki.LoadOrCreate(dir)
	if err != nil {
		k.t.Fatal(err)
	}
	pair, err := ca.Issue("web")
	if err != nil {
		k.t.Fatal(err)
	}
	key, cert := k.file(dir, "key", string(pair.Key)), k.file(dir, "cert", string(pair.Cert))
	for _, row := range []struct{ create, says, get, want string }{
		{"deployment web --image=hello:1 --port=80 -- server --verbose", "deployment.apps/web created",
			"deployment web -o jsonpath={.spec.template.spec.containers[0].command}{.spec.template.spec.containers[0].ports}",
			`["server","--verbose"][{"containerPort":80,"protocol":"TCP"}]`},
		{"service clusterip one --tcp=80:8080", "service/one created",
			"service one -o jsonpath={.spec.type}/{.spec.selector.app}/{.spec.ports[0].port}:{.spec.ports[0].targetPort}", "ClusterIP/one/80:8080"},
		{"service nodeport two --tcp=80", "service/two created", "service two -o jsonpath={.spec.type}/{.spec.ports[0].targetPort}", "NodePort/80"},
		{"service externalname three --external-name=example.com", "service/three created", "service three -o jsonpath={.spec.externalName}", "example.com"},
		{"service clusterip four --clusterip=None", "service/four created", "service four -o jsonpath={.spec.clusterIP}", "None"},
		{"serviceaccount robot", "serviceaccount/robot created", "serviceaccount robot -o name", "serviceaccount/robot"},
		{"configmap files --from-file=" + key, "configmap/files created", "configmap files -o jsonpath={.data.key}", strings.TrimSpace(string(pair.Key))},
		{"secret generic password --from-literal=a=b --type=own", "secret/password created", "secret password -o jsonpath={.type}", "own"},
		{"secret tls web --cert=" + cert + " --key=" + key, "secret/web created", "secret web -o jsonpath={.type}", "kubernetes.io/tls"},
		{"secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p", "secret/pull created",
			"secret pull -o jsonpath={.type}", "kubernetes.io/dockerconfigjson"},
	} {
		k.says("create "+row.create, row.says)
		k.says("get "+row.get, row.want)
	}
	k.shows("create deployment web --image=i --dry-run=client -o yaml", `^kind: Deployment$`, `- image: i$`)
	k.fails("create deployment web --image=i", `error: failed to create deployment: deployments.apps "web" already exists`)
	k.fails("create service nodeport five --tcp=80 --node-port=80", "30000-32767")
}

// testExpose makes services of what there is, and changes their selectors.
func testExpose(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --port=8080")
	k.says("expose deployment web --port=80 --target-port=8080", "service/web exposed")
	k.says("get service web -o jsonpath={.spec.selector}/{.spec.ports[0].targetPort}", `{"app":"web"}/8080`)
	k.says("expose deployment web --name=outside --type=NodePort", "service/outside exposed")
	k.says("get service outside -o jsonpath={.spec.ports[0].port}", "8080")
	k.ok("run one --image=hello:1 --port=80 --expose")
	k.says("get service one -o jsonpath={.spec.selector}", `{"run":"one"}`)
	k.says("set selector service/web tier=front", "service/web selector updated")
	k.says("get service web -o jsonpath={.spec.selector}", `{"tier":"front"}`)
	k.shows("get services", `^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE$`, `^outside +NodePort +[\d.]+ +<none> +8080:3\d{4}/TCP `, `^web +ClusterIP +[\d.]+ +<none> +80/TCP `)
	k.says("autoscale deployment web --min=1 --max=3 --cpu-percent=50", "horizontalpodautoscaler.autoscaling/web autoscaled")
	k.shows("get hpa", `^NAME +REFERENCE +TARGETS +MINPODS +MAXPODS +REPLICAS +AGE$`, `^web +Deployment/web +cpu: <unknown>/50% +1 +3 +[01] `)
}

// testSet changes parts of a template.
func testSet(k *kubectl) {
	k.applies(webDeployment, "deployment.apps/web created", "")
	k.says("set image deployment/web c=hello:2", "deployment.apps/web image updated")
	k.says("set resources deployment/web --limits=cpu=200m,memory=64Mi --requests=cpu=100m", "deployment.apps/web resource requirements updated")
	k.says("set serviceaccount deployment/web robot", "deployment.apps/web serviceaccount updated")
	k.says("set env deployment/web B=b A-", "deployment.apps/web env updated")
	k.says("get deployment web -o jsonpath={.spec.template.spec.containers[0].env}{.spec.template.spec.containers[0].resources}", `[{"name":"B","value":"b"}]{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"100m","memory":"64Mi"}}`)
	k.says("set env deployment/web --list", "# Deployment web, container c\nB=b")
	k.fails("set resources deployment/web --limits=cpu=50m", "must be less than or equal to cpu limit of 50m")
	k.fails("set image deployment/web none=hello:2", `unable to find container named "none"`)
}

// testApplyLists changes lists whose elements have a key, as apply and patches of all three types see them.
func testApplyLists(k *kubectl) {
	const first = "{name: c, image: \"hello:1\", env: [{name: A, value: a}]}"
	two := strings.Replace(webDeployment, first, first+", {name: d, image: side}", 1)
	k.applies(two, "deployment.apps/web created", "")
	names := "get deployment web -o jsonpath={.spec.template.spec.containers[*].name}"
	k.says(names, "c d")
	k.says(`patch deployment web -p={"spec":{"template":{"spec":{"containers":[{"name":"foreign","image":"x"}]}}}}`, "deployment.apps/web patched")
	k.says(names, "foreign c d")
	k.applies(webDeployment, "deployment.apps/web configured", "")
	k.says(names, "foreign c")
	k.says(`patch deployment web -p={"spec":{"template":{"spec":{"containers":[{"name":"foreign","$patch":"delete"}]}}}}`, "deployment.apps/web patched")
	k.says(names, "c")
	k.says(`patch deployment web --type=merge -p={"spec":{"template":{"spec":{"containers":[{"name":"only","image":"x"}]}}}}`, "deployment.apps/web patched")
	k.says(names, "only")
	k.says(`patch deployment web --type=json -p=[{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"last","image":"x"}},{"op":"remove","path":"/spec/template/spec/containers/0"}]`, "deployment.apps/web patched")
	k.says(names, "last")
	k.fails(`patch deployment web --type=json -p=[{"op":"test","path":"/spec/replicas","value":7}]`, "the patch cannot be applied")
	k.fails(`patch deployment web --type=json -p=[{"op":"remove","path":"/spec/none"}]`, "the patch cannot be applied")
	k.says(`patch deployment web --subresource=status --type=merge -p={"status":{"replicas":0},"spec":{"replicas":7}}`, "deployment.apps/web patched (no change)")
	k.says(`patch deployment web --subresource=scale --type=merge -p={"spec":{"replicas":1}}`, "scale.autoscaling/web patched")
	k.says("get deployment web -o jsonpath={.spec.replicas}", "1")
}

// testKustomize applies a directory, and shows what would change.
func testKustomize(k *kubectl) {
	dir := k.dir()
	manifest := k.file(dir, "web.yaml", webDeployment)
	k.file(dir, "kustomization.yaml", "resources: [web.yaml]\nnamePrefix: my-\nconfigMapGenerator: [{name: settings, literals: [a=b]}]\n")
	k.shows("apply -k "+dir, `^configmap/my-settings-\w+ created$`, `^deployment.apps/my-web created$`)
	k.shows("apply -k "+dir, `^configmap/my-settings-\w+ unchanged$`, `^deployment.apps/my-web unchanged$`)
	k.shows("delete -k "+dir, `^deployment.apps "my-web" deleted`)

	k.differs("diff -f "+manifest, `^\+  name: web$`)
	k.ok("apply -f " + manifest)
	k.says("diff -f "+manifest, "")
	k.file(dir, "web.yaml", strings.Replace(webDeployment, "hello:1", "hello:2", 1))
	k.differs("diff -f "+manifest, `^-.* image: hello:1$`, `^\+.* image: hello:2$`)
	k.says("apply --dry-run=client -f "+manifest, "deployment.apps/web configured (dry run)")
	k.says("get deployment web -o jsonpath={.metadata.generation}", "1")
	k.shows("apply --dry-run=server -o yaml -f "+manifest, `image: hello:2$`)
	k.says("get deployment web -o jsonpath={.metadata.generation}", "1")
	k.says("replace --force -f "+manifest, deleted(`deployment.apps "web"`, k)+"\ndeployment.apps/web replaced")
	k.says("delete -f "+manifest, deleted(`deployment.apps "web"`, k))
}

// testGetOrder sorts, and shows labels.
func testGetOrder(k *kubectl) {
	for _, name := range []string{"b", "c", "a"} {
		k.ok("create configmap " + name + " --from-literal=k=" + name)
	}
	k.ok("label configmap a b tier=front")
	k.says("get configmaps a b c --sort-by=.metadata.name -o name", "configmap/a\nconfigmap/b\nconfigmap/c")
	k.ok("label configmap c order=1")
	k.ok("label configmap a order=2")
	k.ok("label configmap b order=3")
	k.says("get configmaps -l order --sort-by=.metadata.labels.order -o name", "configmap/c\nconfigmap/a\nconfigmap/b")
	k.shows("get configmaps -l order --show-labels", `^NAME +DATA +AGE +LABELS$`, `^a +1 +\d+s +order=2,tier=front$`)
	k.shows("get configmaps -l order -L tier", `^NAME +DATA +AGE +TIER$`, `^a +1 +\d+s +front$`, `^c +1 +\d+s *$`)
	for selector, want := range map[string]string{
		"tier=front": "configmap/a\nconfigmap/b", "order,tier!=front": "configmap/c", "order,!tier": "configmap/c",
		"order|in|(1,3)": "configmap/b\nconfigmap/c", "order,order|notin|(1,3)": "configmap/a",
	} {
		out, errOut, err := k.runArgs("", "get", "configmaps", "-o", "name", "-l", strings.ReplaceAll(selector, "|", " "))
		if err != nil || strings.TrimSpace(out) != want {
			k.t.Errorf("-l %q: %s%s%v, want %s", selector, out, errOut, err, want)
		}
	}
	k.says("get configmaps --field-selector=metadata.name=b -o name", "configmap/b")
	k.shows("get configmaps --field-selector=metadata.name!=b -o name", `^configmap/a$`, `^configmap/c$`)
	k.fails("get configmaps -l =", "labelSelector: found '=', expected: !, identifier, or 'end of string'")
	k.shows("get configmaps a -o yaml --show-managed-fields", `^  managedFields:$`, `manager: kubectl-create$`, `manager: kubectl-label$`)
	k.shows("get configmaps --ignore-not-found none a -o name", `^configmap/a$`)
	k.shows("get --raw /api/v1/namespaces/"+k.namespace+"/configmaps?limit=1", `"kind":"ConfigMapList"`)
}

// testDescribeAll describes an object of every kind.
func testDescribeAll(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --port=80")
	k.ok("expose deployment web --port=80")
	k.ok("autoscale deployment web --min=1 --max=3 --cpu-percent=50")
	k.ok("create serviceaccount robot")
	k.ok("rollout status deployment/web --timeout=30s")
	k.applies(handmade, "endpoints/handmade created\nendpointslice.discovery.k8s.io/handmade created\nlease.coordination.k8s.io/handmade created", "")
	for what, patterns := range map[string][]string{
		"service web":            {`^Name: +web$`, `^Type: +ClusterIP$`, `^IP: +[\d.]+$`, `^Port: +<unset> +80/TCP$`, `^TargetPort: +80/TCP$`, `^Session Affinity: +None$`},
		"hpa web":                {`^Reference: +Deployment/web$`, `resource cpu on pods +\(as a percentage of request\): +<unknown> / 50%$`, `^Min replicas: +1$`},
		"serviceaccount robot":   {`^Name: +robot$`, `^Mountable secrets: +<none>$`},
		"endpoints handmade":     {`^  Addresses: +10\.0\.0\.1$`, `http +80 +TCP`},
		"endpointslice handmade": {`^AddressType: +IPv4$`, `Addresses: +10\.0\.0\.1$`},
		"lease handmade":         {`^  Holder Identity: +me$`},
		"pods":                   {`^Service Account: +default$`, `^QoS Class: +BestEffort$`, `Scheduled .* Successfully assigned `, `^  PodScheduled +True`},
		"deployment web":         {`^NewReplicaSet: +web-\w+ \(1/1 replicas created\)$`, `ScalingReplicaSet .* Scaled up replica set web-`},
		"replicaset":             {`^Pods Status: +1 Running / 0 Waiting / 0 Succeeded / 0 Failed$`, `SuccessfulCreate .* Created pod: web-`},
		"events":                 {`^Reason: +Scheduled$`},
		"node node-1":            {`^Taints: +<none>$`, `^Unschedulable: +false$`, `^Lease:$`, `HolderIdentity: +node-1$`, `^Allocated resources:$`},
	} {
		k.shows("describe "+what, patterns...)
	}
	k.shows("events", `^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$`, `Normal +ScalingReplicaSet +Deployment/web +Scaled up`)
	k.shows("events --for=deployment/web", `ScalingReplicaSet`)
	k.shows("get events --sort-by=.lastTimestamp -o wide", `^LAST SEEN +TYPE +REASON +OBJECT +SUBOBJECT +SOURCE +MESSAGE +FIRST SEEN +COUNT +NAME$`)
	k.shows("get endpoints,endpointslices,leases", `^endpoints/handmade +10\.0\.0\.1:80 `, `^endpointslice.discovery.k8s.io/handmade +IPv4 +80 +10\.0\.0\.1 `, `^lease.coordination.k8s.io/handmade +me `)
}

const handmade = `
apiVersion: v1
kind: Endpoints
metadata: {name: handmade}
subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{name: http, port: 80}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: handmade}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 80}]
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: handmade}
spec: {holderIdentity: me, leaseDurationSeconds: 20}
`

// testDeleteMany deletes by other ways than one name.
func testDeleteMany(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --replicas=2")
	k.ok("create configmap a")
	k.ok("create configmap b")
	k.ok("rollout status deployment/web --timeout=30s")
	k.says("delete configmap/a deployment/web --dry-run=server", strings.ReplaceAll("configmap \"a\" deletedX (server dry run)\ndeployment.apps \"web\" deletedX (server dry run)", "X",
		strings.TrimPrefix(deleted("", k), " deleted")))
	k.shows("delete configmaps --all", `^configmap "a" deleted`, `^configmap "b" deleted`)
	k.shows("delete pod -l app=web --grace-period=0 --force", `^pod "web-.* force deleted`)
	k.ok("rollout status deployment/web --timeout=30s") // others have taken their place
	k.shows("delete all --all", `^deployment.apps "web" deleted`)
	k.says("get all", "")
	k.fails("delete deployment web --grace-period=x", "invalid argument")
	k.fails("delete deployment web --cascade=none", `invalid cascade value`)
}
