package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
)

// noise are the paths that change with the time, or because another does. The annotation repeats the whole object, with
// the data of a Secret.
var noise = regexp.MustCompile(`^\.metadata\.(managedFields|generation|deletionGracePeriodSeconds|annotations\.` +
	regexp.QuoteMeta(corev1.LastAppliedConfigAnnotation) + `)$|^\.status\..*(Time|edAt|observedGeneration|message)$|^\.spec\.renewTime$|\]\.(name|type)$`)

// compare returns what an update has changed, and what of it a table shows. The data of a Secret is not in it.
func compare(kind *api.Kind, change *store.Change, after api.Object) (changes, columns []api.Difference) {
	var from, to any
	before := kind.New()
	json.Unmarshal(change.Previous, &from) // encode wrote it
	json.Unmarshal(change.Previous, before)
	json.Unmarshal(change.Value, &to)
	changes = differences("", from, to, nil)
	for i := range changes {
		for _, value := range []*any{&changes[i].From, &changes[i].To} {
			if *value != nil && kind.Kind == "Secret" && strings.HasPrefix(changes[i].Path, "data") {
				*value = "(hidden)"
			}
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
	if noise.MatchString(path) {
		return all
	}
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
			all["."+name] = field
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
