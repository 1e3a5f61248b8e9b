package api_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

// filled are manifests as people write them, one for each kind.
var filled = map[string]string{
	"Namespace":      `{metadata: {name: shop}}`,
	"Node":           `{metadata: {name: node-1, labels: {node-role.kubernetes.io/worker: ""}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: "True"}], addresses: [{type: InternalIP, address: 10.0.0.1}]}}`,
	"Pod":            `{metadata: {name: web, namespace: default}, spec: {containers: [{name: c, image: hello, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}]}}`,
	"Service":        `{metadata: {name: web, namespace: default}, spec: {selector: {app: web}, type: NodePort, ports: [{port: 80, nodePort: 30080}]}}`,
	"Endpoints":      `{metadata: {name: web, namespace: default}, subsets: [{addresses: [{ip: 10.244.1.2}], ports: [{port: 80}]}]}`,
	"ConfigMap":      `{metadata: {name: settings, namespace: default}, data: {a: b}, binaryData: {c: ZA==}}`,
	"Secret":         `{metadata: {name: password, namespace: default}, stringData: {a: b}}`,
	"ServiceAccount": `{metadata: {name: default, namespace: default}}`,
	"Event":          `{metadata: {name: web.1, namespace: default}, involvedObject: {kind: Pod, name: web, namespace: default}, reason: Started, type: Normal, source: {component: kubelet, host: node-1}}`,
	"Deployment":     `{metadata: {name: web, namespace: default}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: hello}]}}}}`,
	"ReplicaSet":     `{metadata: {name: web, namespace: default}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: hello}]}}}}`,
	"HorizontalPodAutoscaler": `{metadata: {name: web, namespace: default}, spec: {scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 3,
		metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}`,
	"EndpointSlice": `{metadata: {name: web-1, namespace: default}, addressType: IPv4, endpoints: [{addresses: [10.244.1.2]}], ports: [{port: 80}]}`,
	"Lease":         `{metadata: {name: node-1, namespace: kube-node-lease}, spec: {holderIdentity: node-1}}`,
}

// parse reads a manifest of a kind.
func parse(t *testing.T, kind, manifest string) api.Object {
	t.Helper()
	o := api.Lookup(kind).New()
	if err := yaml.UnmarshalStrict([]byte(manifest), o); err != nil {
		t.Fatalf("the manifest of the %s: %v", kind, err)
	}
	return o
}

// eachKind runs a test for every row of the table, with a filled object of it.
func eachKind(t *testing.T, test func(t *testing.T, kind *api.Kind, object api.Object)) {
	for _, kind := range api.Kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			manifest, ok := filled[kind.Kind]
			if !ok {
				t.Fatal("no manifest of this kind in the test")
			}
			test(t, kind, parse(t, kind.Kind, manifest))
		})
	}
}

func TestNewObjectKnowsItsKind(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, _ api.Object) {
		o := kind.New()
		if got := o.GetObjectKind().GroupVersionKind(); got != kind.GroupVersionKind {
			t.Errorf("it is a %v", got)
		}
		if api.ForGVK(kind.GroupVersionKind) != kind {
			t.Error("its group, version and kind find another row")
		}
		if goType := reflect.TypeOf(o).Elem().Name(); goType != kind.Kind {
			t.Errorf("its Go type is %s", goType)
		}
	})
	if api.ForGVK(corev1.SchemeGroupVersion.WithKind("Job")) != nil {
		t.Error("a kind that is not in the table was found")
	}
	if api.KindOf[*appsv1.Deployment]() != api.Lookup("deploy") {
		t.Error("KindOf finds another row than Lookup")
	}
}

func TestKindIsFoundByEveryNameAndNoOther(t *testing.T) {
	seen := map[string]string{}
	eachKind(t, func(t *testing.T, kind *api.Kind, _ api.Object) {
		names := append([]string{kind.Resource, kind.Singular(), kind.Kind, strings.ToUpper(kind.Resource)}, kind.ShortNames...)
		for _, name := range names {
			if other := seen[name]; other != "" && other != kind.Kind {
				t.Errorf("%q is also a name of %s", name, other)
			}
			seen[name] = kind.Kind
			if api.Lookup(name) != kind {
				t.Errorf("%q does not find it", name)
			}
			if qualified := name + "." + kind.Group; api.Lookup(qualified) != kind {
				t.Errorf("%q does not find it", qualified)
			}
			if qualified := name + "." + kind.Version + "." + kind.Group; api.Lookup(qualified) != kind {
				t.Errorf("%q does not find it", qualified)
			}
		}
	})
	for _, name := range []string{"", "job", "pods.apps", "deployments.", "deployments.v2.apps"} {
		if kind := api.Lookup(name); kind != nil {
			t.Errorf("%q finds %s", name, kind.Kind)
		}
	}
}

func TestPathFollowsTheURLsOfKubernetes(t *testing.T) {
	for _, row := range []struct{ name, kind, namespace, object, subresource, want string }{
		{"all namespaces", "pods", "", "", "", "/api/v1/pods"},
		{"one namespace", "pods", "shop", "", "", "/api/v1/namespaces/shop/pods"},
		{"object", "pods", "shop", "web", "", "/api/v1/namespaces/shop/pods/web"},
		{"subresource", "pods", "shop", "web", "log", "/api/v1/namespaces/shop/pods/web/log"},
		{"group", "deployments", "shop", "web", "scale", "/apis/apps/v1/namespaces/shop/deployments/web/scale"},
		{"cluster", "nodes", "", "node-1", "status", "/api/v1/nodes/node-1/status"},
		{"cluster kind ignores a namespace", "nodes", "shop", "node-1", "", "/api/v1/nodes/node-1"},
		{"namespace as an object", "namespaces", "", "shop", "finalize", "/api/v1/namespaces/shop/finalize"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := api.Lookup(row.kind).Path(row.namespace, row.object, row.subresource); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestTableHasOneCellForEachColumn(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, object api.Object) {
		for _, o := range []api.Object{kind.New(), object} {
			if cells := kind.Cells(o); len(cells) != len(kind.Columns()) {
				t.Errorf("%d cells for %d columns: %v", len(cells), len(kind.Columns()), cells)
			}
		}
		names := []string{}
		for _, column := range kind.Columns() {
			names = append(names, column.Name)
		}
		at := slices.Index(names, "Name")
		if at < 0 || kind.Cells(object)[at] != object.GetName() {
			t.Errorf("no column Name that has the name: %v", names)
		}
		if at >= 0 && kind.Columns()[at].Format != "name" {
			t.Error("the column Name is not marked as a name")
		}
	})
}

func TestDefaultsAreIdempotentAndValid(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, object api.Object) {
		kind.Default(object)
		if errs := kind.Validate(object, nil); len(errs) > 0 {
			t.Errorf("with its defaults the object is invalid: %v", errs)
		}
		once := object.DeepCopyObject()
		kind.Default(object)
		if !equality.Semantic.DeepEqual(once, object) {
			t.Errorf("the second time the defaults change something:\n%v\n%v", once, object)
		}
		object.SetResourceVersion("1")
		if errs := kind.Validate(object, object); len(errs) > 0 {
			t.Errorf("an update that changes nothing is invalid: %v", errs)
		}
		kind.Default(kind.New()) // does not panic
	})
}

func TestSelectableFieldsOfEveryKind(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, object api.Object) {
		fields := kind.SelectableFields(object)
		if fields["metadata.name"] != object.GetName() {
			t.Errorf("metadata.name is %q", fields["metadata.name"])
		}
		if namespace, ok := fields["metadata.namespace"]; ok != kind.Namespaced || namespace != object.GetNamespace() {
			t.Errorf("metadata.namespace is %q", namespace)
		}
		for name := range fields {
			if _, ok := kind.SelectableFields(kind.New())[name]; !ok {
				t.Errorf("%s is not offered by an empty object", name)
			}
		}
	})
}

func TestCopyStatusLeavesTheRestAlone(t *testing.T) {
	kind := api.Lookup("pods")
	from := parse(t, "pods", `{metadata: {name: a}, spec: {nodeName: node-1}, status: {phase: Running}}`)
	to := parse(t, "pods", `{metadata: {name: b}, spec: {nodeName: node-2}, status: {phase: Pending}}`).(*corev1.Pod)
	kind.CopyStatus(from, to)
	if to.Status.Phase != corev1.PodRunning || to.Name != "b" || to.Spec.NodeName != "node-2" {
		t.Errorf("got %v", to)
	}
	if kind.SameSpec(from, to) {
		t.Error("two nodes, but the same spec")
	}
	maps := api.Lookup("configmaps")
	if !maps.SameSpec(parse(t, "cm", `{data: {a: b}}`), maps.New()) {
		t.Error("kinds without a spec never differ in it")
	}
}

func TestServedPathsNameRealFields(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, object api.Object) {
		for _, path := range kind.Served {
			path, _, _ := strings.Cut(path, "=")
			goType := reflect.TypeOf(object).Elem()
			for _, part := range strings.Split(path, ".") {
				name, _, inside := strings.Cut(part, "[")
				if goType = fieldOf(goType, name); goType == nil {
					t.Fatalf("%s: there is no field %q", path, name)
				}
				if goType.Kind() == reflect.Pointer {
					goType = goType.Elem()
				}
				if inside { // of a list or a map
					goType = goType.Elem()
				}
			}
		}
	})
}

// fieldOf returns the type of the field that has the name in JSON.
func fieldOf(goType reflect.Type, name string) reflect.Type {
	if goType.Kind() != reflect.Struct {
		return nil
	}
	for i := range goType.NumField() {
		field := goType.Field(i)
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if tag == name {
			return field.Type
		}
		if tag == "" && field.Anonymous {
			if found := fieldOf(field.Type, name); found != nil {
				return found
			}
		}
	}
	return nil
}
