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
		{"pod with all that can be said right", "Pod", pod(`{restartPolicy: Never, dnsPolicy: None, hostname: web, serviceAccountName: web.shop, nodeSelector: {a.b/c: d, e: ""},
			tolerations: [{operator: Exists}, {key: a.b/c, operator: Equal, value: d}, {key: a, effect: NoExecute, tolerationSeconds: 5}, {key: a, operator: Exists, effect: PreferNoSchedule}],
			initContainers: [{name: i, image: i, ports: [{name: web, containerPort: 80, hostPort: 80}]}], containers: [
			{name: c, image: i, ports: [{name: web, containerPort: 80, hostPort: 80}, {name: dns, containerPort: 80, hostPort: 80, protocol: UDP}, {containerPort: 81, hostPort: 80, hostIP: 127.0.0.1}, {containerPort: 82}, {containerPort: 82}]},
			{name: d, image: i, ports: [{name: web, containerPort: 80}], resources: {limits: {cpu: 100, memory: 1Ti, ephemeral-storage: 1Gi, hugepages-2Mi: 2Mi, nvidia.com/gpu: 1}, requests: {cpu: 100}},
			env: [{name: "1.a-b"}, {name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['a.b/c']"}}}, {name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: B, valueFrom: {secretKeyRef: {name: b, key: a}}}]}]}`), nil},
		{"volumes and rights as they may be", "Pod", pod(`{securityContext: {runAsUser: 0, runAsGroup: 1, supplementalGroups: [2], fsGroup: 3}, volumes: [{name: a, emptyDir: {medium: Memory}}, {name: b, hostPath: {path: /a/b..c, type: Socket}},
			{name: c, configMap: {name: m, defaultMode: 0400, items: [{key: k, path: a/b, mode: 0777}]}}, {name: d, secret: {secretName: s}}],
			initContainers: [{name: i, image: i, volumeMounts: [{name: a, mountPath: /a}]}], containers: [{name: c, image: i, securityContext: {privileged: true, allowPrivilegeEscalation: true},
			volumeMounts: [{name: a, mountPath: /a, subPath: b/c}, {name: a, mountPath: /b, subPathExpr: $(A), readOnly: true}], envFrom: [{prefix: A_, configMapRef: {name: m}}, {secretRef: {name: s}}],
			env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}, {name: B, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}]}`), nil},
		{"volumes of other kinds", "Pod", pod(`{containers: [{name: c, image: i}], volumes: [{name: a, persistentVolumeClaim: {claimName: b}}, {name: b, nfs: {server: s, path: /}}, {name: c, emptyDir: {}, hostPath: {path: /}}, {name: d, downwardAPI: {}}]}`), []string{
			`spec.volumes[0].persistentVolumeClaim: Forbidden: is out of scope in mini-k8s: no storage outlives its node; a hostPath volume comes nearest`,
			`spec.volumes[1].nfs: Forbidden: is out of scope in mini-k8s: use one of emptyDir, hostPath, configMap, secret`,
			`spec.volumes[2].emptyDir: Forbidden: may not specify more than 1 volume type`,
			`spec.volumes[3].downwardAPI: Forbidden: is out of scope in mini-k8s: use environment variables`,
		}},
		{"volumes as they may not be", "Pod", pod(`{securityContext: {runAsUser: -1, runAsGroup: -1, supplementalGroups: [-1], fsGroup: -1}, volumes: [{name: A, emptyDir: {medium: HugePages}}, {name: b, hostPath: {path: ../b, type: Pipe}}, {name: b, hostPath: {}},
			{name: c, configMap: {defaultMode: 01000, items: [{mode: -1}, {key: k, path: /a}, {key: k, path: a/../b}, {key: k, path: ..b}]}}, {name: d, secret: {}}],
			containers: [{name: c, image: i, volumeMounts: [{name: x, mountPath: /a}, {}, {name: b, mountPath: /a, subPath: /x, subPathExpr: ../x}]}]}`), []string{
			`spec.volumes[0].name: Invalid value: "A"`, `spec.volumes[0].emptyDir.medium: Unsupported value: "HugePages"`,
			`spec.volumes[1].hostPath.path: Invalid value: "../b": must be an absolute path`, `spec.volumes[1].hostPath.path: Invalid value: "../b": must not contain '..'`,
			`spec.volumes[1].hostPath.type: Unsupported value: "Pipe"`, `spec.volumes[2].name: Duplicate value: "b"`, `spec.volumes[2].hostPath.path: Required value`,
			`spec.volumes[3].configMap.name: Required value`, `spec.volumes[3].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777`,
			`spec.volumes[3].configMap.items[0].key: Required value`, `spec.volumes[3].configMap.items[0].path: Required value`, `spec.volumes[3].configMap.items[0].mode: Invalid value: -1`,
			`spec.volumes[3].configMap.items[1].path: Invalid value: "/a": must be a relative path`, `spec.volumes[3].configMap.items[2].path: Invalid value: "a/../b": must not contain '..'`,
			`spec.volumes[3].configMap.items[3].path: Invalid value: "..b": must not start with '..'`, `spec.volumes[4].secret.secretName: Required value`,
			`spec.securityContext.runAsUser: Invalid value: -1`, `spec.securityContext.runAsGroup: Invalid value: -1`, `spec.securityContext.supplementalGroups[0]: Invalid value: -1`, `spec.securityContext.fsGroup: Invalid value: -1`,
			`spec.containers[0].volumeMounts[0].name: Not found: "x"`, `spec.containers[0].volumeMounts[1].name: Required value`, `spec.containers[0].volumeMounts[1].mountPath: Required value`,
			`spec.containers[0].volumeMounts[2].mountPath: Duplicate value: "/a"`, `spec.containers[0].volumeMounts[2].subPathExpr: Invalid value: "../x": subPathExpr and subPath are mutually exclusive`,
			`spec.containers[0].volumeMounts[2].subPath: Invalid value: "/x": must be a relative path`, `spec.containers[0].volumeMounts[2].subPathExpr: Invalid value: "../x": must not contain '..'`,
		}},
		{"environment and rights as they may not be", "Pod", pod(`{containers: [{name: c, image: i, securityContext: {runAsUser: -1},
			envFrom: [{}, {configMapRef: {}}, {prefix: "=", secretRef: {name: s}}, {configMapRef: {name: a}, secretRef: {name: b}}],
			env: [{name: A, valueFrom: {}}, {name: B, valueFrom: {configMapKeyRef: {key: "a b"}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]}]}`), []string{
			`spec.containers[0].securityContext.runAsUser: Invalid value: -1`,
			`spec.containers[0].envFrom[0]: Required value: must specify one of: configMapRef, secretRef`, `spec.containers[0].envFrom[1].configMapRef.name: Required value`,
			`spec.containers[0].envFrom[2].prefix: Invalid value: "="`, `spec.containers[0].envFrom[3]: Forbidden`, `spec.containers[0].env[0].valueFrom: Required value: must specify one of`,
			`spec.containers[0].env[1].valueFrom.configMapKeyRef.name: Required value`, `spec.containers[0].env[1].valueFrom.configMapKeyRef.key: Invalid value: "a b"`,
			`spec.containers[0].env[2].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu"`,
		}},
		{"pod with all names wrong", "Pod", pod(`{dnsPolicy: Mine, hostname: A.b, serviceAccountName: A, nodeSelector: {"a b": "c d"}, containers: [{name: c, image: i, ports: [{name: TOO_LONG_A_NAME_IT_IS, containerPort: 1}]}]}`), []string{
			`spec.dnsPolicy: Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"`,
			`spec.hostname: Invalid value: "A.b": a lowercase RFC 1123 label`, `spec.serviceAccountName: Invalid value: "A"`,
			`spec.nodeSelector: Invalid value: "a b"`, `spec.nodeSelector: Invalid value: "c d"`,
			`spec.containers[0].ports[0].name: Invalid value: "TOO_LONG_A_NAME_IT_IS": must be no more than 15`,
			`spec.containers[0].ports[0].name: Invalid value: "TOO_LONG_A_NAME_IT_IS": must contain only`, `spec.containers[0].ports[0].name: Invalid value: "TOO_LONG_A_NAME_IT_IS": must contain at least`}},
		{"tolerations", "Pod", pod(`{containers: [{name: c, image: i}], tolerations: [{key: a, operator: Exists, value: b}, {key: a b, value: c d}, {operator: Equal, value: a},
			{key: a, operator: In}, {key: a, effect: Never}, {key: a, effect: NoSchedule, tolerationSeconds: 1}]}`), []string{
			"spec.tolerations[0].value: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
			`spec.tolerations[1].key: Invalid value: "a b"`, `spec.tolerations[1].value: Invalid value: "c d"`,
			"spec.tolerations[2].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty",
			`spec.tolerations[3].operator: Unsupported value: "In": supported values: "Equal", "Exists"`,
			`spec.tolerations[4].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			"spec.tolerations[5].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"}},
		{"ports", "Pod", pod(`{containers: [{name: c, image: i, ports: [{name: web, containerPort: 80, hostPort: 8080}, {name: web, containerPort: 81, hostIP: here}]}, {name: d, image: i, ports: [{containerPort: 80, hostPort: 8080}]}]}`), []string{
			`spec.containers[0].ports[1].name: Duplicate value: "web"`, `spec.containers[0].ports[1].hostIP: Invalid value: "here": must be a valid IP address`,
			`spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//8080"`}},
		{"other port on the network of the node", "Pod", pod(`{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81}]}]}`),
			[]string{"spec.containers[0].ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true"}},
		{"one port twice on the network of the node", "Pod", pod(`{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}]}, {name: d, image: i, ports: [{containerPort: 80}]}]}`),
			[]string{`spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//80"`}},
		{"sources of variables", "Pod", pod(`{containers: [{name: c, image: i, env: [{name: A, valueFrom: {}}, {name: A, valueFrom: {fieldRef: {}}}, {name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}},
			{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]}]}`), []string{
			`spec.containers[0].env[0].valueFrom: Required value: must specify one of: fieldRef, resourceFieldRef`, `spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Required value`,
			`spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP"`,
			`spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels"`}},
		{"resources", "Pod", pod(`{containers: [{name: c, image: i, resources: {limits: {disk: 1, "a b/c": 1, cpu: 2G, memory: 8Ei}, requests: {memory: 9223372036854775807}}}]}`), []string{
			`spec.containers[0].resources.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified`,
			`spec.containers[0].resources.limits[a b/c]: Invalid value: "a b/c"`,
			`spec.containers[0].resources.limits[cpu]: Invalid value: "2G": must be less than or equal to 1073741824`,
			`spec.containers[0].resources.limits[memory]: Invalid value: "9223372036854775807": must be less than`,
			`spec.containers[0].resources.requests[cpu]: Invalid value: "2G": must be less than or equal to 1073741824`,
			`spec.containers[0].resources.requests[disk]: Invalid value: "disk"`,
			`spec.containers[0].resources.requests[a b/c]: Invalid value: "a b/c"`,
			`spec.containers[0].resources.requests[memory]: Invalid value: "9223372036854775807": must be less than or equal to 1125899906842624`}},
		{"annotations beyond 256 KiB", "Pod", `{metadata: {name: web, namespace: default, annotations: {a: ` + strings.Repeat("x", 256<<10) + `}}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.annotations: Too long: may not be more than 262144 bytes`}},
		{"owners", "Pod", `{metadata: {name: web, namespace: default, ownerReferences: [{apiVersion: v1, kind: Pod, name: a, uid: b, controller: true}, {apiVersion: v1, kind: Pod, name: a, uid: c, controller: true}, {}]}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.ownerReferences: Invalid value: `, `metadata.ownerReferences[2].apiVersion: Required value`, `metadata.ownerReferences[2].kind: Required value`,
				`metadata.ownerReferences[2].name: Required value`, `metadata.ownerReferences[2].uid: Required value`}},
		{"deployment is fine", "Deployment", deployment(``), nil},
		{"deployment with more than all missing", "Deployment", deployment(`strategy: {rollingUpdate: {maxSurge: 200%, maxUnavailable: 101%}}, `),
			[]string{`spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%`}},
		{"deployment that has more missing than it has", "Deployment", deployment(`strategy: {rollingUpdate: {maxUnavailable: 101}}, `), nil},
		{"deadline before the pods are available", "Deployment", deployment(`progressDeadlineSeconds: 10, minReadySeconds: 10, `), []string{`spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds`}},
		{"negative times", "Deployment", deployment(`minReadySeconds: -1, revisionHistoryLimit: -1, `), []string{`spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0`, `spec.revisionHistoryLimit: Invalid value: -1`}},
		{"template's annotations", "Deployment", `{metadata: {name: web, namespace: default}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}, annotations: {"a b": c}}, spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.template.metadata.annotations: Invalid value: "a b"`}},
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
			`spec.type: Unsupported value: "LoadBalancer"`, `spec.ports[0].name: Required value`, `spec.ports[1].port: Invalid value: 0`, `spec.ports[1].targetPort: Invalid value: 0`, `spec.ports[2].name: Duplicate value: "a"`}},
		{"service's fields", "Service", `{metadata: {name: web, namespace: default}, spec: {selector: {"a b": c}, sessionAffinity: Sure, ports: [{name: A, port: 80, targetPort: WEB}, {name: b, port: 80, nodePort: 30080}, {name: c, port: 80, targetPort: 70000, protocol: UDP}]}}`, []string{
			`spec.selector: Invalid value: "a b"`, `spec.sessionAffinity: Unsupported value: "Sure": supported values: "None", "ClientIP"`,
			`spec.ports[0].name: Invalid value: "A"`, `spec.ports[0].targetPort: Invalid value: "WEB": must contain only`, `spec.ports[0].targetPort: Invalid value: "WEB": must contain at least`, `spec.ports[1]: Duplicate value: "80/TCP"`,
			"spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'", `spec.ports[2].targetPort: Invalid value: 70000`}},
		{"service with a named target", "Service", `{metadata: {name: web, namespace: default}, spec: {type: NodePort, ports: [{port: 80, targetPort: web, nodePort: 30080}]}}`, nil},
		{"bad external name", "Service", `{metadata: {name: web, namespace: default}, spec: {type: ExternalName, externalName: A_b}}`, []string{`spec.externalName: Invalid value: "A_b"`}},
		{"external name with a dot at its end", "Service", `{metadata: {name: web, namespace: default}, spec: {type: ExternalName, externalName: example.com.}}`, nil},
		{"external name", "Service", `{metadata: {name: web, namespace: default}, spec: {type: ExternalName}}`, []string{`spec.externalName: Required value`}},
		{"namespace name is a label", "Namespace", `{metadata: {name: a.b}}`, []string{`metadata.name: Invalid value: "a.b"`}},
		{"config key", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {"a b": ""}}`, []string{`data[a b]: Invalid value: "a b"`}},
		{"config key twice", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {a: ""}, binaryData: {a: "", "b c": ""}}`,
			[]string{`binaryData[b c]: Invalid value: "b c"`, `binaryData[a]: Invalid value: "a": duplicate of key present in data`}},
		{"secret of another type", "Secret", `{metadata: {name: a, namespace: default}, type: example.com/mine}`, nil},
		{"node", "Node", `{metadata: {name: n}, spec: {podCIDR: 10.244.1.1/24, taints: [{}, {key: a, value: "b c", effect: Never}, {key: d, effect: NoSchedule}, {key: d, value: e, effect: NoSchedule}, {key: d, effect: NoExecute}]},
			status: {capacity: {cpu: -1}, allocatable: {memory: 8Ei}}}`, []string{
			`spec.podCIDR: Invalid value: "10.244.1.1/24"`, `spec.taints[0].key: Required value`, `spec.taints[0].effect: Required value`,
			`spec.taints[1].value: Invalid value: "b c"`, `spec.taints[1].effect: Unsupported value: "Never"`, `spec.taints[3]: Duplicate value: "d=e:NoSchedule"`,
			`status.capacity[cpu]: Invalid value: "-1"`, `status.allocatable[memory]: Invalid value`}},
		{"lease", "Lease", `{metadata: {name: a, namespace: default}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}`, []string{
			`spec.leaseDurationSeconds: Invalid value: 0: must be greater than or equal to 1`, `spec.leaseTransitions: Invalid value: -1`}},
		{"event of another namespace", "Event", `{metadata: {name: a, namespace: default}, involvedObject: {namespace: shop}}`, []string{`involvedObject.namespace: Invalid value: "shop": does not match event.namespace`}},
		{"event of a node", "Event", `{metadata: {name: a, namespace: default}, involvedObject: {kind: Node, name: n}}`, nil},
		{"event of a node elsewhere", "Event", `{metadata: {name: a, namespace: shop}, involvedObject: {kind: Node, name: n}}`, []string{`involvedObject.namespace: Invalid value: ""`}},
		{"slice of IPv6", "EndpointSlice", `{metadata: {name: a, namespace: default}, addressType: IPv6}`, []string{`addressType: Unsupported value: "IPv6": supported values: "IPv4", "FQDN"`}},
		{"config size", "ConfigMap", `{metadata: {name: a, namespace: default}, data: {a: ` + strings.Repeat("x", 1<<20+1) + `}}`, []string{`data: Too long`}},
		{"autoscaler's metrics and behavior", "HorizontalPodAutoscaler", `{metadata: {name: a, namespace: default}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Job, name: a},
			metrics: [{type: Object}, {type: Resource}, {type: Resource, resource: {name: gpu, target: {type: Value, averageUtilization: 0}}},
			{type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: 0, averageUtilization: 5}}}],
			behavior: {scaleUp: {stabilizationWindowSeconds: 4000, selectPolicy: Any, policies: [{type: Share, value: 0, periodSeconds: 0}]}}}}`, []string{
			`spec.scaleTargetRef.kind: Unsupported value: "Job": supported values: "Deployment", "ReplicaSet"`,
			`spec.metrics[0].type: Unsupported value: "Object": supported values: "Resource"`, `spec.metrics[0].resource: Required value`, `spec.metrics[1].resource: Required value`,
			`spec.metrics[2].resource.name: Unsupported value: "gpu": supported values: "cpu", "memory"`,
			`spec.metrics[2].resource.target.type: Unsupported value: "Value": supported values: "Utilization", "AverageValue"`,
			`spec.metrics[2].resource.target.averageUtilization: Invalid value: 0`,
			`spec.metrics[3].resource.target: Forbidden: may not specify more than one of: averageUtilization, averageValue`,
			`spec.metrics[3].resource.target.averageValue: Invalid value: "0": must be positive`,
			`spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000`, `spec.behavior.scaleUp.selectPolicy: Unsupported value: "Any"`,
			`spec.behavior.scaleUp.policies[0].type: Unsupported value: "Share"`, `spec.behavior.scaleUp.policies[0].value: Invalid value: 0`,
			`spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 0`}},
		{"autoscaler", "HorizontalPodAutoscaler", `{metadata: {name: a, namespace: default}, spec: {minReplicas: 0, maxReplicas: -1}}`, []string{
			`spec.scaleTargetRef.kind: Required value`, `spec.scaleTargetRef.name: Required value`, `spec.minReplicas: Invalid value: 0`, `spec.maxReplicas: Invalid value: -1`}},
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
		{"pod gets less time", "Pod", pod(spec + `, activeDeadlineSeconds: 9`), pod(spec + `, activeDeadlineSeconds: 5`), nil},
		{"pod gets more time", "Pod", pod(spec + `, activeDeadlineSeconds: 5`), pod(spec + `, activeDeadlineSeconds: 9`), []string{`spec.activeDeadlineSeconds: Invalid value: 9: must be less than or equal to previous value 5`}},
		{"pod's toleration", "Pod", pod(spec), pod(spec + `, tolerations: [{key: a}]`), nil},
		{"pod's image is taken away", "Pod", pod(spec), pod(`containers: [{name: c}]`), []string{`spec.containers[0].image: Required value`}},
		{"pod's bad toleration", "Pod", pod(spec), pod(spec + `, tolerations: [{}]`), []string{`spec.tolerations[0].operator: Invalid value: ""`}},
		{"pod tolerates for longer", "Pod", pod(spec + `, tolerations: [{key: a, effect: NoExecute}]`), pod(spec + `, tolerations: [{key: a, effect: NoExecute, tolerationSeconds: 5}]`), nil},
		{"pod's toleration is taken away", "Pod", pod(spec + `, tolerations: [{key: a}, {key: b}]`), pod(spec + `, tolerations: [{key: b}, {key: c}]`),
			[]string{`spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds`}},
		{"pod's grace period", "Pod", pod(spec), pod(spec + `, terminationGracePeriodSeconds: 5`), []string{onlyImages}},
		{"pod's containers change places", "Pod", pod(`containers: [{name: c, image: i}, {name: d, image: i}]`), pod(`containers: [{name: d, image: i}, {name: c, image: i}]`), []string{onlyImages}},
		{"pod of before there was a rule", "Pod", pod(`hostname: A_B, ` + spec), pod(`hostname: A_B, ` + spec), nil},
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
		{"slice's type of addresses", "EndpointSlice", `{metadata: {name: a, namespace: default}, addressType: IPv4}`, `{metadata: {name: a, namespace: default}, addressType: FQDN}`,
			[]string{`addressType: Invalid value: "FQDN": field is immutable`}},
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
