package apiserver_test

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata/fields.txt anew")

// plain are objects that set as little as they can for every part of them to be there, one of each kind. PODS are what
// is in the spec of a pod.
var plain = map[string]string{
	"Namespace":               `{metadata: {name: x}}`,
	"Node":                    `{metadata: {name: x}, spec: {taints: [{key: k, effect: NoSchedule}]}}`,
	"Pod":                     `{metadata: {name: x}, spec: {PODS}}`,
	"Service":                 `{metadata: {name: x}, spec: {ports: [{port: 80}]}}`,
	"Endpoints":               `{metadata: {name: x}, subsets: [{addresses: [{ip: 10.244.1.2}], ports: [{port: 80}]}]}`,
	"ConfigMap":               `{metadata: {name: x}}`,
	"Secret":                  `{metadata: {name: x}}`,
	"ServiceAccount":          `{metadata: {name: x}}`,
	"Event":                   `{metadata: {name: x}, involvedObject: {namespace: default}}`,
	"Deployment":              `{metadata: {name: x}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {PODS}}}}`,
	"ReplicaSet":              `{metadata: {name: x}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {PODS}}}}`,
	"HorizontalPodAutoscaler": `{metadata: {name: x}, spec: {scaleTargetRef: {kind: Deployment, name: x}, maxReplicas: 3}}`,
	"EndpointSlice":           `{metadata: {name: x}, addressType: IPv4, endpoints: [{addresses: [10.244.1.2]}], ports: [{port: 80}]}`,
	"Lease":                   `{metadata: {name: x}}`,
}

const plainPods = `initContainers: [{name: i, restartPolicy: Always, CONTAINER, ports: [{containerPort: 81}]}], containers: [{name: c, CONTAINER, ports: [{containerPort: 80}]}],
	volumes: [{name: v, VOLUME}], tolerations: [{key: k, operator: Exists, effect: NoExecute}]`

// plainVolumes are what a volume has beside its name, where the path of a field leads into such a one.
var plainVolumes = map[string]string{
	"volumes[*].configMap.": `configMap: {name: m, items: [{key: k, path: p}]}`,
	"volumes[*].secret.":    `secret: {secretName: s, items: [{key: k, path: p}]}`,
}

const plainContainer = `image: "i:1", env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], lifecycle: {postStart: {httpGet: {port: 80}}, preStop: {httpGet: {port: 80}}},
	startupProbe: {httpGet: {port: 80}}, livenessProbe: {httpGet: {port: 80}}, readinessProbe: {httpGet: {port: 80}}, volumeMounts: [{name: v, mountPath: /v}]`

// elsewhere says of fields that are served, and that no component selects by their names, what it is that they do.
// A path stands for all below it, without its kind for those of all kinds.
var elsewhere = map[string]string{
	"apiVersion": "decoding goes by it",
	"kind":       "decoding goes by it",
	"status":     "is written by those who act, by a door of its own",

	"metadata.generateName":                  "the API server makes a name of it",
	"metadata.uid":                           "the server writes it",
	"metadata.resourceVersion":               "the server writes it, and compares",
	"metadata.generation":                    "the server writes it",
	"metadata.creationTimestamp":             "the server writes it",
	"metadata.deletionTimestamp":             "the server writes it",
	"metadata.deletionGracePeriodSeconds":    "the server writes it",
	"metadata.selfLink":                      "is dropped, as in Kubernetes",
	"metadata.managedFields":                 "the server writes it",
	"metadata.ownerReferences[*].controller": "metav1.GetControllerOf reads it",

	"ConfigMap data":            "is for whoever reads it",
	"ConfigMap binaryData":      "is for whoever reads it",
	"ConfigMap immutable":       "validation refuses changes",
	"Secret data":               "is for whoever reads it",
	"Secret stringData":         "becomes data",
	"Secret immutable":          "validation refuses changes",
	"Secret type":               "validation goes by it",
	"Event":                     "tells its readers what happened",
	"EndpointSlice addressType": "validation goes by it",

	"EndpointSlice endpoints[*].nodeName":    "is for people, and for clients that ask where an endpoint is",
	"EndpointSlice endpoints[*].targetRef":   "is for people, and for clients that ask what an endpoint is",
	"Endpoints subsets[*].notReadyAddresses": "are not sent anything, which is what they mean",
	"Service spec.ipFamilies":                "validation allows IPv4 alone",
	"Service spec.ipFamilyPolicy":            "validation allows one family alone",

	"Pod spec.containers[*].ports[*].name":                      "is for Services to refer to",
	"Deployment spec.template.spec.containers[*].ports[*].name": "is for Services to refer to",
	"ReplicaSet spec.template.spec.containers[*].ports[*].name": "is for Services to refer to",

	"Lease spec.holderIdentity":       "is for the candidates of an election, who compare",
	"Lease spec.leaseDurationSeconds": "is for the candidates of an election, who compare",
	"Lease spec.acquireTime":          "is for the candidates of an election, who compare",
	"Lease spec.leaseTransitions":     "is for the candidates of an election, who compare",
}

// TestEveryFieldIsActedOnOrWarnedAboutOrRefused walks all fields of all kinds. A field that is served must be used by a
// component (or elsewhere says why not), one that is not served must bring a warning or a refusal that names it. What
// there is stands in testdata/fields.txt: a field that a newer k8s.io/api brings shows as a difference.
func TestEveryFieldIsActedOnOrWarnedAboutOrRefused(t *testing.T) {
	w := newWorld(t)
	used := fieldsInUse(t)
	var lines []string
	for _, kind := range api.Kinds {
		f := fields{world: w, kind: kind, used: used, served: map[string]string{}, lines: lines}
		for _, path := range slices.Concat(api.ServedAlways, kind.Served) {
			path, values, _ := strings.Cut(path, "=")
			f.served[path] = values
		}
		f.walk(reflect.TypeOf(kind.New()).Elem(), "")
		lines = f.lines
	}
	const golden = "testdata/fields.txt"
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	known, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ verb, in, notIn string }{{"new", got, string(known)}, {"gone", string(known), got}} {
		for line := range strings.Lines(change.in) {
			if !strings.Contains("\n"+change.notIn, "\n"+line) {
				t.Errorf("%s: %s", change.verb, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	if got != string(known) {
		t.Errorf("The fields are others than testdata/fields.txt has, perhaps in another order. For each new one read what it means in Kubernetes. " +
			"If something here acts on it, name it in the Served of its kind (api/kinds.go); else it is warned about. Then write the file anew: " +
			"go test ./mini-k8s/master/apiserver -run EveryField -update")
	}
}

// fields walks those of a kind.
type fields struct {
	*world
	kind   *api.Kind
	used   map[string]string // "PodSpec.NodeName": a package that selects it
	served map[string]string // by path: the values that are acted on, "" for all
	lines  []string
}

func (f *fields) say(path, what string) {
	of := f.kind.Kind
	if inTemplate, ok := strings.CutPrefix(path, "spec.template."); ok {
		of, path = "templates", inTemplate
	} else if name, _, _ := strings.Cut(path, "."); slices.Contains([]string{"kind", "apiVersion", "metadata", "status"}, name) {
		of = "all kinds"
	}
	if line := of + ": " + path + " " + what; !slices.Contains(f.lines, line) {
		f.lines = append(f.lines, line)
	}
}

func (f *fields) walk(goType reflect.Type, path string) {
	for field := range goType.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			f.walk(field.Type, path)
			continue
		}
		at, inside := strings.TrimPrefix(path+"."+name, "."), field.Type
		for inside.Kind() == reflect.Pointer || inside.Kind() == reflect.Slice && inside.Elem().Kind() != reflect.Uint8 {
			if inside.Kind() == reflect.Slice && inside.Elem().Kind() == reflect.Struct {
				at += "[*]"
			}
			inside = inside.Elem()
		}
		values, isServed := f.served[strings.TrimSuffix(at, "[*]")]
		switch some := f.anyServedBelow(at); {
		case isServed && values == "":
			f.checkUse(at, goType, field)
		case isServed:
			f.checkValues(at, values)
		case some && inside.Kind() == reflect.Struct:
			f.walk(inside, at)
		case some: // a map of which some keys are
			f.checkUse(at, goType, field)
			f.checkRefusal(at+".example.com/x", at+"[example.com/x]")
		default:
			f.checkRefusal(at, strings.TrimSuffix(at, "[*]"))
		}
	}
}

func (f *fields) anyServedBelow(path string) bool {
	for served := range f.served {
		if strings.HasPrefix(served, path+".") || strings.HasPrefix(served, path+"[") {
			return true
		}
	}
	return false
}

// checkUse looks for who uses a field that is said to be acted on.
func (f *fields) checkUse(path string, parent reflect.Type, field reflect.StructField) {
	path = strings.TrimSuffix(path, "[*]")
	f.say(path, "acted on")
	for said := range elsewhere {
		if path == said || strings.HasPrefix(f.kind.Kind+" "+path+" ", said+" ") || strings.HasPrefix(f.kind.Kind+" "+path, said+".") {
			return
		}
	}
	if f.used[parent.Name()+"."+field.Name] == "" {
		f.t.Errorf("%s %s is in Served, but no component uses the field %s of %s: who sets it is to be warned", f.kind.Kind, path, field.Name, parent)
	}
}

// checkValues sets a field to another value than those that are acted on.
func (f *fields) checkValues(path, values string) {
	f.say(path, "acted on if "+values)
	for _, value := range strings.Split(values, "|") {
		if a := f.send(path, value); f.mentioned(a, path) != "" {
			f.t.Errorf("%s %s: %s is said to be acted on, but: %d %q %s", f.kind.Kind, path, value, a.code, a.warnings, a.body)
		}
	}
	other := map[string]string{"true": "false", "false": "true", "0": "7", "600": "700", "IPv4": "IPv6"}[values]
	if other == "" {
		other = "other"
	}
	if a := f.send(path, other); f.mentioned(a, path) == "" {
		f.t.Errorf("%s %s: that it is %s is taken in silence: %d %q", f.kind.Kind, path, other, a.code, a.warnings)
	}
}

// checkRefusal sets a field that is not acted on, to anything.
func (f *fields) checkRefusal(path, name string) {
	a := f.send(path, "")
	how := f.mentioned(a, name)
	if how == "" {
		f.t.Errorf("%s %s is taken in silence: %d %q. Act on it and name it in Served, or warn, or refuse it.\n%s", f.kind.Kind, path, a.code, a.warnings, a.body)
	}
	f.say(path, how)
}

// mentioned tells in what way an answer names a field.
func (f *fields) mentioned(a answer, name string) string {
	for _, text := range a.warnings {
		if strings.HasPrefix(text, `299 - "`+name+": ") {
			return "warned about"
		}
	}
	var status metav1.Status
	if a.code == 422 && json.Unmarshal(a.body, &status) == nil {
		for _, cause := range status.Details.Causes {
			if strings.HasPrefix(cause.Field, strings.ReplaceAll(name, "[*]", "[0]")) {
				return "refused"
			}
		}
	}
	return ""
}

// send creates a plain object of the kind that has something more at the path: the value, or whatever its type allows.
func (f *fields) send(path, value string) answer {
	object := f.kind.New()
	text := strings.ReplaceAll(plain[f.kind.Kind], "PODS", strings.ReplaceAll(plainPods, "CONTAINER", plainContainer))
	for part, volume := range plainVolumes {
		if strings.Contains(path, part) {
			text = strings.ReplaceAll(text, "VOLUME", volume)
		}
	}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, ", VOLUME", "")), object); err != nil {
		f.t.Fatalf("the plain %s: %v", f.kind.Kind, err)
	}
	object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "x", UID: "x"}})
	set(f.t, reflect.ValueOf(object), strings.Split(path, "."), value)
	body, err := json.Marshal(object)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.post(f.kind.Path("default", "", "")+"?dryRun=All", string(body))
}

// set puts a value where the path leads, and makes what is missing on the way. Where it ends anything that is not
// empty will do, unless there is something.
func set(t *testing.T, at reflect.Value, path []string, value string) {
	switch at.Kind() {
	case reflect.Pointer:
		if at.IsNil() {
			at.Set(reflect.New(at.Type().Elem()))
		}
		set(t, at.Elem(), path, value)
	case reflect.Slice:
		if at.Len() == 0 {
			at.Set(reflect.MakeSlice(at.Type(), 1, 1))
		}
		set(t, at.Index(0), path, value)
	case reflect.Map:
		if at.IsNil() {
			at.Set(reflect.MakeMap(at.Type()))
		}
		element := reflect.New(at.Type().Elem()).Elem()
		set(t, element, nil, value)
		at.SetMapIndex(reflect.ValueOf(strings.Join(append(path, "")[:max(1, len(path))], ".")).Convert(at.Type().Key()), element)
	case reflect.Struct:
		switch leaf := at.Addr().Interface().(type) {
		case *metav1.Time:
			*leaf = metav1.Now()
		case *metav1.MicroTime:
			*leaf = metav1.NowMicro()
		case *resource.Quantity:
			*leaf = resource.MustParse("1")
		case *intstr.IntOrString:
			*leaf = intstr.FromInt32(1)
		default:
			setField(t, at, path, value)
		}
	case reflect.Bool:
		at.SetBool(value != "false")
	case reflect.String:
		if at.SetString(value); value == "" {
			at.SetString("x")
		}
	default:
		if err := json.Unmarshal([]byte(value), at.Addr().Interface()); err != nil {
			at.Set(reflect.ValueOf(7).Convert(at.Type()))
		}
	}
}

func setField(t *testing.T, at reflect.Value, path []string, value string) {
	if len(path) == 0 && !at.IsZero() {
		return
	}
	for i := range at.NumField() {
		name, _, _ := strings.Cut(at.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case len(path) == 0:
			set(t, at.Field(i), nil, value)
			return
		case name == "" && at.Type().Field(i).Type.Kind() == reflect.Struct:
			if _, inside := jsonField(at.Type().Field(i).Type, path[0]); inside {
				setField(t, at.Field(i), path, value)
				return
			}
		case name == strings.TrimSuffix(path[0], "[*]"):
			set(t, at.Field(i), path[1:], value)
			return
		}
	}
	t.Fatalf("%s has no field %v", at.Type(), path)
}

// jsonField finds the field of a struct that has this name in JSON.
func jsonField(in reflect.Type, name string) (reflect.StructField, bool) {
	for field := range in.Fields() {
		if called, _, _ := strings.Cut(field.Tag.Get("json"), ","); called == strings.TrimSuffix(name, "[*]") {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

// fieldsInUse returns the fields of the API's types that the components select, by type and name, each with a package
// that does. Those who only show objects, and what tests alone use, do not count.
func fieldsInUse(t *testing.T) map[string]string {
	t.Helper()
	arguments := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,Imports"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		arguments = append(arguments, "-race") // these are compiled already
	}
	out, err := exec.Command("go", append(arguments, "workshop/mini-k8s/...")...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles, Imports        []string
	}
	exports := map[string]string{}
	var components []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		part, ours := strings.CutPrefix(p.ImportPath, "workshop/mini-k8s/")
		if ours && !slices.Contains([]string{"api", "cli", "cluster"}, part) && !slices.Contains(p.Imports, "testing") {
			components = append(components, p)
		}
	}
	files := token.NewFileSet()
	compiled := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	used := map[string]string{}
	for _, p := range components {
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, file)
		}
		info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
		if _, err := (&types.Config{Importer: compiled}).Check(p.ImportPath, files, parsed, info); err != nil {
			t.Fatal(err)
		}
		written := map[ast.Expr]bool{}
		for _, file := range parsed {
			ast.Inspect(file, func(n ast.Node) bool {
				if assignment, ok := n.(*ast.AssignStmt); ok && assignment.Tok == token.ASSIGN {
					for _, left := range assignment.Lhs {
						written[left] = true
					}
				}
				return true
			})
		}
		for expression, selection := range info.Selections {
			if written[expression] {
				continue
			}
			from, index := selection.Recv(), selection.Index()
			if selection.Kind() != types.FieldVal { // a method comes last
				index = index[:len(index)-1]
			}
			for _, i := range index {
				if pointer, ok := from.Underlying().(*types.Pointer); ok {
					from = pointer.Elem()
				}
				structure, ok := from.Underlying().(*types.Struct)
				if named, isNamed := from.(*types.Named); ok && isNamed {
					used[named.Obj().Name()+"."+structure.Field(i).Name()] = p.ImportPath
				}
				if ok {
					from = structure.Field(i).Type()
				}
			}
		}
	}
	if len(used) < 100 {
		t.Fatalf("only %d fields are found to be used", len(used))
	}
	return used
}
