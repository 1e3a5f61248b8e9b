package apiserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
)

// An object is stored as the JSON that clients get, but for its resourceVersion: that is the revision of the write
// that stores it, which nobody knows before. It is put in when the object is read, by its place in the text, so
// that reading decodes nothing.

var metadataStart = []byte(`"metadata":{`)

// appendJSON appends a stored object as clients get it.
func appendJSON(out []byte, o store.Object) []byte {
	at := bytes.Index(o.Value, metadataStart) + len(metadataStart)
	out = append(out, o.Value[:at]...)
	out = append(out, `"resourceVersion":"`...)
	out = strconv.AppendInt(out, o.Revision, 10)
	out = append(out, '"')
	if o.Value[at] != '}' {
		out = append(out, ',')
	}
	return append(out, o.Value[at:]...)
}

// encode returns the object as it is stored.
func encode(o api.Object) ([]byte, error) {
	revision := o.GetResourceVersion()
	o.SetResourceVersion("")
	defer o.SetResourceVersion(revision)
	value, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	return value, nil
}

// decode reads what encode wrote.
func decode(kind *api.Kind, stored store.Object) (api.Object, error) {
	o := kind.New()
	if err := json.Unmarshal(stored.Value, o); err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", kind.Kind, err)
	}
	o.SetResourceVersion(strconv.FormatInt(stored.Revision, 10))
	return o, nil
}

// checkTimes refuses a value that nobody could read again. Times are stored in UTC, where 9999-12-31T23:59:59-01:00 is in the
// year 10000. What does not look like that is not decoded for it.
func checkTimes(kind *api.Kind, value []byte) error {
	if !bytes.Contains(value, []byte(`"10000-01-01T`)) && !bytes.Contains(value, []byte(`"-0001-12-31T`)) {
		return nil
	}
	if _, err := decode(kind, store.Object{Value: value}); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// keyOf returns where an object is stored: "pods/default/web-1", "nodes/node-1". Without a name it is the prefix
// of a namespace, without a namespace that of the kind.
func keyOf(kind *api.Kind, namespace, name string) string {
	key := kind.GroupResource().String() + "/"
	if kind.Namespaced && namespace == "" {
		return key
	} else if kind.Namespaced {
		key += namespace + "/"
	}
	return key + name
}

// readObject reads an object that a client sent and checks that it is what the path says. Unknown and doubled fields
// are refused, warned about or ignored, as the client asked with fieldValidation (KEP-2885).
func (r *request) readObject(body []byte, into api.Object) error {
	wanted := into.GetObjectKind().GroupVersionKind()
	cannot := fmt.Sprintf("%s in version %q cannot be handled as a %s: ", wanted.Kind, wanted.Version, wanted.Kind)
	strict, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return badRequest("%s%v", cannot, err)
	}
	if got := into.GetObjectKind().GroupVersionKind(); !got.Empty() && got != wanted {
		return badRequest("the object is a %s in version %q, but the request is for %s in version %q",
			got.Kind, got.GroupVersion(), wanted.Kind, wanted.GroupVersion())
	}
	into.GetObjectKind().SetGroupVersionKind(wanted)
	r.warnings = nil
	switch r.URL.Query().Get("fieldValidation") {
	case "Strict":
		if len(strict) > 0 {
			return badRequest("%s%v", cannot, runtime.NewStrictDecodingError(strict))
		}
	case "Ignore":
	default:
		for _, unknown := range strict {
			r.warnings = append(r.warnings, unknown.Error())
		}
	}
	namespace, name := into.GetNamespace(), into.GetName()
	if namespace != "" && namespace != r.namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request: %q, %q", namespace, r.namespace)
	}
	if name != "" && r.name != "" && name != r.name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", name, r.name)
	}
	into.SetNamespace(r.namespace)
	into.SetName(cmp.Or(r.name, name))
	return nil
}
