package apiserver_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A dry run is asked to know what would happen, as `kubectl apply --dry-run=server` does.
func TestDryRunAnswersAsTheRealOneDoes(t *testing.T) {
	const noAffinity = `"spec":{"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":{}}]}}}`
	for _, row := range []struct{ name, method, path, body string }{
		{"create", "POST", deployments, deployment("new", "replicas: 3,")},
		{"create with a field that nothing acts on", "POST", pods, pod("new", "hostPID: true, serviceAccountName: robot")},
		{"create with an unknown field", "POST", pods, pod("new", "hostPid: true")},
		{"create with an unknown field, strictly", "POST", pods + "?fieldValidation=Strict", pod("new", "hostPid: true")},
		{"create what is wrong in many ways", "POST", pods, pod("new", "restartPolicy: Sometimes, hostname: A_B, tolerations: [{}]")},
		{"create what is there", "POST", pods, pod("there", "")},
		{"create where nothing is", "POST", "/api/v1/namespaces/nowhere/pods", pod("new", "")},
		{"update", "PUT", deployments + "/web", deployment("web", "replicas: 3, minReadySeconds: 5,")},
		{"update what may not be", "PUT", pods + "/there", pod("there", "hostname: other")},
		{"update an older one", "PUT", pods + "/there", toJSON(`{metadata: {name: there, resourceVersion: "1"}, spec: {containers: [{name: c, image: "i:1"}]}}`)},
		{"update what is not there", "PUT", pods + "/new", pod("new", "")},
		{"patch", "PATCH", deployments + "/web", `{"spec":{"template":{` + noAffinity + `}}}`},
		{"patch what may not be", "PATCH", pods + "/there", `{` + noAffinity + `}`},
		{"patch to what is wrong", "PATCH", deployments + "/web", `{"spec":{"replicas":-1,"strategy":{"rollingUpdate":{"maxUnavailable":"200%"}}}}`},
		{"scale", "PATCH", deployments + "/web/scale", `{"spec":{"replicas":4}}`},
		{"scale to what is wrong", "PATCH", deployments + "/web/scale", `{"spec":{"replicas":-4}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.post(deployments, deployment("web", "")).ok()
			w.post(pods, pod("there", "")).ok()
			ask := func(path string) (a answer, o object, message string) {
				header := "Content-Type: application/json"
				if row.method == "PATCH" {
					header = "Content-Type: application/merge-patch+json"
				}
				a = w.call("admin", row.method, path, row.body, header)
				if a.code < 300 {
					return a, a.object(), ""
				}
				return a, object{}, string(a.body)
			}
			and := "?"
			if strings.Contains(row.path, "?") {
				and = "&"
			}
			dry, wouldBe, dryMessage := ask(row.path + and + "dryRun=All")
			real, is, message := ask(row.path)
			if dry.code != real.code || dryMessage != message || !slices.Equal(dry.warnings, real.warnings) {
				t.Errorf("dry run\n\t%d %q %s\nreal\n\t%d %q %s", dry.code, dry.warnings, dryMessage, real.code, real.warnings, message)
			}
			if !reflect.DeepEqual(wouldBe.Spec, is.Spec) || !reflect.DeepEqual(wouldBe.Status, is.Status) || wouldBe.Generation != is.Generation {
				t.Errorf("dry run\n\t%+v\nreal\n\t%+v", wouldBe, is)
			}
		})
	}
}
