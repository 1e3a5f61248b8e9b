package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// addWarnings puts warnings into the answer's header, where kubectl finds and prints them (KEP-1693).
func addWarnings(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		text = strings.Map(func(r rune) rune {
			if r < ' ' || r == 127 {
				return ' '
			}
			return r
		}, text)
		quoted := strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
		w.Header().Add("Warning", `299 - "`+quoted+`"`)
	}
}

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
	if len(path) == 0 {
		switch value := value.(type) {
		case nil:
			return nil
		case map[string]any:
			if len(value) == 0 {
				return nil
			}
		case []any:
			if len(value) == 0 {
				return nil
			}
		}
		return []any{value}
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	name, every := strings.CutSuffix(path[0], "[*]")
	if !every {
		return valuesAt(object[name], path[1:])
	}
	var all []any
	list, _ := object[name].([]any)
	for _, element := range list {
		all = append(all, valuesAt(element, path[1:])...)
	}
	return all
}
