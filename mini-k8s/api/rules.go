package api

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// How the words of the table of types are read and kept to.

// goType is a row of that table.
type goType[T any] struct {
	// fields has words such as "protocol=TCP:TCP|UDP". After the name of a field in JSON come, in this order:
	//	!       it has to be there
	//	=TCP    what it is if it is not there
	//	:rule   what it may be if it is there: a name of rules, one of some words (TCP|UDP), or a number (0.. or 1..3600)
	fields   string
	oneOf    string                                   // the fields of which one has to be there, and no other
	defaults func(*T)                                 // more of them, which come before those of the fields
	check    func(c *check, value *T, at *field.Path) // what the rules cannot say
}

// typeRow is a goType, read.
type typeRow struct {
	goType   reflect.Type
	fields   []fieldRow
	oneOf    []fieldRow
	defaults func(reflect.Value)
	check    func(*check, reflect.Value, *field.Path)
}

type fieldRow struct {
	index    []int
	name     string
	required bool
	initial  reflect.Value // invalid if there is no default
	rule     rule
}

// rule says what may stand in a field: of a text and of a number there may be different things to say.
type rule struct {
	form        func(text string) (reasons []string) // nil: any
	oneOf       []string                             // nil: any
	least, most int64
	reason      string // for which a number is refused; "" if any will do
}

var rules = map[string]rule{
	"label":      {form: validation.IsDNS1123Label},
	"subdomain":  {form: validation.IsDNS1123Subdomain},
	"qualified":  {form: validation.IsQualifiedName},
	"labelValue": {form: validation.IsValidLabelValue},
	"key":        {form: validation.IsConfigMapKey},
	"variable":   {form: validation.IsRelaxedEnvVarName},
	"header":     {form: validation.IsHTTPHeaderName},
	"port":       {form: validation.IsValidPortName, least: 1, most: 65535, reason: validation.InclusiveRangeError(1, 65535)},
	"id":         {most: math.MaxInt32, reason: validation.InclusiveRangeError(0, math.MaxInt32)},
	"mode":       {most: 0o777, reason: "must be a number between 0 and 0777 (octal), both inclusive"},
	"ip":         {form: reasonsOf(validation.IsValidIP)},
	"cidr":       {form: reasonsOf(validation.IsValidCIDR)},
	"ipv4":       {form: isOtherIPv4},
	"trimmed":    {form: unless("must not have leading or trailing whitespace", func(s string) bool { return strings.TrimSpace(s) != s })},
	"absolute":   {form: both(unless("must be an absolute path", func(s string) bool { return !path.IsAbs(s) }), goesNotBack)},
	"inside":     {form: staysInside},
	"visible":    {form: both(staysInside, unless("must not start with '..'", func(s string) bool { return strings.HasPrefix(s, "..") }))},
}

var (
	goesNotBack = unless("must not contain '..'", func(s string) bool { return slices.Contains(strings.Split(s, "/"), "..") })
	staysInside = both(unless("must be a relative path", path.IsAbs), goesNotBack)
	// isOtherIPv4 refuses what packets cannot be sent to from a pod.
	isOtherIPv4 = unless("must be an IPv4 address of another machine or a pod", func(s string) bool {
		ip, err := netip.ParseAddr(s)
		return err != nil || !ip.Is4() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast()
	})
)

func unless(reason string, wrong func(string) bool) func(string) []string {
	return func(text string) []string {
		if wrong(text) {
			return []string{reason}
		}
		return nil
	}
}

func both(a, b func(string) []string) func(string) []string {
	return func(text string) []string { return append(a(text), b(text)...) }
}

func reasonsOf(check func(*field.Path, string) field.ErrorList) func(string) []string {
	return func(text string) (reasons []string) {
		for _, err := range check(nil, text) {
			reasons = append(reasons, err.Detail)
		}
		return reasons
	}
}

func tableOf(rows ...*typeRow) map[reflect.Type]*typeRow {
	table := map[reflect.Type]*typeRow{}
	for _, row := range rows {
		table[row.goType] = row
	}
	return table
}

var fieldWord = regexp.MustCompile(`^(\w+)(!?)(=[^:]*)?(?::(.+))?$`)

// of reads a row. It panics where that says what cannot be: a bug that every test finds.
func of[T any](g goType[T]) *typeRow {
	row := &typeRow{goType: reflect.TypeFor[T](), defaults: func(reflect.Value) {}, check: func(*check, reflect.Value, *field.Path) {}}
	if g.defaults != nil {
		row.defaults = func(v reflect.Value) { g.defaults(v.Addr().Interface().(*T)) }
	}
	if g.check != nil {
		row.check = func(c *check, v reflect.Value, at *field.Path) { g.check(c, v.Addr().Interface().(*T), at) }
	}
	for _, name := range strings.Fields(g.oneOf) {
		index, _ := fieldAt(row.goType, name)
		row.oneOf = append(row.oneOf, fieldRow{index: index, name: name})
	}
	for _, word := range strings.Fields(g.fields) {
		parts := fieldWord.FindStringSubmatch(word)
		index, fieldType := fieldAt(row.goType, parts[1])
		f := fieldRow{index: index, name: parts[1], required: parts[2] != "", rule: parseRule(parts[4])}
		if initial, ok := strings.CutPrefix(parts[3], "="); ok {
			if fieldType.Kind() == reflect.Pointer {
				fieldType = fieldType.Elem()
			}
			at := reflect.New(fieldType)
			if err := yaml.Unmarshal([]byte(initial), at.Interface()); err != nil {
				panic(fmt.Sprintf("api: default of %s in %v: %v", word, row.goType, err))
			}
			f.initial = at.Elem()
		}
		row.fields = append(row.fields, f)
	}
	return row
}

func parseRule(text string) rule {
	if named, ok := rules[text]; ok || text == "" {
		return named
	}
	from, to, isNumber := strings.Cut(text, "..")
	if !isNumber {
		return rule{oneOf: strings.Split(text, "|")}
	}
	least, _ := strconv.ParseInt(from, 10, 64)
	most, err := strconv.ParseInt(to, 10, 64)
	if err != nil {
		return rule{least: least, most: math.MaxInt64, reason: fmt.Sprint("must be greater than or equal to ", least)}
	}
	return rule{least: least, most: most, reason: validation.InclusiveRangeError(int(least), int(most))}
}

// fieldAt finds a field by the path that it has in JSON.
func fieldAt(goType reflect.Type, path string) (index []int, fieldType reflect.Type) {
	for _, name := range strings.Split(path, ".") {
		fields := reflect.VisibleFields(goType)
		i := slices.IndexFunc(fields, func(f reflect.StructField) bool { return jsonName(f) == name })
		if i < 0 {
			panic(fmt.Sprintf("api: %v has no field %s", goType, path))
		}
		index, goType = append(index, fields[i].Index...), fields[i].Type
	}
	return index, goType
}

// jsonName returns the name that a field has in JSON: none if what it contains stands in its place.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// walk visits all below a value that has a row, the outer before the inner.
func walk(v reflect.Value, at *field.Path, visit func(row *typeRow, v reflect.Value, at *field.Path)) {
	if row := types[v.Type()]; row != nil {
		visit(row, v, at)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), at, visit)
		}
	case reflect.Slice:
		for i := 0; i < v.Len() && v.Type().Elem().Kind() == reflect.Struct; i++ {
			walk(v.Index(i), at.Index(i), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Type().Field(i); {
			case !f.IsExported():
			case jsonName(f) == "":
				walk(v.Field(i), at, visit)
			default:
				walk(v.Field(i), at.Child(jsonName(f)), visit)
			}
		}
	}
}

func fillIn(row *typeRow, v reflect.Value, _ *field.Path) {
	row.defaults(v)
	for _, f := range row.fields {
		at := v.FieldByIndex(f.index)
		if !f.initial.IsValid() || !at.IsZero() {
			continue
		}
		if at.Kind() == reflect.Pointer {
			at.Set(reflect.New(at.Type().Elem()))
			at = at.Elem()
		}
		at.Set(f.initial)
	}
}

// keepTo checks a value by its row.
func (c *check) keepTo(row *typeRow, v reflect.Value, at *field.Path) {
	for _, f := range row.fields {
		c.field(f, v.FieldByIndex(f.index), at.Child(f.name))
	}
	var may, there []string
	for _, f := range row.oneOf {
		if may = append(may, f.name); !v.FieldByIndex(f.index).IsNil() {
			there = append(there, f.name)
		}
	}
	if len(may) > 0 && len(there) == 0 {
		c.add(field.Required(at, "must specify one of: "+strings.Join(may, ", ")))
	} else if len(there) > 1 {
		c.add(field.Forbidden(at, "may not specify more than one of: "+strings.Join(may, ", ")))
	}
	row.check(c, v, at)
}

func (c *check) field(f fieldRow, v reflect.Value, at *field.Path) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		c.rule(f.rule, v.Elem(), at)
		return
	}
	if port, ok := v.Interface().(intstr.IntOrString); ok {
		if v = reflect.ValueOf(port.IntVal); port.Type == intstr.String {
			v = reflect.ValueOf(port.StrVal)
		}
	}
	switch isNumber := v.CanInt(); {
	case isNumber && f.required, !v.IsZero() && !(v.Kind() == reflect.Slice && v.Len() == 0):
		c.rule(f.rule, v, at)
	case f.required:
		c.add(field.Required(at, ""))
	}
}

func (c *check) rule(r rule, v reflect.Value, at *field.Path) {
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			c.rule(r, v.Index(i), at.Index(i))
		}
	case v.CanInt() && r.reason != "" && (v.Int() < r.least || v.Int() > r.most):
		c.invalid(at, v.Int(), r.reason)
	case v.Kind() != reflect.String || v.String() == "":
	case r.form != nil:
		c.invalid(at, v.String(), r.form(v.String())...)
	case r.oneOf != nil:
		oneOf(c, at, v.String(), r.oneOf...)
	}
}
