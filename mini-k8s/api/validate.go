package api

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns everything that is wrong with an object, all at once and each with its field's path. old is
// the object before an update, nil on create.
func (k *Kind) Validate(o, old Object) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessor(o, k.Namespaced, k.nameRule(), field.NewPath("metadata"))
	if old != nil {
		errs = append(errs, apivalidation.ValidateObjectMetaAccessorUpdate(o, old, field.NewPath("metadata"))...)
	}
	return append(errs, k.validate(o, old)...)
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

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

func oneOf[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

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
