package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
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

// unservedFields returns a warning for each field in an object's JSON that is kept but not acted on.
func unservedFields(kind *api.Kind, body []byte) []string {
	if len(kind.Unserved) == 0 {
		return nil
	}
	var object any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil // decode has said so
	}
	var warnings []string
	for _, path := range kind.Unserved {
		if holds(object, strings.Split(path, ".")) {
			warnings = append(warnings, fmt.Sprintf("%s: this field is stored, but nothing acts on it in this version of mini-k8s", path))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// holds reports whether a value stands at the path; "containers[*]" means in any element of the list.
func holds(value any, path []string) bool {
	if len(path) == 0 {
		switch value := value.(type) {
		case nil:
			return false
		case map[string]any:
			return len(value) > 0
		case []any:
			return len(value) > 0
		}
		return true
	}
	object, ok := value.(map[string]any)
	if !ok {
		return false
	}
	name, every := strings.CutSuffix(path[0], "[*]")
	if !every {
		return holds(object[name], path[1:])
	}
	list, _ := object[name].([]any)
	return slices.ContainsFunc(list, func(element any) bool { return holds(element, path[1:]) })
}
