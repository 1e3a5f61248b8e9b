// Package api is the table of the resource kinds: one row for each kind says everything that the API server, the
// client and the command line need to know of it. The types are those of Kubernetes (k8s.io/api), so that every
// manifest and every client of Kubernetes works with them; what is done with them is written here.
//
// Invariants:
//  1. A kind is known by its row alone: to add one, add a row to Kinds, and to types one for each Go type that it is made of.
//  2. Defaults are filled in before validation, and both are pure functions of the object.
//  3. A field is acted on and named in its row (Served), or who sets it is warned, or it is refused: never ignored.
//
// In Kubernetes: each kind has a strategy (pkg/registry/core/pod/strategy.go), defaults generated from markers
// (pkg/apis/core/v1/defaults.go), validation (pkg/apis/core/validation) and columns (pkg/printers/internalversion),
// and converts between several versions through a hub type. Here a kind has one version and no conversion.
package api

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is any API object: a pointer to a type of k8s.io/api.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind is one row of the table.
type Kind struct {
	schema.GroupVersionKind
	Resource     string   // the plural, as in the URL: "pods"
	ShortNames   []string // as kubectl accepts them: "po"
	Categories   []string // "all" for what `kubectl get all` shows
	Namespaced   bool
	Subresources []string // "status", "scale", "log", ...
	// Served lists the fields that are acted on, with all below them, as paths into the JSON: "spec.nodeName",
	// "spec.containers[*].image". "spec.dnsPolicy=ClusterFirst|Default" is for a field of which only these values are.
	// A write that sets any other field is answered with a Warning header: see served.go.
	Served []string

	instead string       // what to use in place of a kind that is out of scope; "" for all others
	goType  reflect.Type // nil if out of scope
	served  served
	columns []metav1.TableColumnDefinition
	cells   func(Object) []any
	update  func(c *check, o, old Object)
	fields  map[string][]int // that can be selected by, and where they are
}

// behaviour is the part of a row that is written against the Go type of the kind.
type behaviour[T Object] struct {
	columns string                   // of a table, see parseColumns
	cells   func(T) []any            // one for each column
	update  func(c *check, o, old T) // checks what an update may not do
	fields  string                   // for field selectors, beside metadata.name and metadata.namespace
}

// row joins the untyped and the typed part of a kind.
func row[T Object](kind Kind, b behaviour[T]) *Kind {
	kind.Subresources = append(kind.Subresources, "history") // every object has one
	kind.goType = reflect.TypeFor[T]().Elem()
	kind.served = servedOf(slices.Concat(ServedAlways, kind.Served))
	kind.columns = parseColumns(b.columns)
	kind.cells = func(o Object) []any { return b.cells(o.(T)) }
	kind.update = func(c *check, o, old Object) {
		if b.update != nil {
			b.update(c, o.(T), old.(T))
		}
	}
	kind.fields = map[string][]int{}
	for _, path := range strings.Fields(b.fields) {
		kind.fields[path], _ = fieldAt(kind.goType, path)
	}
	return &kind
}

// New returns an empty object of the kind with its apiVersion and kind set.
func (k *Kind) New() Object {
	o := reflect.New(k.goType).Interface().(Object)
	o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	return o
}

// Singular returns the name of one object in the words of kubectl: "pod".
func (k *Kind) Singular() string { return strings.ToLower(k.Kind) }

// GroupResource returns the kind as kubectl names it: "pods", "deployments.apps".
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// HasSubresource reports whether objects of the kind have the subresource.
func (k *Kind) HasSubresource(name string) bool { return slices.Contains(k.Subresources, name) }

// Path returns the URL path of the kind's collection, or with a name of one object and with a subresource of
// that. An empty namespace means all of them.
func (k *Kind) Path(namespace, name, subresource string) string {
	root := "/apis"
	if k.Group == "" {
		root = "/api"
	}
	if k.Namespaced && namespace != "" {
		namespace = "namespaces/" + namespace
	} else {
		namespace = ""
	}
	return path.Join(root, k.Group, k.Version, namespace, k.Resource, name, subresource)
}

// Default fills in the fields that were left empty, as Kubernetes does.
func (k *Kind) Default(o Object) { walk(reflect.ValueOf(o).Elem(), nil, fillIn) }

// SelectableFields returns what a field selector can ask of the object.
func (k *Kind) SelectableFields(o Object) map[string]string {
	set := map[string]string{"metadata.name": o.GetName()}
	if k.Namespaced {
		set["metadata.namespace"] = o.GetNamespace()
	}
	for path, index := range k.fields {
		set[path] = fmt.Sprint(reflect.ValueOf(o).Elem().FieldByIndex(index))
	}
	return set
}

// KindOf returns the row of a Go type. It panics for a type that is not in the table: that is a bug in the
// caller, not in the data.
func KindOf[T Object]() *Kind {
	kind := find(func(k *Kind) bool { return k.goType == reflect.TypeFor[T]().Elem() })
	if kind == nil {
		panic(fmt.Sprintf("api: %s is not in the table of kinds", reflect.TypeFor[T]()))
	}
	return kind
}

// Lookup finds a kind by any name that kubectl accepts: plural, singular, short name, kind, each also with its
// group ("deployments.apps"). It returns nil if there is none.
func Lookup(name string) *Kind {
	name = strings.ToLower(name)
	return find(func(k *Kind) bool {
		return slices.ContainsFunc(append([]string{k.Resource, k.Singular()}, k.ShortNames...), func(n string) bool {
			return name == n || name == n+"."+k.Group || name == n+"."+k.Version+"."+k.Group
		})
	})
}

// ForGVK finds a kind by group, version and kind. It returns nil if there is none.
func ForGVK(gvk schema.GroupVersionKind) *Kind {
	return find(func(k *Kind) bool { return k.GroupVersionKind == gvk })
}

func find(is func(*Kind) bool) *Kind {
	if i := slices.IndexFunc(Kinds, is); i >= 0 {
		return Kinds[i]
	}
	return nil
}

// CopyStatus sets the status of one object to that of another, for kinds whose status is a subresource of its own:
// who writes the object leaves the status alone, and the other way round.
func (k *Kind) CopyStatus(from, to Object) {
	if k.HasSubresource("status") {
		reflect.ValueOf(to).Elem().FieldByName("Status").Set(reflect.ValueOf(from).Elem().FieldByName("Status"))
	}
}

// SameSpec reports whether two objects ask for the same. Kinds without a spec never differ.
func (k *Kind) SameSpec(a, b Object) bool {
	specA, specB := reflect.ValueOf(a).Elem().FieldByName("Spec"), reflect.ValueOf(b).Elem().FieldByName("Spec")
	return !specA.IsValid() || equal(specA.Interface(), specB.Interface())
}
