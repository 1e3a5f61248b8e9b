package api_test

import (
	"testing"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestProbesAndHooksHaveTheDefaultsOfKubernetes(t *testing.T) {
	pod := parse(t, "Pod", `{spec: {containers: [{name: c, image: i, readinessProbe: {httpGet: {port: web}}, startupProbe: {tcpSocket: {port: 80}, periodSeconds: 2, failureThreshold: 9},
		lifecycle: {preStop: {httpGet: {port: 80, path: /bye, scheme: HTTPS}}}}]}}`).(*corev1.Pod)
	api.Lookup("pods").Default(pod)
	c := pod.Spec.Containers[0]
	if p := c.ReadinessProbe; p.TimeoutSeconds != 1 || p.PeriodSeconds != 10 || p.SuccessThreshold != 1 || p.FailureThreshold != 3 || p.InitialDelaySeconds != 0 ||
		p.HTTPGet.Path != "/" || p.HTTPGet.Scheme != "HTTP" || p.HTTPGet.Port != intstr.FromString("web") {
		t.Errorf("the readiness probe is %+v", p)
	}
	if p := c.StartupProbe; p.TimeoutSeconds != 1 || p.PeriodSeconds != 2 || p.FailureThreshold != 9 {
		t.Errorf("the startup probe is %+v", p)
	}
	if get := c.Lifecycle.PreStop.HTTPGet; get.Path != "/bye" || get.Scheme != "HTTPS" {
		t.Errorf("the hook is %+v", get)
	}
}

func TestValidationOfProbesAndHooks(t *testing.T) {
	container := func(what string) string { return `containers: [{name: c, image: i, ` + what + `}]` }
	for _, row := range []struct {
		name, spec string
		want       []string
	}{
		{"all of it", container(`startupProbe: {exec: {command: [a]}}, livenessProbe: {httpGet: {port: 80}, terminationGracePeriodSeconds: 1}, readinessProbe: {tcpSocket: {port: web}, successThreshold: 2},
			lifecycle: {postStart: {exec: {command: [a]}}, preStop: {sleep: {seconds: 30}}}`), nil},
		{"no way to ask", container(`livenessProbe: {}, lifecycle: {preStop: {}}`), []string{
			`spec.containers[0].livenessProbe: Required value: must specify one of: exec, httpGet, tcpSocket`, `spec.containers[0].lifecycle.preStop: Required value: must specify one of: exec, httpGet, sleep`}},
		{"two ways", container(`livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 80}}, lifecycle: {postStart: {exec: {command: [a]}, sleep: {seconds: 1}}}`), []string{
			`spec.containers[0].livenessProbe: Forbidden: may not specify more than one of`, `spec.containers[0].lifecycle.postStart: Forbidden: may not specify more than one of`}},
		{"ways that are not here", container(`readinessProbe: {grpc: {port: 80}}, lifecycle: {preStop: {tcpSocket: {port: 80}}}`), []string{
			`spec.containers[0].readinessProbe: Required value: must specify one of: exec, httpGet, tcpSocket`, `spec.containers[0].lifecycle.preStop: Required value`}},
		{"what is asked", container(`startupProbe: {exec: {}}, livenessProbe: {httpGet: {port: 0, scheme: ftp, httpHeaders: [{name: "a b"}]}}, readinessProbe: {tcpSocket: {port: a_b}}`), []string{
			`spec.containers[0].startupProbe.exec.command: Required value`, `spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0`,
			`spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "ftp"`, `spec.containers[0].livenessProbe.httpGet.httpHeaders[0].name: Invalid value: "a b"`,
			`spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: "a_b"`}},
		{"numbers", container(`startupProbe: {exec: {command: [a]}, successThreshold: 2}, livenessProbe: {exec: {command: [a]}, periodSeconds: -1, timeoutSeconds: -1, initialDelaySeconds: -1, failureThreshold: -1,
			terminationGracePeriodSeconds: 0}, readinessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 5}`), []string{
			`spec.containers[0].startupProbe.successThreshold: Invalid value: 2: must be 1`, `spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0`,
			`spec.containers[0].livenessProbe.timeoutSeconds: Invalid value: -1`, `spec.containers[0].livenessProbe.initialDelaySeconds: Invalid value: -1`,
			`spec.containers[0].livenessProbe.failureThreshold: Invalid value: -1`, `spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0`,
			`spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes`}},
		{"a sidecar", container(``) + `, initContainers: [{name: i, image: i, restartPolicy: Always, livenessProbe: {exec: {command: [a]}}}]`, nil},
		{"an init container that is none", container(``) + `, initContainers: [{name: i, image: i, livenessProbe: {exec: {command: [a]}}, lifecycle: {preStop: {exec: {command: [a]}}}}]`, []string{
			`spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always`, `spec.initContainers[0].lifecycle: Forbidden`}},
		{"an init container with a policy that is none", container(``) + `, initContainers: [{name: i, image: i, restartPolicy: Never}]`, []string{`spec.initContainers[0].restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"no time at all", container(``) + `, activeDeadlineSeconds: 0`, []string{`spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive`}},
		{"a gate with no name", container(``) + `, readinessGates: [{conditionType: ""}, {conditionType: "a b"}]`, []string{
			`spec.readinessGates[0].conditionType: Required value`, `spec.readinessGates[1].conditionType: Invalid value: "a b"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			kind, pod := api.Lookup("pods"), parse(t, "Pod", `{metadata: {name: web, namespace: default}, spec: {`+row.spec+`}}`)
			kind.Default(pod)
			checkErrors(t, kind, pod, nil, row.want)
		})
	}
}

func TestAPodAsksForWhatItNeedsAtItsGreatest(t *testing.T) {
	needs := func(cpu string) string {
		return `{name: c, image: i, resources: {requests: {cpu: ` + cpu + `, memory: ` + cpu + `Gi}}}`
	}
	side := func(cpu string) string {
		return `{name: c, image: i, restartPolicy: Always, resources: {requests: {cpu: ` + cpu + `, memory: ` + cpu + `Gi}}}`
	}
	for _, row := range []struct {
		name, spec string
		want       int64
	}{
		{"its containers together", `containers: [` + needs("1") + `, ` + needs("2") + `]`, 3},
		{"an init container that needs less", `initContainers: [` + needs("2") + `], containers: [` + needs("3") + `]`, 3},
		{"one that needs more", `initContainers: [` + needs("2") + `, ` + needs("5") + `], containers: [` + needs("3") + `]`, 5},
		{"a sidecar goes on beside them", `initContainers: [` + side("2") + `], containers: [` + needs("3") + `]`, 5},
		{"and beside those that come after it", `initContainers: [` + needs("6") + `, ` + side("2") + `, ` + needs("5") + `], containers: [` + needs("3") + `]`, 7},
	} {
		t.Run(row.name, func(t *testing.T) {
			cpu, memory := api.PodRequests(parse(t, "Pod", `{spec: {`+row.spec+`}}`).(*corev1.Pod))
			if cpu.Value() != row.want || memory.Value() != row.want<<30 {
				t.Errorf("it asks for %v and %v, want %d", cpu.String(), memory.String(), row.want)
			}
		})
	}
}
