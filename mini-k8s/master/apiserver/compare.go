package apiserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
)

// noise are fields, wherever they are, that change with the time, or because something else in the object does.
var noise = map[string]bool{"managedFields": true, "generation": true, "observedGeneration": true, "lastTransitionTime": true,
	"lastUpdateTime": true, "lastProbeTime": true, "lastHeartbeatTime": true, "renewTime": true, "startedAt": true,
	"finishedAt": true, "deletionGracePeriodSeconds": true,
	corev1.LastAppliedConfigAnnotation: true} // repeats the whole object, with the data of a Secret

// compare returns what an update has changed, and what of it a table shows. The data of a Secret is not in it.
func compare(kind *api.Kind, change *store.Change) (changes, columns []api.Difference) {
	var from, to any
	before, after := kind.New(), kind.New()
	for _, into := range []any{&from, before} {
		json.Unmarshal(change.Previous, into) // encode wrote it
	}
	for _, into := range []any{&to, after} {
		json.Unmarshal(change.Value, into)
	}
	changes = differences("", from, to, nil)
	for i, d := range changes {
		if kind.Kind == "Secret" && strings.HasPrefix(d.Path, "data") {
			changes[i] = api.Difference{Path: d.Path, To: "(hidden)"}
		}
	}
	for i, column := range kind.Columns() {
		// "1 (5m ago)": how long ago it is today nobody knew then.
		was, _, _ := strings.Cut(fmt.Sprint(kind.Cells(before)[i]), " (")
		is, _, _ := strings.Cut(fmt.Sprint(kind.Cells(after)[i]), " (")
		if column.Priority == 0 && column.Name != "Age" && was != is {
			columns = append(columns, api.Difference{Path: column.Name, From: was, To: is})
		}
	}
	return changes, columns
}

// differences appends the leaves in which two values of JSON differ, and what came or went with nothing in it to tell.
func differences(path string, from, to any, all []api.Difference) []api.Difference {
	known, before, after := len(all), parts(from), parts(to)
	leaf := before == nil && from != nil || after == nil && to != nil
	if !leaf {
		names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			all = differences(path+name, before[name], after[name], all)
		}
	}
	if leaf && !reflect.DeepEqual(from, to) || len(all) == known && (from == nil) != (to == nil) {
		all = append(all, api.Difference{Path: strings.TrimPrefix(path, "."), From: from, To: to})
	}
	return all
}

// parts returns the fields of an object, or the elements of a list of objects by what names them: their place in it does
// not count. For other values it is nil.
func parts(value any) map[string]any {
	all := map[string]any{}
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			if !noise[name] {
				all["."+name] = field
			}
		}
		return all
	case []any:
		for i, element := range value {
			fields, ok := element.(map[string]any)
			if !ok {
				return nil
			}
			name := fmt.Sprintf("[%v]", cmp.Or[any](fields["name"], fields["type"], fields["uid"], i))
			if all[name] != nil { // a volume that is mounted twice
				name = fmt.Sprintf("[%d]", i)
			}
			all[name] = element
		}
		return all
	}
	return nil
}
