package api

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxErrors is how many errors are told of one object: to put a thousand into a message takes a million steps.
const maxErrors = 100

// Validate returns everything that is wrong with an object, all at once and each with its field's path. old is
// the object before an update, nil on create.
func (k *Kind) Validate(o, old Object) field.ErrorList {
	path, whole := field.NewPath("metadata"), reflect.ValueOf(o).Elem()
	wrong := check(apivalidation.ValidateObjectMetaAccessor(o, k.Namespaced, k.nameRule(), path))
	if row := types[k.goType]; row != nil {
		wrong.keepTo(row, whole, nil)
	}
	for i := range whole.NumField() {
		// What an update leaves alone was checked before: most are of the status.
		if old == nil || !equal(whole.Field(i).Interface(), reflect.ValueOf(old).Elem().Field(i).Interface()) {
			walk(whole.Field(i), field.NewPath(jsonName(k.goType.Field(i))), wrong.keepTo)
		}
	}
	if old != nil {
		wrong.add(apivalidation.ValidateObjectMetaAccessorUpdate(o, old, path)...)
		k.update(&wrong, o, old)
	}
	return field.ErrorList(wrong[:min(len(wrong), maxErrors)])
}

// nameRule returns what a name of the kind may look like: names of services and namespaces are labels in DNS,
// others are whole DNS names.
func (k *Kind) nameRule() apivalidation.ValidateNameFunc {
	switch k.Resource {
	case "namespaces":
		return apivalidation.NameIsDNSLabel
	case "services":
		return apivalidation.NameIsDNS1035Label
	}
	return apivalidation.NameIsDNSSubdomain
}

// JoinName makes the name of an object that is named after another one: "web" and "7d9f" give "web-7d9f". It
// cuts the first so that the whole stays a legal label, for pods take their host name from it.
func JoinName(base, suffix string) string {
	if most := validation.DNS1123LabelMaxLength - len(suffix) - 1; len(base) > most {
		base = strings.TrimRight(base[:most], "-.")
	}
	return base + "-" + suffix
}

// check collects what is wrong with an object.
type check field.ErrorList

func (c *check) add(errs ...*field.Error) { *c = append(*c, errs...) }

func (c *check) required(path *field.Path, there bool) {
	if !there {
		c.add(field.Required(path, ""))
	}
}

func (c *check) invalid(path *field.Path, value any, reasons ...string) {
	for _, why := range reasons {
		c.add(field.Invalid(path, value, why))
	}
}

// unique refuses a value that was seen before.
func (c *check) unique(path *field.Path, value string, seen map[string]bool) {
	if seen[value] && value != "" {
		c.add(field.Duplicate(path, value))
	}
	seen[value] = true
}

func (c *check) unchanged(path *field.Path, value, old any) {
	if !equal(value, old) {
		c.invalid(path, value, "field is immutable")
	}
}

func oneOf[T ~string](c *check, path *field.Path, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		c.add(field.NotSupported(path, value, allowed))
	}
}

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

func setDefault[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}

func setDefaultPtr[T any](at **T, value T) {
	if *at == nil {
		*at = &value
	}
}
