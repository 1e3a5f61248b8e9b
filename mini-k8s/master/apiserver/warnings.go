package apiserver

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// warnUnserved adds a warning for each field in an object's JSON that is kept but not acted on. What the object had
// before the request, if it was there, is not mentioned again.
func (r *request) warnUnserved(before, after []byte) {
	if len(r.kind.Unserved) == 0 {
		return
	}
	var had, has any
	json.Unmarshal(before, &had) // may be nil
	json.Unmarshal(after, &has)  // decode has read it already
	var warnings []string
	for _, text := range r.kind.Unserved {
		path := strings.Split(text, ".")
		if now := valuesAt(has, path); len(now) > 0 && !reflect.DeepEqual(now, valuesAt(had, path)) {
			warnings = append(warnings, fmt.Sprintf("%s: this field is stored, but nothing acts on it in this version of mini-k8s", text))
		}
	}
	slices.Sort(warnings)
	r.warnings = append(r.warnings, warnings...)
}

// valuesAt returns what stands at the path; "containers[*]" means in each element of the list. Empty lists and
// objects do not count.
func valuesAt(value any, path []string) []any {
	list, isList := value.([]any)
	object, isObject := value.(map[string]any)
	switch {
	case value == nil, isList && len(list) == 0, isObject && len(object) == 0:
		return nil
	case len(path) == 0:
		return []any{value}
	case !isObject:
		return nil
	}
	name, every := strings.CutSuffix(path[0], "[*]")
	if !every {
		return valuesAt(object[name], path[1:])
	}
	var all []any
	elements, _ := object[name].([]any)
	for _, element := range elements {
		all = append(all, valuesAt(element, path[1:])...)
	}
	return all
}
