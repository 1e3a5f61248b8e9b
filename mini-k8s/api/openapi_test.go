package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

// document is OpenAPI as a client reads it.
type document struct {
	Paths   map[string]map[string]struct{ Parameters []struct{ Name string } }
	Schemas map[string]*schema
}

type schema struct {
	Description, Type, Format string
	Ref                       string `json:"$ref"`
	AllOf, OneOf              []*schema
	Properties                map[string]*schema
	Required                  []string
	Items                     *schema
	AdditionalProperties      *schema
	MergeKey                  string              `json:"x-kubernetes-patch-merge-key"`
	Strategy                  string              `json:"x-kubernetes-patch-strategy"`
	GVK                       []map[string]string `json:"x-kubernetes-group-version-kind"`
}

func openAPI(t *testing.T, kinds []*api.Kind) (d document) {
	t.Helper()
	paths, schemas := api.OpenAPI(kinds)
	text, err := json.Marshal(map[string]any{"paths": paths, "schemas": schemas})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// of returns the schema of a kind.
func (d document) of(t *testing.T, kind *api.Kind) *schema {
	t.Helper()
	want := map[string]string{"group": kind.Group, "version": kind.Version, "kind": kind.Kind}
	for _, s := range d.Schemas {
		if len(s.GVK) == 1 && fmt.Sprint(s.GVK[0]) == fmt.Sprint(want) {
			return s
		}
	}
	t.Fatalf("no schema has the kind %v", want)
	return nil
}

// check returns what is wrong with a value in the eyes of the schema.
func (d document) check(s *schema, value any, path string) (wrong []string) {
	if len(s.AllOf) == 1 {
		s = s.AllOf[0]
	}
	if s.Ref != "" {
		name, _ := strings.CutPrefix(s.Ref, "#/components/schemas/")
		if s = d.Schemas[name]; s == nil {
			return []string{path + " refers to " + name + ", which is nowhere"}
		}
	}
	var types []string
	for _, one := range append(s.OneOf, s) {
		types = append(types, one.Type)
	}
	is := ""
	switch value := value.(type) {
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case float64:
		if is = "number"; value == float64(int64(value)) && slices.Contains(types, "integer") {
			is = "integer"
		}
	case []any:
		is = "array"
		for i, element := range value {
			if s.Items != nil {
				wrong = append(wrong, d.check(s.Items, element, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	case map[string]any:
		is = "object"
		for _, name := range s.Required {
			if _, is := value[name]; !is {
				wrong = append(wrong, path+"."+name+" is required")
			}
		}
		for name, element := range value {
			inside := s.AdditionalProperties
			if inside == nil {
				inside = s.Properties[name]
			}
			if at := path + "." + name; inside == nil {
				wrong = append(wrong, at+" is not described")
			} else if element != nil {
				wrong = append(wrong, d.check(inside, element, at)...)
			}
		}
	}
	if !slices.Contains(types, is) {
		wrong = append(wrong, fmt.Sprintf("%s is %s, but described as %v", path, is, types))
	}
	return wrong
}

func TestSchemasDescribeWhatPeopleWrite(t *testing.T) {
	d := openAPI(t, api.Kinds)
	for _, kind := range api.Kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			var value any
			o := parse(t, kind.Kind, filled[kind.Kind])
			kind.Default(o)
			text, _ := json.Marshal(o)
			json.Unmarshal(text, &value)
			for _, wrong := range d.check(d.of(t, kind), value, kind.Kind) {
				t.Error(wrong)
			}
		})
	}
}

// An object that has something in every field finds all of it described.
func TestSchemasDescribeEveryField(t *testing.T) {
	filler := randfill.NewWithSeed(1).NilChance(0).NumElements(1, 1).Funcs(
		func(q *resource.Quantity, _ randfill.Continue) { *q = resource.MustParse("500m") },
		func(f *metav1.FieldsV1, _ randfill.Continue) { json.Unmarshal([]byte("{}"), f) },
	)
	d := openAPI(t, api.Kinds)
	for _, kind := range api.Kinds {
		t.Run(kind.Kind, func(t *testing.T) {
			o := kind.New()
			filler.Fill(o)
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var value map[string]any
			json.Unmarshal(text, &value)
			for _, wrong := range d.check(d.of(t, kind), value, kind.Kind) {
				t.Error(wrong)
			}
		})
	}
	for name, s := range d.Schemas {
		for field, inside := range s.Properties {
			if inside.Description == "" {
				t.Errorf("%s.%s: nothing is said of it", name, field)
			}
		}
	}
}

func TestSchemasSayWhatKubernetesSays(t *testing.T) {
	d := openAPI(t, api.Kinds)
	const core, meta = "io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1."
	for _, row := range []struct {
		name, schema, field string
		want                schema
	}{
		{"text", core + "Container", "name", schema{Type: "string"}},
		{"whole number", core + "ContainerPort", "containerPort", schema{Type: "integer", Format: "int32"}},
		{"long number", core + "PodSpec", "terminationGracePeriodSeconds", schema{Type: "integer", Format: "int64"}},
		{"yes or no", core + "PodSpec", "hostNetwork", schema{Type: "boolean"}},
		{"struct", core + "Container", "resources", schema{AllOf: ref(core + "ResourceRequirements")}},
		{"pointer", core + "Container", "livenessProbe", schema{AllOf: ref(core + "Probe")}},
		{"field of an embedded struct", core + "Probe", "httpGet", schema{AllOf: ref(core + "HTTPGetAction")}},
		{"list of texts", core + "Container", "args", schema{Type: "array", Items: &schema{Type: "string"}}},
		{"list that a patch merges by a key", core + "PodSpec", "containers",
			schema{Type: "array", Items: ref(core + "Container")[0], MergeKey: "name", Strategy: "merge"}},
		{"list that a patch merges as a set", meta + "ObjectMeta", "finalizers", schema{Type: "array", Items: &schema{Type: "string"}, Strategy: "merge"}},
		{"map", meta + "ObjectMeta", "labels", schema{Type: "object", AdditionalProperties: &schema{Type: "string"}}},
		{"bytes", core + "Secret", "data", schema{Type: "object", AdditionalProperties: &schema{Type: "string", Format: "byte"}}},
		{"quantity", core + "ResourceRequirements", "limits",
			schema{Type: "object", AdditionalProperties: ref("io.k8s.apimachinery.pkg.api.resource.Quantity")[0]}},
		{"number or text", core + "ServicePort", "targetPort", schema{AllOf: ref("io.k8s.apimachinery.pkg.util.intstr.IntOrString")}},
		{"time", meta + "ObjectMeta", "creationTimestamp", schema{AllOf: ref(meta + "Time")}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := d.Schemas[row.schema].Properties[row.field]
			if got == nil || got.Description == "" {
				t.Fatalf("got %+v", got)
			}
			row.want.Description = got.Description
			if a, b := asJSON(got), asJSON(row.want); a != b {
				t.Errorf("got %s\nwant %s", a, b)
			}
		})
	}
	for name, want := range map[string]string{core + "Container": "[name]", core + "PodSpec": "[containers]", core + "ContainerPort": "[containerPort]", core + "Pod": "[]"} {
		if got := fmt.Sprint(d.Schemas[name].Required); got != want {
			t.Errorf("%s requires %s, want %s", name, got, want)
		}
	}
	if got := d.Schemas[meta+"Time"]; got.Type != "string" || got.Format != "date-time" {
		t.Errorf("a time: %+v", got)
	}
	if got := d.of(t, api.Lookup("pods")).Description; !strings.HasPrefix(got, "Pod is a collection of containers") {
		t.Errorf("a pod: %q", got)
	}
}

func ref(name string) []*schema { return []*schema{{Ref: "#/components/schemas/" + name}} }

func asJSON(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}
