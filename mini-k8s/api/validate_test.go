package api_test

import (
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
)

func TestValidationNamesEveryFieldThatIsWrong(t *testing.T) {
	deployment := func(spec string) string {
		return `{metadata: {name: web, namespace: default}, spec: {selector: {matchLabels: {app: web}}, ` + spec +
			`template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}`
	}
	pod := func(spec string) string { return `{metadata: {name: web, namespace: default}, spec: ` + spec + `}` }
	for _, row := range []struct {
		name, kind, manifest string
		want                 []string // each the beginning of an error, in any order
	}{
		{"pod is fine", "Pod", pod(`{containers: [{name: c, image: i}]}`), nil},
		{"missing image", "Pod", pod(`{containers: [{name: c}]}`), []string{`spec.containers[0].image: Required value`}},
		{"blank around the image", "Pod", pod(`{containers: [{name: c, image: "i "}]}`),
			[]string{`spec.containers[0].image: Invalid value: "i ": must not have leading or trailing whitespace`}},
		{"no containers", "Pod", pod(`{}`), []string{`spec.containers: Required value`}},
		{"bad pod name", "Pod", `{metadata: {name: Web_1, namespace: default}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of`}},
		{"no name", "Pod", `{metadata: {namespace: default}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.name: Required value: name or generateName is required`}},
		{"bad label", "Pod", `{metadata: {name: web, namespace: default, labels: {app: "a b"}}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.labels: Invalid value: "a b"`}},
		{"duplicate container", "Pod", pod(`{containers: [{name: c, image: i}, {name: c, image: i}]}`),
			[]string{`spec.containers[1].name: Duplicate value: "c"`}},
		{"container named as an init container", "Pod", pod(`{initContainers: [{name: c, image: i}], containers: [{name: c, image: i}]}`),
			[]string{`spec.containers[0].name: Duplicate value: "c"`}},
		{"all at once", "Pod", pod(`{restartPolicy: Sometimes, terminationGracePeriodSeconds: -1, nodeName: "-", containers: [{name: C, image: i, imagePullPolicy: Maybe,
			ports: [{containerPort: 0, protocol: SCTP, hostPort: 70000}], env: [{}, {name: "1="}, {name: A, value: a, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
			resources: {limits: {cpu: 1}, requests: {cpu: 2, memory: -1}}}]}`), []string{
			`spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`,
			`spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0`,
			`spec.nodeName: Invalid value: "-"`,
			`spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label`,
			`spec.containers[0].imagePullPolicy: Unsupported value: "Maybe"`,
			`spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535`,
			`spec.containers[0].ports[0].hostPort: Invalid value: 70000`,
			`spec.containers[0].ports[0].protocol: Unsupported value: "SCTP": supported values: "TCP", "UDP"`,
			`spec.containers[0].env[0].name: Required value`,
			`spec.containers[0].env[1].name: Invalid value: "1="`,
			`spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when`,
			`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`,
			`spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`,
		}},
		{"deployment is fine", "Deployment", deployment(``), nil},
		{"negative replicas", "Deployment", deployment(`replicas: -1, `), []string{`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{"both bounds zero", "Deployment", deployment(`strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}, `),
			[]string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{"bad bounds", "Deployment", deployment(`strategy: {rollingUpdate: {maxSurge: many, maxUnavailable: -1}}, `), []string{
			`spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": must be a non-negative number or a percentage`,
			`spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "-1": must be a non-negative number or a percentage`}},
		{"recreate with bounds", "Deployment", deployment(`strategy: {type: Recreate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}, `),
			[]string{"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{"unknown strategy", "Deployment", deployment(`strategy: {type: BlueGreen}, `), []string{`spec.strategy.type: Unsupported value: "BlueGreen"`}},
		{"selector that misses its own pods", "Deployment", `{metadata: {name: web, namespace: default}, spec: {replicas: -1, selector: {matchLabels: {app: web}},
			template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}}}`, []string{
			`spec.replicas: Invalid value: -1`,
			"spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`",
			`spec.template.spec.containers[0].image: Required value`}},
		{"no selector", "ReplicaSet", `{metadata: {name: web, namespace: default}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.selector: Required value`}},
		{"empty selector", "ReplicaSet", `{metadata: {name: web, namespace: default}, spec: {selector: {}, template: {spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.selector: Invalid value: {}: empty selector`}},
		{"pods that end", "ReplicaSet", `{metadata: {name: web, namespace: default}, spec: {selector: {matchLabels: {a: b}},
			template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"service name is a label", "Service", `{metadata: {name: 1.web, namespace: default}, spec: {ports: [{port: 80}]}}`,
			[]string{`metadata.name: Invalid value: "1.web": a DNS-1035 label`}},
		{"service without ports", "Service", `{metadata: {name: web, namespace: default}, spec: {}}`, []string{`spec.ports: Required value`}},
		{"headless service needs none", "Service", `{metadata: {name: web, namespace: default}, spec: {clusterIP: None}}`, nil},
		{"service ports", "Service", `{metadata: {name: web, namespace: default}, spec: {type: LoadBalancer, ports: [{port: 80}, {name: a, port: 0}, {name: a, port: 82}]}}`, []string{
			`spec.type: Unsupported value: "LoadBalancer"`, `spec.ports[0].name: Required value`, `spec.ports[1].port: Invalid value: 0`, `spec.ports[2].name: Duplicate value: "a"`}},
		{"external name", "Service", `{metadata: {name: web, namespace: default}, spec: {type: ExternalName}}`, []string{`spec.externalName: Required value`}},
		{"namespace name is a label", "Namespace", `{metadata: {name: a.b}}`, []string{`metadata.name: Invalid value: "a.b"`}},
		{"config key", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {"a b": ""}}`, []string{`data[a b]: Invalid value: "a b"`}},
		{"config size", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {a: ` + strings.Repeat("x", 1<<20+1) + `}}`, []string{`data: Too long`}},
		{"autoscaler", "HorizontalPodAutoscaler", `{metadata: {name: a, namespace: default}, spec: {minReplicas: 0, maxReplicas: -1}}`, []string{
			`spec.scaleTargetRef.name: Required value`, `spec.minReplicas: Invalid value: 0`, `spec.maxReplicas: Invalid value: -1`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			kind, o := api.Lookup(row.kind), parse(t, row.kind, row.manifest)
			kind.Default(o)
			checkErrors(t, kind, o, nil, row.want)
		})
	}
}

func TestUpdateMayNotChangeWhatIsImmutable(t *testing.T) {
	const spec = `containers: [{name: c, image: i}]`
	pod := func(spec string) string { return `{metadata: {name: web, namespace: default}, spec: {` + spec + `}}` }
	workload := func(spec string) string {
		return `{metadata: {name: web, namespace: default}, spec: {` + spec + `, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: c, image: i}]}}}}`
	}
	const onlyImages = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
	for _, row := range []struct {
		name, kind, before, after string
		want                      []string
	}{
		{"pod's image", "Pod", pod(spec), pod(`containers: [{name: c, image: other}]`), nil},
		{"pod's deadline", "Pod", pod(spec), pod(spec + `, activeDeadlineSeconds: 5`), nil},
		{"pod's toleration", "Pod", pod(spec), pod(spec + `, tolerations: [{key: a}]`), nil},
		{"pod's image is taken away", "Pod", pod(spec), pod(`containers: [{name: c}]`), []string{onlyImages}},
		{"pod's command", "Pod", pod(spec), pod(`containers: [{name: c, image: i, command: [a]}]`), []string{onlyImages}},
		{"pod's node", "Pod", pod(spec), pod(spec + `, nodeName: node-1`), []string{onlyImages}},
		{"pod's second container", "Pod", pod(spec), pod(`containers: [{name: c, image: i}, {name: d, image: i}]`), []string{onlyImages}},
		{"deployment's replicas", "Deployment", workload(`replicas: 1, selector: {matchLabels: {a: b}}`), workload(`replicas: 2, selector: {matchLabels: {a: b}}`), nil},
		{"deployment's selector", "Deployment", workload(`selector: {matchLabels: {a: b}}`), workload(`selector: {matchLabels: {c: d}}`),
			[]string{`spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable`}},
		{"replica set's selector", "ReplicaSet", workload(`selector: {matchLabels: {a: b}}`), workload(`selector: {matchLabels: {c: d}}`),
			[]string{`spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable`}},
		{"node gets its range", "Node", `{metadata: {name: n}}`, `{metadata: {name: n}, spec: {podCIDR: 10.244.1.0/24}}`, nil},
		{"node's range", "Node", `{metadata: {name: n}, spec: {podCIDR: 10.244.1.0/24}}`, `{metadata: {name: n}, spec: {podCIDR: 10.244.2.0/24}}`, []string{`spec.podCIDR: Forbidden`}},
		{"config becomes immutable", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {a: b}}`, `{metadata: {name: a, namespace: default}, immutable: true, data: {a: c}}`, nil},
		{"immutable config", "ConfigMap", `{metadata: {name: a, namespace: default}, immutable: true, data: {a: b}}`,
			`{metadata: {name: a, namespace: default}, immutable: true, data: {a: c}}`, []string{`data: Forbidden: field is immutable when`}},
		{"immutable config that would no longer be", "ConfigMap", `{metadata: {name: a, namespace: default}, immutable: true, data: {a: b}}`,
			`{metadata: {name: a, namespace: default}, data: {a: b}}`, []string{`data: Forbidden: field is immutable when`}},
		{"immutable secret", "Secret", `{metadata: {name: a, namespace: default}, immutable: true, data: {a: YQ==}}`,
			`{metadata: {name: a, namespace: default}, immutable: true, data: {a: Yg==}}`, []string{`data: Forbidden`}},
		{"secret's type", "Secret", `{metadata: {name: a, namespace: default}}`, `{metadata: {name: a, namespace: default}, type: other}`, []string{`type: Invalid value: "other": field is immutable`}},
		{"name", "ConfigMap", `{metadata: {name: a, namespace: default}}`, `{metadata: {name: b, namespace: default}}`, []string{`metadata.name: Invalid value: "b": field is immutable`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			kind, before, after := api.Lookup(row.kind), parse(t, row.kind, row.before), parse(t, row.kind, row.after)
			for _, o := range []api.Object{before, after} {
				kind.Default(o)
				o.SetResourceVersion("1")
			}
			checkErrors(t, kind, after, before, row.want)
		})
	}
}

// checkErrors validates and compares: every wanted beginning has its error, and there is no other error.
func checkErrors(t *testing.T, kind *api.Kind, o, old api.Object, want []string) {
	t.Helper()
	var got []string
	for _, err := range kind.Validate(o, old) {
		text := err.Error()
		got = append(got, text[:min(len(text), 300)])
	}
	for _, start := range want {
		at := slices.IndexFunc(got, func(text string) bool { return strings.HasPrefix(text, start) })
		if at < 0 {
			t.Errorf("no error begins with\n\t%s", start)
			continue
		}
		got = slices.Delete(got, at, at+1)
	}
	if len(got) > 0 {
		t.Errorf("errors that were not expected:\n\t%s", strings.Join(got, "\n\t"))
	}
}
