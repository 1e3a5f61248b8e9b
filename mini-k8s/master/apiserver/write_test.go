package apiserver_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestCreateSetsWhatTheServerAloneDecides(t *testing.T) {
	w := newWorld(t)
	body := toJSON(`{metadata: {name: a, uid: mine, generation: 7, selfLink: x, creationTimestamp: 2000-01-01T00:00:00Z, deletionTimestamp: 2000-01-01T00:00:00Z,
		managedFields: [{manager: forged}]}, spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}, status: {replicas: 9}}`)
	created := w.post(deployments, body)
	if created.code != 201 {
		t.Errorf("code %d", created.code)
	}
	o := created.object()
	if o.Kind != "Deployment" || o.APIVersion != "apps/v1" || o.Namespace != "default" {
		t.Errorf("%s %s in %s", o.Kind, o.APIVersion, o.Namespace)
	}
	if o.UID == "mine" || o.UID == "" || o.Generation != 1 || o.SelfLink != "" || o.CreationTimestamp.Year() < 2020 || o.DeletionTimestamp != nil || o.ResourceVersion == "" {
		t.Errorf("metadata: %+v", o.ObjectMeta)
	}
	if o.Status["replicas"] != nil {
		t.Errorf("the creator has set the status: %v", o.Status)
	}
	if got := managers(o); got != "test/Update" {
		t.Errorf("managers: %s", got)
	}
	if got := w.get(deployments + "/a"); string(got.body) != string(created.body) {
		t.Errorf("what is read is not what was answered:\n%s\n%s", got.body, created.body)
	}
	w.post(deployments, body).fails(409, metav1.StatusReasonAlreadyExists, `deployments.apps "a" already exists`)
}

// managers returns who wrote the object, as "manager/operation/subresource".
func managers(o object) string {
	var all []string
	for _, field := range o.ManagedFields {
		all = append(all, strings.TrimSuffix(field.Manager+"/"+string(field.Operation)+"/"+field.Subresource, "/"))
	}
	return strings.Join(all, " ")
}

func TestBodyThatCannotBeReadIsRefusedInWords(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("there", "", "")).ok()
	for _, row := range []struct {
		name, method, path, contentType, body string
		code                                  int
		reason                                metav1.StatusReason
		says                                  string
	}{
		{"broken JSON", "POST", configMaps, "application/json", `{"metadata":`, 400, "BadRequest", `ConfigMap in version "v1" cannot be handled as a ConfigMap`},
		{"empty", "POST", configMaps, "application/json", ``, 400, "BadRequest", `cannot be handled as a ConfigMap`},
		{"wrong type of a field", "POST", configMaps, "application/json", `{"metadata":{"name":5}}`, 400, "BadRequest", `cannot unmarshal number`},
		{"wrong kind", "POST", configMaps, "application/json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`, 400, "BadRequest",
			`the object is a Secret in version "v1", but the request is for ConfigMap in version "v1"`},
		{"wrong version", "POST", deployments, "application/json", `{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"a"}}`, 400, "BadRequest", `"apps/v1beta1"`},
		{"wrong namespace", "POST", configMaps, "application/json", `{"metadata":{"name":"a","namespace":"shop"}}`, 400, "BadRequest",
			`the namespace of the provided object does not match the namespace sent on the request`},
		{"wrong name", "PUT", configMaps + "/there", "application/json", `{"metadata":{"name":"b"}}`, 400, "BadRequest",
			`the name of the object (b) does not match the name on the URL (there)`},
		{"no name", "POST", configMaps, "application/json", `{}`, 422, "Invalid", `metadata.name: Required value: name or generateName is required`},
		{"too large", "POST", configMaps, "application/json", `{"metadata":{"name":"a"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, "RequestEntityTooLarge", `3145728 bytes`},
		{"too large a patch", "PATCH", configMaps + "/there", "application/merge-patch+json", `{"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, "RequestEntityTooLarge", ``},
		{"broken YAML", "POST", configMaps, "application/yaml", "a: [", 400, "BadRequest", `the body is not YAML`},
		{"unknown format", "POST", configMaps, "text/html", `<html>`, 415, "UnsupportedMediaType", `(text/html) - accepted media types include: application/json`},
		{"no protobuf", "POST", configMaps, "application/vnd.kubernetes.protobuf", `nonsense`, 400, "BadRequest", `the body is not an object in protobuf`},
		{"unknown patch", "PATCH", configMaps + "/there", "application/json", `{}`, 415, "UnsupportedMediaType", `application/strategic-merge-patch+json`},
		{"server-side apply", "PATCH", configMaps + "/there", "application/apply-patch+yaml", `{}`, 415, "UnsupportedMediaType", "server-side apply is out of scope here: use `kubectl apply` without --server-side"},
		{"patch that is no JSON", "PATCH", configMaps + "/there", "application/merge-patch+json", `{`, 400, "BadRequest", `the patch cannot be applied`},
		{"patch to another type", "PATCH", configMaps + "/there", "application/merge-patch+json", `{"data":5}`, 400, "BadRequest", `cannot unmarshal number`},
		{"patch to another name", "PATCH", configMaps + "/there", "application/merge-patch+json", `{"metadata":{"name":"b"}}`, 400, "BadRequest", `does not match the name on the URL`},
		{"patch that fails its test", "PATCH", configMaps + "/there", "application/json-patch+json", `[{"op":"test","path":"/metadata/name","value":"b"}]`, 400, "BadRequest", `the patch cannot be applied`},
		{"unknown namespace", "POST", "/api/v1/namespaces/none/configmaps", "application/json", `{"metadata":{"name":"a"}}`, 404, "NotFound", `namespaces "none" not found`},
		{"nothing to update", "PUT", configMaps + "/none", "application/json", `{}`, 404, "NotFound", `configmaps "none" not found`},
		{"nothing to patch", "PATCH", configMaps + "/none", "application/merge-patch+json", `{}`, 404, "NotFound", `configmaps "none" not found`},
		{"bad options", "DELETE", configMaps + "/there", "application/json", `[]`, 400, "BadRequest", `DeleteOptions`},
		{"bad grace period", "DELETE", configMaps + "/there?gracePeriodSeconds=soon", "application/json", ``, 400, "BadRequest", `parsing "soon"`},
		{"bad policy", "DELETE", configMaps + "/there?propagationPolicy=Slowly", "application/json", ``, 400, "BadRequest", `"Slowly" is not one of Background, Foreground, Orphan`},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			w.call("admin", row.method, row.path, row.body, "Content-Type: "+row.contentType).fails(row.code, row.reason, row.says)
		})
	}
	if got := w.get(configMaps).object().names(); got != "there" {
		t.Errorf("left over: %s", got)
	}
	if got := w.get(configMaps + "/there").object(); len(got.Data) != 0 || got.Labels != nil {
		t.Errorf("changed: %v", got)
	}
}

func TestInvalidObjectIsRefusedWithEveryField(t *testing.T) {
	w := newWorld(t)
	a := w.post(pods, toJSON(`{metadata: {name: Web}, spec: {restartPolicy: Sometimes, containers: [{name: c}]}}`)).
		fails(422, metav1.StatusReasonInvalid, `Pod "Web" is invalid`, `spec.containers[0].image: Required value`)
	var status metav1.Status
	if err := json.Unmarshal(a.body, &status); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, cause := range status.Details.Causes {
		fields = append(fields, cause.Field)
	}
	if got := strings.Join(fields, " "); got != "metadata.name spec.restartPolicy spec.containers[0].image" {
		t.Errorf("causes: %s", got)
	}
}

func TestBodyMayBeYAMLOrProtobuf(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "POST", configMaps, "metadata:\n  name: yaml\ndata:\n  a: b\n", "Content-Type: application/yaml").ok()
	raw, err := (&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "protobuf"}, Data: map[string]string{"a": "b"}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	protobuf := func(kind string, raw []byte) string {
		envelope, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return "k8s\x00" + string(envelope)
	}
	w.call("admin", "POST", configMaps, protobuf("ConfigMap", raw), "Content-Type: application/vnd.kubernetes.protobuf").ok()
	for _, name := range []string{"yaml", "protobuf"} {
		if got := w.get(configMaps + "/" + name).object(); got.Data["a"] != "b" {
			t.Errorf("%s: %v", name, got.Data)
		}
	}
	w.call("admin", "POST", configMaps, protobuf("Job", raw), "Content-Type: application/vnd.kubernetes.protobuf").
		fails(400, metav1.StatusReasonBadRequest, "Kind=Job is not known here")
	wrong := "other"
	options, err := (&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &wrong}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.call("admin", "DELETE", configMaps+"/protobuf", protobuf("DeleteOptions", options), "Content-Type: application/vnd.kubernetes.protobuf").
		fails(409, metav1.StatusReasonConflict, "the object has been modified")
}

func TestStaleResourceVersionIsAConflict(t *testing.T) {
	w := newWorld(t)
	first := w.post(configMaps, configMap("a", "", "")).object().ResourceVersion
	second := w.put(configMaps+"/a", configMap("a", `resourceVersion: "`+first+`"`, "n: two")).object().ResourceVersion
	if first == second {
		t.Fatal("the write has kept the resourceVersion")
	}
	stale := `resourceVersion: "` + first + `"`
	w.put(configMaps+"/a", configMap("a", stale, "n: three")).fails(409, metav1.StatusReasonConflict,
		`Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`)
	w.patch("merge", configMaps+"/a", `{"metadata":{"resourceVersion":"`+first+`"},"data":{"n":"three"}}`).fails(409, metav1.StatusReasonConflict)
	w.patch("json", configMaps+"/a", `[{"op":"replace","path":"/metadata/resourceVersion","value":"`+first+`"}]`).fails(409, metav1.StatusReasonConflict)
	w.put(configMaps+"/a", configMap("a", `uid: other`, "n: three")).fails(409, metav1.StatusReasonConflict, "deleted and created again")
	w.patch("merge", configMaps+"/a", `{"metadata":{"resourceVersion":"`+second+`"},"data":{"n":"four"}}`).ok()
	if got := w.get(configMaps + "/a").object().Data["n"]; got != "four" {
		t.Errorf("n is %s", got)
	}
}

func TestUpdateIsTriedAgainOnlyWithoutARevision(t *testing.T) {
	w := newWorld(t)
	revision := w.post(configMaps, configMap("a", "", "")).object().ResourceVersion
	interfere := func() { // another writer comes first, once
		w.store.update = nil
		w.patch("merge", configMaps+"/a", `{"data":{"other":"x"}}`).ok()
	}
	w.store.update = interfere
	if got := w.patch("merge", configMaps+"/a", `{"data":{"mine":"x"}}`).object().Data; len(got) != 2 {
		t.Errorf("the other's write is lost: %v", got)
	}
	w.store.update = func() { w.store.update = nil; w.patch("merge", configMaps+"/a", `{"data":{"more":"x"}}`).ok() }
	if got := w.put(configMaps+"/a", configMap("a", "", "mine: whole")).object().Data; len(got) != 1 {
		t.Errorf("an update without a revision replaces all: %v", got)
	}
	revision = w.get(configMaps + "/a").object().ResourceVersion
	w.store.update = func() { w.store.update = nil; w.patch("merge", configMaps+"/a", `{"data":{"again":"x"}}`).ok() }
	w.put(configMaps+"/a", configMap("a", `resourceVersion: "`+revision+`"`, "mine: z")).fails(409, metav1.StatusReasonConflict)
}

func TestUpdateThatChangesNothingWritesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.post(deployments, deployment("web", "replicas: 2,"))
	writes := w.store.writes.Load()
	for name, a := range map[string]answer{
		"put":               w.put(deployments+"/web", deployment("web", "replicas: 2,")),
		"put what was read": w.put(deployments+"/web", string(before.body)),
		"merge patch":       w.patch("merge", deployments+"/web", `{"spec":{"replicas":2}}`),
		"empty patch":       w.patch("strategic-merge", deployments+"/web", `{}`),
		"status":            w.put(deployments+"/web/status", string(before.body)),
		"by someone else":   w.call("admin", "PUT", deployments+"/web", string(before.body), "User-Agent: other"),
	} {
		if string(a.ok().body) != string(before.body) {
			t.Errorf("%s:\n%s\n%s", name, a.body, before.body)
		}
	}
	if w.store.writes.Load() != writes {
		t.Error("something was written")
	}
}

func TestPatches(t *testing.T) {
	for _, row := range []struct{ name, patchType, patch, want string }{
		{"merge replaces lists", "merge", `{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"}]}}}}`, "1 d=j"},
		{"strategic merge goes by name", "strategic-merge", `{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"}]}}}}`, "1 d=j c=i:1"},
		{"strategic merge into an element", "strategic-merge", `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:2"}]}}}}`, "1 c=i:2"},
		{"strategic merge takes away", "strategic-merge", `{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"},{"name":"c","$patch":"delete"}]}}}}`, "1 d=j"},
		{"json", "json", `[{"op":"test","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/replicas","value":5},
			{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"d","image":"j"}}]`, "5 c=i:1 d=j"},
		{"null takes the default", "merge", `{"spec":{"replicas":null}}`, "1 c=i:1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.post(deployments, deployment("web", "")).ok()
			var d appsv1.Deployment
			if err := json.Unmarshal(w.patch(row.patchType, deployments+"/web", row.patch).ok().body, &d); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(*d.Spec.Replicas)
			for _, c := range d.Spec.Template.Spec.Containers {
				got += " " + c.Name + "=" + c.Image
			}
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestStatusAndObjectCannotOverwriteEachOther(t *testing.T) {
	w := newWorld(t)
	w.post(deployments, deployment("web", "replicas: 2,")).ok()
	whole := toJSON(`{metadata: {name: web, labels: {a: b}}, spec: {replicas: 5, selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "i:1"}]}}}, status: {replicas: 9}}`)
	o := w.put(deployments+"/web/status", whole).object()
	if o.Status["replicas"] != 9.0 || o.Spec["replicas"] != 2.0 || o.Labels != nil || o.Generation != 1 {
		t.Errorf("written to the status: %v", o)
	}
	o = w.put(deployments+"/web", deployment("web", "replicas: 3,")).object()
	if o.Status["replicas"] != 9.0 || o.Spec["replicas"] != 3.0 {
		t.Errorf("written to the object: %v", o)
	}
	o = w.patch("merge", deployments+"/web/status", `{"spec":{"replicas":7},"status":{"readyReplicas":1}}`).object()
	if o.Status["readyReplicas"] != 1.0 || o.Spec["replicas"] != 3.0 {
		t.Errorf("patched in the status: %v", o)
	}
	o = w.patch("merge", deployments+"/web", `{"status":{"readyReplicas":5}}`).object()
	if o.Status["readyReplicas"] != 1.0 {
		t.Errorf("patched in the object: %v", o)
	}
	if got := managers(o); got != "test/Update test/Update/status" {
		t.Errorf("managers: %s", got)
	}
}

func TestGenerationCountsChangesOfTheSpecOnly(t *testing.T) {
	w := newWorld(t)
	w.post(deployments, deployment("web", "replicas: 1,")).ok()
	for _, row := range []struct {
		name, path, patch string
		want              int64
	}{
		{"label", "", `{"metadata":{"labels":{"a":"b"}}}`, 1},
		{"status", "/status", `{"status":{"replicas":1}}`, 1},
		{"spec", "", `{"spec":{"replicas":2}}`, 2},
		{"generation itself", "", `{"metadata":{"generation":9}}`, 2},
		{"scale", "/scale", `{"spec":{"replicas":3}}`, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			w.patch("merge", deployments+"/web"+row.path, row.patch).ok()
			if got := w.get(deployments + "/web").object().Generation; got != row.want {
				t.Errorf("got %d, want %d", got, row.want)
			}
		})
	}
}

func TestManagedFieldsTellWhoWroteLast(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "POST", configMaps, configMap("a", "", ""), "User-Agent: kubectl/v1.33.0 (linux/amd64)").ok()
	w.call("admin", "PUT", configMaps+"/a", configMap("a", "managedFields: [{manager: forged}]", "a: b"), "User-Agent: ").ok()
	o := w.call("admin", "PUT", configMaps+"/a?fieldManager=me", configMap("a", "", "a: c"), "User-Agent: kubectl").object()
	if got := managers(o); got != "kubectl/Update unknown/Update me/Update" {
		t.Errorf("managers: %s", got)
	}
	o = w.call("admin", "PUT", configMaps+"/a", configMap("a", "", "a: d"), "User-Agent: kubectl/v1.33.0").object()
	if got := managers(o); got != "unknown/Update me/Update kubectl/Update" {
		t.Errorf("managers: %s", got)
	}
	if last := o.ManagedFields[2]; last.APIVersion != "v1" || last.Time.IsZero() {
		t.Errorf("%+v", last)
	}
}

func TestGenerateNameAppendsRandomLetters(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ name, base, want string }{
		{"dash", "web-", `^web-[a-z0-9]{5}$`},
		{"no dash", "web", `^web[a-z0-9]{5}$`},
		{"long", strings.Repeat("a", 70), `^a{58}[a-z0-9]{5}$`},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			one := w.post(configMaps, toJSON(`{metadata: {generateName: `+row.base+`}}`)).object()
			two := w.post(configMaps, toJSON(`{metadata: {generateName: `+row.base+`}}`)).object()
			if !regexp.MustCompile(row.want).MatchString(one.Name) || one.Name == two.Name {
				t.Errorf("got %s and %s", one.Name, two.Name)
			}
		})
	}
	if got := w.post(configMaps, toJSON(`{metadata: {name: mine, generateName: web-}}`)).object().Name; got != "mine" {
		t.Errorf("beside a name: %s", got)
	}
}

func TestDryRunAnswersAndStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.post(deployments, deployment("there", "replicas: 1,")).ok()
	before := w.get(deployments)
	if got := w.post(deployments+"?dryRun=All", deployment("new", "")).object(); got.Name != "new" || got.Spec["replicas"] != 1.0 || got.UID == "" {
		t.Errorf("create: %v", got)
	}
	w.post(deployments+"?dryRun=All", deployment("there", "")).fails(409, metav1.StatusReasonAlreadyExists)
	w.post(deployments+"?dryRun=All", deployment("new", "replicas: -1,")).fails(422, metav1.StatusReasonInvalid)
	if got := w.put(deployments+"/there?dryRun=All", deployment("there", "replicas: 2,")).object(); got.Spec["replicas"] != 2.0 {
		t.Errorf("update: %v", got)
	}
	w.patch("merge", deployments+"/there?dryRun=All", `{"spec":{"replicas":3}}`).ok()
	w.patch("merge", deployments+"/there/scale?dryRun=All", `{"spec":{"replicas":3}}`).ok()
	w.call("admin", "DELETE", deployments+"/there?dryRun=All", "").ok()
	w.call("admin", "DELETE", deployments+"/there", `{"dryRun":["All"]}`).ok()
	if after := w.get(deployments); string(after.body) != string(before.body) {
		t.Errorf("stored:\n%s\n%s", before.body, after.body)
	}
}

func TestUnknownFieldsAreTreatedAsTheClientAsks(t *testing.T) {
	const unknown = `unknown field "spec.replica"`
	const double = `duplicate field "metadata.name"`
	body := `{"metadata":{"name":"NAME","name":"NAME"},"spec":{"replica":3,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	for _, row := range []struct {
		name, query string
		code        int
		warnings    []string
	}{
		{"strict", "?fieldValidation=Strict", 400, nil},
		{"warn", "?fieldValidation=Warn", 201, []string{double, unknown}},
		{"nothing asked is warn", "", 201, []string{double, unknown}},
		{"ignore", "?fieldValidation=Ignore", 201, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.post(deployments+row.query, strings.ReplaceAll(body, "NAME", row.name[:4]))
			checkWarnings(t, a, row.warnings...)
			if row.code == 400 {
				a.fails(400, metav1.StatusReasonBadRequest, `strict decoding error`, double, unknown)
			} else if a.code != row.code {
				t.Errorf("code %d: %s", a.code, a.body)
			}
		})
	}
}

func TestUnknownFieldsOfAPatchAreNamed(t *testing.T) {
	w := newWorld(t)
	w.post(deployments, deployment("web", "")).ok()
	const unknown = `unknown field "spec.template.spec.containers[0].imagePullPolice"`
	for patchType, patch := range map[string]string{
		"strategic-merge": `{"spec":{"template":{"spec":{"containers":[{"name":"c","imagePullPolice":"Never"}]}}}}`,
		"merge":           `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:1","imagePullPolice":"Never"}]}}}}`,
		"json":            `[{"op":"add","path":"/spec/template/spec/containers/0/imagePullPolice","value":"Never"}]`,
	} {
		t.Run(patchType, func(t *testing.T) {
			w := w.in(t)
			w.patch(patchType, deployments+"/web?fieldValidation=Strict", patch).fails(400, metav1.StatusReasonBadRequest, "strict decoding error", unknown)
			checkWarnings(t, w.patch(patchType, deployments+"/web?fieldValidation=Warn", patch).ok(), unknown)
			checkWarnings(t, w.patch(patchType, deployments+"/web?fieldValidation=Ignore", patch).ok())
		})
	}
}

func TestUnservedFieldsAreWarnedAboutWhereTheyAreSet(t *testing.T) {
	const path = "spec.template.spec.containers[*].resizePolicy"
	w := newWorld(t)
	unserved := strings.Replace(deployment("web", ""), `"name":"c"`, `"name":"c","resizePolicy":[{"resourceName":"cpu","restartPolicy":"a"}]`, 1)
	if unserved == deployment("web", "") {
		t.Fatal("the test's manifest has changed")
	}
	const warning = path + ": this field is stored, but nothing acts on it in this version of mini-k8s"
	strategic := func(container string) answer {
		return w.patch("strategic-merge", deployments+"/plain", `{"spec":{"template":{"spec":{"containers":[`+container+`]}}}}`).ok()
	}
	checkWarnings(t, w.post(deployments, deployment("plain", "")).ok())
	checkWarnings(t, w.post(deployments, unserved).ok(), warning)
	checkWarnings(t, w.put(deployments+"/web", unserved).ok()) // has it already
	checkWarnings(t, w.put(deployments+"/plain", strings.Replace(unserved, "web", "plain", 1)).ok(), warning)
	checkWarnings(t, w.put(deployments+"/plain", deployment("plain", "")).ok())
	checkWarnings(t, w.put(deployments+"/web/status", unserved).ok())
	checkWarnings(t, w.patch("merge", deployments+"/web", `{"spec":{"replicas":2}}`).ok())
	checkWarnings(t, w.patch("merge", deployments+"/web/scale", `{"spec":{"replicas":3}}`).ok())
	checkWarnings(t, strategic(`{"name":"c","resizePolicy":[{"resourceName":"cpu","restartPolicy":"a"}]}`), warning)
	checkWarnings(t, strategic(`{"name":"d","image":"j"}`))
	checkWarnings(t, strategic(`{"name":"c","resizePolicy":[{"resourceName":"cpu","restartPolicy":"b"}]}`), warning)
	checkWarnings(t, strategic(`{"name":"c","resizePolicy":null}`))
}

func TestWarningsAreBounded(t *testing.T) {
	w := newWorld(t)
	var limits strings.Builder
	for i := range 500 {
		fmt.Fprintf(&limits, "example.com/%d: 1, ", i)
	}
	a := w.post(pods, strings.Replace(pod("web", ""), `"name":"c"`, `"name":"c","resources":{"limits":`+toJSON("{"+limits.String()+"}")+`}`, 1)).ok()
	if len(a.warnings) != 32 {
		t.Errorf("%d warnings", len(a.warnings))
	}
}

func TestDefaultsThatAnOlderVersionDidNotHaveAreNoChanges(t *testing.T) {
	w := newWorld(t)
	old := toJSON(`{apiVersion: v1, kind: Pod, metadata: {name: old, namespace: default, uid: u, generation: 1}, spec: {hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}`)
	if _, err := w.store.Create(w.ctx, "pods/default/old", []byte(old), "older version"); err != nil {
		t.Fatal(err)
	}
	w.patch("merge", pods+"/old/status", `{"status":{"phase":"Running"}}`).ok()
	got := w.patch("merge", pods+"/old", `{"metadata":{"labels":{"a":"b"}}}`).object()
	if got.Generation != 1 || got.Spec["serviceAccountName"] != "default" || got.Status["phase"] != "Running" {
		t.Errorf("%+v", got)
	}
}

// checkWarnings compares the Warning headers of an answer.
func checkWarnings(t *testing.T, a answer, want ...string) {
	t.Helper()
	var quoted []string
	for _, text := range want {
		quoted = append(quoted, `299 - "`+strings.ReplaceAll(text, `"`, `\"`)+`"`)
	}
	if strings.Join(a.warnings, "\n") != strings.Join(quoted, "\n") {
		t.Errorf("warnings\n\t%s\nwant\n\t%s", strings.Join(a.warnings, "\n\t"), strings.Join(quoted, "\n\t"))
	}
}
