package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

func TestPodSummary(t *testing.T) {
	for _, row := range []struct{ name, pod, want string }{
		{"pending", `{status: {phase: Pending}}`, "Pending"},
		{"running", `{status: {phase: Running, containerStatuses: [{ready: true, state: {running: {}}}]}}`, "Running"},
		{"completed", `{status: {phase: Succeeded, containerStatuses: [{state: {terminated: {reason: Completed}}}]}}`, "Completed"},
		{"failed", `{status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 1, reason: Error}}}]}}`, "Error"},
		{"exit code without a reason", `{status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 3}}}]}}`, "ExitCode:3"},
		{"reason of the pod", `{status: {phase: Failed, reason: Evicted}}`, "Evicted"},
		{"being created", `{status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ContainerCreating}}}]}}`, "ContainerCreating"},
		{"crash loop", `{status: {phase: Running, containerStatuses: [{state: {waiting: {reason: CrashLoopBackOff}}}]}}`, "CrashLoopBackOff"},
		{"first container that waits", `{status: {phase: Running, containerStatuses: [{state: {waiting: {reason: ErrImagePull}}}, {state: {waiting: {reason: CrashLoopBackOff}}}]}}`, "ErrImagePull"},
		{"one of two is done", `{status: {phase: Running, conditions: [{type: Ready, status: "True"}],
			containerStatuses: [{state: {terminated: {reason: Completed}}}, {ready: true, state: {running: {}}}]}}`, "Running"},
		{"one of two is done and the pod not ready", `{status: {phase: Running,
			containerStatuses: [{state: {terminated: {reason: Completed}}}, {ready: true, state: {running: {}}}]}}`, "NotReady"},
		{"first init container runs", `{spec: {initContainers: [{}, {}]}, status: {phase: Pending, initContainerStatuses: [{state: {running: {}}}, {}]}}`, "Init:0/2"},
		{"only init container", `{spec: {initContainers: [{}]}, status: {phase: Pending, initContainerStatuses: [{state: {waiting: {reason: PodInitializing}}}]}}`, "Init:0/1"},
		{"second init container runs", `{spec: {initContainers: [{}, {}]}, status: {phase: Pending, initContainerStatuses: [{state: {terminated: {}}}, {state: {running: {}}}]}}`, "Init:1/2"},
		{"init container crashes", `{spec: {initContainers: [{}]}, status: {phase: Pending, initContainerStatuses: [{state: {waiting: {reason: CrashLoopBackOff}}}]}}`, "Init:CrashLoopBackOff"},
		{"init container failed", `{spec: {initContainers: [{}]}, status: {phase: Pending, initContainerStatuses: [{state: {terminated: {exitCode: 1, reason: Error}}}]}}`, "Init:Error"},
		{"init container failed without a reason", `{spec: {initContainers: [{}]}, status: {phase: Pending, initContainerStatuses: [{state: {terminated: {exitCode: 2}}}]}}`, "Init:ExitCode:2"},
		{"init containers are done", `{spec: {initContainers: [{}]}, status: {phase: Running, initContainerStatuses: [{state: {terminated: {reason: Completed}}}],
			containerStatuses: [{ready: true, state: {running: {}}}]}}`, "Running"},
		{"terminating", `{metadata: {deletionTimestamp: 2020-01-01T00:00:00Z}, status: {phase: Running, containerStatuses: [{state: {running: {}}}]}}`, "Terminating"},
		{"terminating while it initializes", `{metadata: {deletionTimestamp: 2020-01-01T00:00:00Z}, spec: {initContainers: [{}]}, status: {phase: Pending, initContainerStatuses: [{}]}}`, "Terminating"},
		{"on a lost node", `{metadata: {deletionTimestamp: 2020-01-01T00:00:00Z}, status: {phase: Running, reason: NodeLost}}`, "Unknown"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := api.PodSummary(parse(t, "Pod", row.pod).(*corev1.Pod)); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestRowsOfTheTables(t *testing.T) {
	const day = 24 * time.Hour
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	for _, row := range []struct{ name, kind, manifest, want string }{
		{"pod", "Pod", `{metadata: {name: web, creationTimestamp: "` + ago(50*day) + `"}, spec: {nodeName: node-1, containers: [{}, {}]}, status: {phase: Running, podIP: 10.244.1.2,
			containerStatuses: [{ready: true, state: {running: {}}}, {restartCount: 2, state: {running: {}}, lastState: {terminated: {finishedAt: "` + ago(20*day) + `"}}}]}}`,
			"web|1/2|Running|2 (20d ago)|50d|10.244.1.2|node-1|<none>|<none>"},
		{"new pod", "Pod", `{metadata: {name: web}, spec: {containers: [{}]}, status: {phase: Pending}}`,
			"web|0/1|Pending|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"node", "Node", `{metadata: {name: node-1, labels: {node-role.kubernetes.io/worker: "", node-role.kubernetes.io/master: ""}}, spec: {unschedulable: true},
			status: {conditions: [{type: Ready, status: "True"}], addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1, osImage: Debian}}}`,
			"node-1|Ready,SchedulingDisabled|master,worker|<unknown>|v1|10.0.0.1|<none>|Debian|<unknown>|<unknown>"},
		{"lost node", "Node", `{metadata: {name: node-1}, status: {conditions: [{type: Ready, status: Unknown}]}}`,
			"node-1|NotReady|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>"},
		{"node that never spoke", "Node", `{metadata: {name: node-1}}`, "node-1|Unknown|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>"},
		{"deployment", "Deployment", `{metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: i}, {name: b, image: j}]}}},
			status: {readyReplicas: 1, updatedReplicas: 2, availableReplicas: 1}}`, "web|1/3|2|1|<unknown>|a,b|i,j|app=web"},
		{"replica set", "ReplicaSet", `{metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: i}]}}},
			status: {replicas: 2, readyReplicas: 1}}`, "web|3|2|1|<unknown>|a|i|app=web"},
		{"service", "Service", `{metadata: {name: web}, spec: {type: NodePort, clusterIP: 10.96.0.1, selector: {b: c, a: b}, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]}}`,
			"web|NodePort|10.96.0.1|<none>|80:30080/TCP,53/UDP|<unknown>|a=b,b=c"},
		{"external name", "Service", `{metadata: {name: web}, spec: {type: ExternalName, externalName: example.org}}`, "web|ExternalName|<none>|example.org|<none>|<unknown>|<none>"},
		{"endpoints", "Endpoints", `{metadata: {name: web}, subsets: [{addresses: [{ip: a}, {ip: b}, {ip: c}, {ip: d}], ports: [{port: 80}]}]}`, "web|a:80,b:80,c:80 + 1 more...|<unknown>"},
		{"endpoint slice", "EndpointSlice", `{metadata: {name: web-1}, addressType: IPv4, endpoints: [{addresses: [a]}, {addresses: [b]}], ports: [{port: 80}]}`, "web-1|IPv4|80|a,b|<unknown>"},
		{"autoscaler", "HorizontalPodAutoscaler", `{metadata: {name: web}, spec: {scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 5,
			metrics: [{resource: {name: cpu, target: {averageUtilization: 50}}}, {resource: {name: memory, target: {averageUtilization: 80}}}]},
			status: {currentReplicas: 2, currentMetrics: [{resource: {name: cpu, current: {averageUtilization: 12}}}]}}`,
			"web|Deployment/web|cpu: 12%/50%, memory: <unknown>/80%|1|5|2|<unknown>"},
		{"config map", "ConfigMap", `{metadata: {name: a}, data: {a: b}, binaryData: {c: ZA==}}`, "a|2|<unknown>"},
		{"secret shows no values", "Secret", `{metadata: {name: a}, type: Opaque, data: {a: YQ==}}`, "a|Opaque|1|<unknown>"},
		{"lease", "Lease", `{metadata: {name: a}, spec: {holderIdentity: me}}`, "a|me|<unknown>"},
		{"event", "Event", `{metadata: {name: e}, involvedObject: {kind: Pod, name: web}, reason: Started, type: Normal, message: "hello\n", count: 2, source: {component: kubelet, host: node-1}}`,
			"<unknown>|Normal|Started|pod/web||kubelet, node-1|hello|<unknown>|2|e"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var cells []string
			for _, cell := range api.Lookup(row.kind).Cells(parse(t, row.kind, row.manifest)) {
				cells = append(cells, fmt.Sprint(cell))
			}
			if got := strings.Join(cells, "|"); got != row.want {
				t.Errorf("got\n\t%s\nwant\n\t%s", got, row.want)
			}
		})
	}
}

func TestWideColumnsAreMarked(t *testing.T) {
	var narrow, wide []string
	for _, column := range api.Lookup("pods").Columns() {
		if column.Priority == 0 {
			narrow = append(narrow, column.Name)
		} else {
			wide = append(wide, column.Name)
		}
	}
	if got := strings.Join(narrow, ","); got != "Name,Ready,Status,Restarts,Age" {
		t.Errorf("always shown: %s", got)
	}
	if got := strings.Join(wide, ","); got != "IP,Node,Nominated Node,Readiness Gates" {
		t.Errorf("shown with -o wide: %s", got)
	}
}
