package api

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// maxConfigSize bounds what a ConfigMap or Secret holds, in bytes.
const maxConfigSize = 1 << 20

var configMaps = behaviour[*corev1.ConfigMap]{
	columns: "Name Data Age",
	cells: func(c *corev1.ConfigMap) []any {
		return []any{c.Name, len(c.Data) + len(c.BinaryData), age(c.CreationTimestamp)}
	},
	update: func(c *check, m, old *corev1.ConfigMap) {
		checkFrozen(c, old.Immutable, equal(m.Immutable, old.Immutable) && equal(m.Data, old.Data) && equal(m.BinaryData, old.BinaryData))
	},
}

func checkConfigMap(c *check, m *corev1.ConfigMap, at *field.Path) {
	checkSize(c, checkKeys(c, at.Child("data"), m.Data)+checkKeys(c, at.Child("binaryData"), m.BinaryData))
	for key := range m.BinaryData {
		if _, ok := m.Data[key]; ok {
			c.invalid(at.Child("binaryData").Key(key), key, "duplicate of key present in data")
		}
	}
}

var secrets = behaviour[*corev1.Secret]{
	columns: "Name Type Data Age",
	cells:   func(s *corev1.Secret) []any { return []any{s.Name, s.Type, len(s.Data), age(s.CreationTimestamp)} },
	update: func(c *check, s, old *corev1.Secret) {
		c.unchanged(field.NewPath("type"), s.Type, old.Type)
		checkFrozen(c, old.Immutable, equal(s.Immutable, old.Immutable) && equal(s.Data, old.Data))
	},
	fields: "type",
}

func defaultSecret(s *corev1.Secret) {
	for key, value := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[key] = []byte(value)
	}
	s.StringData = nil // write-only
}

func checkSecret(c *check, s *corev1.Secret, at *field.Path) {
	checkSize(c, checkKeys(c, at.Child("data"), s.Data))
}

// checkKeys checks the keys and returns the size of the values in bytes.
func checkKeys[V string | []byte](c *check, at *field.Path, data map[string]V) (size int) {
	for _, key := range slices.Sorted(maps.Keys(data)) {
		c.invalid(at.Key(key), key, validation.IsConfigMapKey(key)...)
		size += len(data[key])
	}
	return size
}

func checkSize(c *check, size int) {
	if size > maxConfigSize {
		c.add(field.TooLong(field.NewPath("data"), fmt.Sprint(size, " bytes"), maxConfigSize))
	}
}

func checkFrozen(c *check, immutable *bool, same bool) {
	if ptr.Deref(immutable, false) && !same {
		c.add(field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
	}
}
