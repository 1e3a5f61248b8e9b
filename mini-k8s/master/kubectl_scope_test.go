package master_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// What kubectl says of kinds and requests that are not served, and what it explains of those that are.

func testExplain(k *kubectl) {
	k.shows("explain pod.spec.containers", `^KIND: +Pod$`, `^VERSION: +v1$`, `^FIELD: containers <\[\]Container>$`, `There must be at least one container in a Pod`,
		`^  image\t<string>$`, `^  name\t<string> -required-$`, `^  ports\t<\[\]ContainerPort>$`, `^  resources\t<ResourceRequirements>$`)
	k.shows("explain pods.spec.containers.resources.limits", `^FIELD: limits <map\[string\]Quantity>$`, `Limits describes the maximum amount of compute resources`)
	k.shows("explain po.metadata", `^  labels\t<map\[string\]string>$`, `^  creationTimestamp\t<string>$`, `^  finalizers\t<\[\]string>$`)
	k.shows("explain service.spec.ports", `^  port\t<integer> -required-$`, `^  targetPort\t<IntOrString>$`)
	k.shows("explain deployment --recursive", `^GROUP: +apps$`, `^KIND: +Deployment$`, `^ +maxSurge\t<IntOrString>$`, `^ +containerPort\t<integer> -required-$`, `^ +httpGet\t<HTTPGetAction>$`)
	k.shows("explain hpa", `^GROUP: +autoscaling$`, `^VERSION: +v2$`, `HorizontalPodAutoscaler is the configuration`, `^  spec\t<HorizontalPodAutoscalerSpec>$`)
	for _, kind := range strings.Fields(k.ok("api-resources --verbs=list -o name")) {
		if strings.HasSuffix(kind, ".metrics.k8s.io") {
			continue // kubectl takes it for a field of pods and nodes
		}
		k.shows("explain "+kind, `^KIND: +\w+$`, `^  metadata\t<ObjectMeta>`)
	}
	k.fails("explain pod.spec.nothing", `field "nothing" does not exist`)
	k.shows("explain jobs", `^GROUP: +batch$`, `jobs.batch is out of scope in mini-k8s: a Pod with restartPolicy`)
}

// outOfScope are kinds as people name and write them; what is said of each contains the last column.
var outOfScope = []struct{ name, apiVersion, kind, sentence string }{
	{"jobs", "batch/v1", "Job", "jobs.batch is out of scope in mini-k8s: a Pod with restartPolicy Never or OnFailure runs to its end"},
	{"cj", "batch/v1", "CronJob", "cronjobs.batch is out of scope in mini-k8s: "},
	{"ds", "apps/v1", "DaemonSet", "daemonsets.apps is out of scope in mini-k8s: "},
	{"sts", "apps/v1", "StatefulSet", "statefulsets.apps is out of scope in mini-k8s: use a Deployment"},
	{"rc", "v1", "ReplicationController", "replicationcontrollers is out of scope in mini-k8s: use a Deployment"},
	{"pvc", "v1", "PersistentVolumeClaim", "persistentvolumeclaims is out of scope in mini-k8s: "},
	{"pv", "v1", "PersistentVolume", "persistentvolumes is out of scope in mini-k8s: "},
	{"sc", "storage.k8s.io/v1", "StorageClass", "storageclasses.storage.k8s.io is out of scope in mini-k8s: "},
	{"ing", "networking.k8s.io/v1", "Ingress", "ingresses.networking.k8s.io is out of scope in mini-k8s: use a Service of type NodePort"},
	{"netpol", "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies.networking.k8s.io is out of scope in mini-k8s: every pod may reach every other"},
	{"clusterroles", "rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles.rbac.authorization.k8s.io is out of scope in mini-k8s: who may do what is fixed"},
	{"crds", "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions.apiextensions.k8s.io is out of scope in mini-k8s: "},
	{"horizontalpodautoscalers.v1.autoscaling", "autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers.autoscaling is out of scope in mini-k8s: that is said of version v1"},
}

func testOutOfScope(k *kubectl) {
	for _, row := range outOfScope {
		k.fails("get "+row.name, row.sentence)
		manifest := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: a}\nspec: {some: field}\n", row.apiVersion, row.kind)
		lines := []string{"apply -f -"}
		if row.kind == "Job" { // the ways are the same for all
			lines = append(lines, "apply --dry-run=server -f -", "create -f -", "replace -f -", "delete -f -", "get -f -")
		}
		for _, line := range lines {
			if out, errOut, err := k.run(manifest, line); err == nil || out != "" || !strings.Contains(errOut, row.sentence) {
				k.t.Errorf("%s of a %s: %v\n%s%s", line, row.kind, err, out, errOut)
			}
		}
	}
	for line, sentence := range map[string]string{
		"create job a --image=i":                          "jobs.batch is out of scope in mini-k8s: ",
		"create cronjob a --image=i --schedule=@daily":    "cronjobs.batch is out of scope in mini-k8s: ",
		"create role a --verb=get --resource=pods":        "roles.rbac.authorization.k8s.io is out of scope in mini-k8s: ",
		"create rolebinding a --role=a --user=u":          "rolebindings.rbac.authorization.k8s.io is out of scope in mini-k8s: ",
		"create ingress a --rule=example.org/=web:80":     "ingresses.networking.k8s.io is out of scope in mini-k8s: ",
		"create quota a":                                  "resourcequotas is out of scope in mini-k8s: ",
		"create pdb a --selector=app=a --min-available=1": "poddisruptionbudgets.policy is out of scope in mini-k8s: ",
		"create priorityclass a --value=3":                "priorityclasses.scheduling.k8s.io is out of scope in mini-k8s: ",
		"rollout status ds/a":                             "daemonsets.apps is out of scope in mini-k8s: ",
		"rollout restart sts/a":                           "statefulsets.apps is out of scope in mini-k8s: ",
		"describe job a":                                  "jobs.batch is out of scope in mini-k8s: ",
		"certificate approve a":                           "certificatesigningrequests.certificates.k8s.io is out of scope in mini-k8s: ",
	} {
		k.fails(line, sentence)
	}
}

// What goes over all kinds goes on as if those out of scope were not there.
func testOutOfScopeHarmsNothingElse(k *kubectl) {
	k.ok("create deployment web --image=hello:1 --replicas=1")
	k.ok("rollout status deployment/web --timeout=30s")
	listed := k.ok("api-resources")
	for _, row := range outOfScope {
		if regexp.MustCompile(`(?m)^.* ` + regexp.QuoteMeta(row.apiVersion) + ` .* ` + row.kind + ` *$`).MatchString(listed) {
			k.t.Errorf("%s is listed:\n%s", row.kind, listed)
		}
	}
	k.shows("get all", `^pod/web-`, `^deployment.apps/web `, `^replicaset.apps/web-`)
	k.shows("get hpa,deployments", `^deployment.apps/web +1/1 `)
	k.shows("describe namespace "+k.namespace, `^Status: +Active$`)
	k.shows("delete all --all", `^deployment.apps "web" deleted`)
	k.shows("delete namespace "+k.namespace, `^namespace "`+k.namespace+`" deleted`)
	k.fails("delete namespace default", `namespaces "default" is forbidden: this namespace may not be deleted`)
}

func testNotServed(k *kubectl) {
	k.ok("run web --image=hello:1")
	k.ok("wait --for=condition=Ready pod/web --timeout=30s")
	for line, sentence := range map[string]string{
		"debug web --image=i --profile=general":   "pods/ephemeralcontainers is not served in this version of mini-k8s",
		"exec web -- ls":                          "hollow pods run no programs",
		"attach web":                              "hollow pods run no programs",
		"cp web:/a " + filepath.Join(k.home, "a"): "hollow pods run no programs",
		"get --raw /apis/nothing.example.org":     "the server could not find the requested resource",
		"create token default":                    "serviceaccounts/token is not served in this version of mini-k8s",
	} {
		k.fails(line, sentence)
	}
}
