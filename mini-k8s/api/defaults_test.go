package api_test

import (
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

func TestDefaults(t *testing.T) {
	const deployment = `selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "hello:1"}]}}`
	const deploymentPods = `selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {restartPolicy: Always, dnsPolicy: ClusterFirst,
		schedulerName: default-scheduler, terminationGracePeriodSeconds: 30, securityContext: {}, containers: [{name: c, image: "hello:1", imagePullPolicy: IfNotPresent,
		terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File}]}}`
	const tolerations = `tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30},
		{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}], `
	for _, row := range []struct{ name, kind, before, after string }{
		{"pod that says how long it bears a silent node", "Pod",
			`{spec: {containers: [], tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 5}, {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}]}}`,
			`{spec: {serviceAccountName: default, serviceAccount: default, restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler,
			terminationGracePeriodSeconds: 30, securityContext: {}, containers: [],
			tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 5}, {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}]},
			status: {phase: Pending, qosClass: BestEffort}}`},
		{"pod", "Pod",
			`{spec: {containers: [{name: c, image: "hello:1", ports: [{containerPort: 80}]}]}}`,
			`{spec: {` + tolerations + `restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler, terminationGracePeriodSeconds: 30, securityContext: {},
			serviceAccountName: default, serviceAccount: default, containers: [{name: c, image: "hello:1", imagePullPolicy: IfNotPresent, terminationMessagePath: /dev/termination-log,
			terminationMessagePolicy: File, ports: [{containerPort: 80, protocol: TCP}]}]}, status: {phase: Pending, qosClass: BestEffort}}`},
		{"what is said stays", "Pod",
			`{spec: {restartPolicy: Never, dnsPolicy: Default, schedulerName: mine, serviceAccountName: mine, serviceAccount: mine, terminationGracePeriodSeconds: 0, securityContext: {},
			containers: [{name: c, image: i, imagePullPolicy: Never, terminationMessagePath: /a, terminationMessagePolicy: FallbackToLogsOnError, ports: [{containerPort: 80, protocol: UDP}]}]}, status: {phase: Running, qosClass: Burstable}}`,
			`{spec: {` + tolerations + `restartPolicy: Never, dnsPolicy: Default, schedulerName: mine, serviceAccountName: mine, serviceAccount: mine, terminationGracePeriodSeconds: 0, securityContext: {},
			containers: [{name: c, image: i, imagePullPolicy: Never, terminationMessagePath: /a, terminationMessagePolicy: FallbackToLogsOnError, ports: [{containerPort: 80, protocol: UDP}]}]}, status: {phase: Running, qosClass: Burstable}}`},
		{"pod with the old name of its service account", "Pod",
			`{spec: {serviceAccount: mine, containers: []}}`,
			`{spec: {` + tolerations + `serviceAccountName: mine, serviceAccount: mine, restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler,
			terminationGracePeriodSeconds: 30, securityContext: {}, containers: []}, status: {phase: Pending, qosClass: BestEffort}}`},
		{"pod on the network of its node", "Pod",
			`{spec: {hostNetwork: true, restartPolicy: Never, dnsPolicy: Default, schedulerName: a, serviceAccountName: a, terminationGracePeriodSeconds: 0, securityContext: {},
			containers: [{name: c, image: i, imagePullPolicy: Never, terminationMessagePath: /a, terminationMessagePolicy: File, ports: [{containerPort: 80}]}]}}`,
			`{spec: {` + tolerations + `hostNetwork: true, restartPolicy: Never, dnsPolicy: Default, schedulerName: a, serviceAccountName: a, serviceAccount: a, terminationGracePeriodSeconds: 0, securityContext: {},
			containers: [{name: c, image: i, imagePullPolicy: Never, terminationMessagePath: /a, terminationMessagePolicy: File, ports: [{containerPort: 80, hostPort: 80, protocol: TCP}]}]},
			status: {phase: Pending, qosClass: BestEffort}}`},
		{"deployment", "Deployment",
			`{spec: {` + deployment + `}}`,
			`{spec: {replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600,
			strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}, ` + deploymentPods + `}}`},
		{"deployment of no replicas", "Deployment",
			`{spec: {replicas: 0, strategy: {type: Recreate}, ` + deployment + `}}`,
			`{spec: {replicas: 0, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, strategy: {type: Recreate}, ` + deploymentPods + `}}`},
		{"deployment with one bound", "Deployment",
			`{spec: {strategy: {rollingUpdate: {maxSurge: 0}}, ` + deployment + `}}`,
			`{spec: {replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600,
			strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 25%}}, ` + deploymentPods + `}}`},
		{"service", "Service",
			`{spec: {ports: [{port: 80}, {port: 81, targetPort: web, protocol: UDP}]}}`,
			`{spec: {type: ClusterIP, sessionAffinity: None, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, targetPort: 80, protocol: TCP}, {port: 81, targetPort: web, protocol: UDP}]}}`},
		{"secret", "Secret", `{data: {a: YQ==}, stringData: {b: b}}`, `{type: Opaque, data: {a: YQ==, b: Yg==}}`},
		{"namespace", "Namespace", `{metadata: {name: shop}}`,
			`{metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}, status: {phase: Active}}`},
		{"autoscaler", "HorizontalPodAutoscaler", `{spec: {maxReplicas: 3}}`, `{spec: {minReplicas: 1, maxReplicas: 3,
			metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}}`},
		{"autoscaler that says a little of how", "HorizontalPodAutoscaler",
			`{spec: {maxReplicas: 3, metrics: [{type: Resource}], behavior: {scaleDown: {stabilizationWindowSeconds: 5}, scaleUp: {selectPolicy: Min}}}}`,
			`{spec: {minReplicas: 1, maxReplicas: 3, metrics: [{type: Resource}], behavior: {
			scaleDown: {stabilizationWindowSeconds: 5, selectPolicy: Max, policies: [{type: Percent, value: 100, periodSeconds: 15}]},
			scaleUp: {stabilizationWindowSeconds: 0, selectPolicy: Min, policies: [{type: Pods, value: 4, periodSeconds: 15}, {type: Percent, value: 100, periodSeconds: 15}]}}}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, want := parse(t, row.kind, row.before), parse(t, row.kind, row.after)
			api.Lookup(row.kind).Default(got)
			if !equality.Semantic.DeepEqual(got, want) {
				text, _ := yaml.Marshal(got)
				t.Errorf("got\n%s", text)
			}
		})
	}
}

func TestImageWithoutAFixedTagIsAlwaysPulled(t *testing.T) {
	for _, row := range []struct {
		name, image string
		want        corev1.PullPolicy
	}{
		{"no tag", "hello", corev1.PullAlways},
		{"latest", "hello:latest", corev1.PullAlways},
		{"tag", "hello:1", corev1.PullIfNotPresent},
		{"port is no tag", "registry:5000/hello", corev1.PullAlways},
		{"port and tag", "registry:5000/hello:1", corev1.PullIfNotPresent},
		{"digest", "hello@sha256:" + strings.Repeat("0", 64), corev1.PullIfNotPresent},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: row.image}}}}
			api.Lookup("pods").Default(pod)
			if got := pod.Spec.Containers[0].ImagePullPolicy; got != row.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestLimitIsTheRequestOfWhoMakesNone(t *testing.T) {
	pod := parse(t, "Pod", `{spec: {containers: [{name: c, image: i, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}]}}`).(*corev1.Pod)
	api.Lookup("pods").Default(pod)
	requests := pod.Spec.Containers[0].Resources.Requests
	if cpu, memory := requests.Cpu().String(), requests.Memory().String(); cpu != "500m" || memory != "1Gi" {
		t.Errorf("cpu %s, memory %s", cpu, memory)
	}
}

func TestQOSClass(t *testing.T) {
	for _, row := range []struct {
		name, containers string
		want             corev1.PodQOSClass
	}{
		{"nothing asked", `[{}, {}]`, corev1.PodQOSBestEffort},
		{"limits of both", `[{resources: {limits: {cpu: 1, memory: 1Gi}}}]`, corev1.PodQOSGuaranteed},
		{"request below the limit", `[{resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}]`, corev1.PodQOSBurstable},
		{"one of two containers", `[{resources: {limits: {cpu: 1, memory: 1Gi}}}, {}]`, corev1.PodQOSBurstable},
		{"only a request", `[{resources: {requests: {memory: 1Gi}}}]`, corev1.PodQOSBurstable},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := parse(t, "Pod", `{spec: {containers: `+row.containers+`}}`).(*corev1.Pod)
			api.Lookup("pods").Default(pod)
			if got := pod.Status.QOSClass; got != row.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestPodRequests(t *testing.T) {
	for _, row := range []struct{ name, spec, cpu, memory string }{
		{"nothing", `{}`, "0", "0"},
		{"sum of the containers", `{containers: [{resources: {requests: {cpu: 100m, memory: 1Gi}}}, {resources: {requests: {cpu: 200m}}}]}`, "300m", "1Gi"},
		{"larger init container", `{initContainers: [{resources: {requests: {cpu: 1}}}], containers: [{resources: {requests: {cpu: 100m, memory: 1Gi}}}]}`, "1", "1Gi"},
		{"init containers run one by one", `{initContainers: [{resources: {requests: {cpu: 150m}}}, {resources: {requests: {cpu: 150m, memory: 2Gi}}}],
			containers: [{resources: {requests: {cpu: 200m}}}]}`, "200m", "2Gi"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cpu, memory := api.PodRequests(parse(t, "Pod", `{spec: `+row.spec+`}`).(*corev1.Pod))
			if cpu.String() != row.cpu || memory.String() != row.memory {
				t.Errorf("cpu %s, memory %s", cpu.String(), memory.String())
			}
		})
	}
}

func TestJoinNameStaysALabel(t *testing.T) {
	for _, row := range []struct{ name, base, suffix, want string }{
		{"short", "web", "7d9f", "web-7d9f"},
		{"just fits", strings.Repeat("a", 58), "7d9f", strings.Repeat("a", 58) + "-7d9f"},
		{"cut", strings.Repeat("a", 100), "7d9f", strings.Repeat("a", 58) + "-7d9f"},
		{"cut behind a dash", strings.Repeat("a", 57) + "-bcd", "7d9f", strings.Repeat("a", 57) + "-7d9f"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := api.JoinName(row.base, row.suffix); got != row.want || len(got) > 63 {
				t.Errorf("got %s (%d)", got, len(got))
			}
		})
	}
}

func TestSetPodConditionKeepsTheTimeOfAnUnchangedStatus(t *testing.T) {
	pod := parse(t, "Pod", `{status: {conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True", lastTransitionTime: 2020-01-01T00:00:00Z}]}}`).(*corev1.Pod)
	since := pod.Status.Conditions[1].LastTransitionTime
	api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "still"})
	if c := pod.Status.Conditions[1]; !api.PodReady(pod) || c.Message != "still" || !c.LastTransitionTime.Equal(&since) {
		t.Errorf("same status: %v", c)
	}
	api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse})
	if c := pod.Status.Conditions[1]; api.PodReady(pod) || !since.Before(&c.LastTransitionTime) {
		t.Errorf("other status: %v", c)
	}
	api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	if len(pod.Status.Conditions) != 3 {
		t.Errorf("a new condition is not added: %v", pod.Status.Conditions)
	}
	if api.PodReady(&corev1.Pod{}) {
		t.Error("a pod without conditions is ready")
	}
}

func TestPodFinished(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]bool{corev1.PodSucceeded: true, corev1.PodFailed: true, corev1.PodRunning: false, corev1.PodPending: false, "": false} {
		if got := api.PodFinished(&corev1.Pod{Status: corev1.PodStatus{Phase: phase}}); got != want {
			t.Errorf("%q: %v", phase, got)
		}
	}
}

func TestDefaultsOfADeploymentsPodsAreThoseOfAPod(t *testing.T) { // but for the service account and the tolerations, which are of the pod alone
	const spec = `{containers: [{name: c, image: hello, env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}]}`
	pod := parse(t, "Pod", `{spec: `+spec+`}`).(*corev1.Pod)
	deployment := parse(t, "Deployment", `{spec: {template: {spec: `+spec+`}}}`).(*appsv1.Deployment)
	api.Lookup("pods").Default(pod)
	api.Lookup("deployments").Default(deployment)
	pod.Spec.Tolerations = nil
	if pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "", ""; !equality.Semantic.DeepEqual(pod.Spec, deployment.Spec.Template.Spec) {
		t.Errorf("%v\n%v", pod.Spec, deployment.Spec.Template.Spec)
	}
	if got := pod.Spec.Containers[0].Env[0].ValueFrom.FieldRef.APIVersion; got != "v1" {
		t.Errorf("fieldRef.apiVersion is %q", got)
	}
}
