package api

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxConfigSize bounds what a ConfigMap or Secret holds, in bytes.
const maxConfigSize = 1 << 20

var configMaps = behaviour[*corev1.ConfigMap]{
	columns: "Name Data Age",
	cells: func(c *corev1.ConfigMap) []any {
		return []any{c.Name, len(c.Data) + len(c.BinaryData), age(c.CreationTimestamp)}
	},
	validate: func(c, old *corev1.ConfigMap) field.ErrorList {
		sizes := map[string]int{}
		for key, value := range c.Data {
			sizes[key] = len(value)
		}
		for key, value := range c.BinaryData {
			sizes[key] += len(value)
		}
		errs := validateConfig(sizes)
		if old != nil && isTrue(old.Immutable) && !(isTrue(c.Immutable) && equal(c.Data, old.Data) && equal(c.BinaryData, old.BinaryData)) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
		}
		return errs
	},
}

var secrets = behaviour[*corev1.Secret]{
	columns: "Name Type Data Age",
	cells:   func(s *corev1.Secret) []any { return []any{s.Name, s.Type, len(s.Data), age(s.CreationTimestamp)} },
	defaults: func(s *corev1.Secret) {
		setDefault(&s.Type, corev1.SecretTypeOpaque)
		for key, value := range s.StringData {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[key] = []byte(value)
		}
		s.StringData = nil // write-only
	},
	validate: func(s, old *corev1.Secret) field.ErrorList {
		sizes := map[string]int{}
		for key, value := range s.Data {
			sizes[key] = len(value)
		}
		errs := validateConfig(sizes)
		if old != nil && s.Type != old.Type {
			errs = append(errs, field.Invalid(field.NewPath("type"), s.Type, "field is immutable"))
		}
		if old != nil && isTrue(old.Immutable) && !(isTrue(s.Immutable) && equal(s.Data, old.Data)) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
		}
		return errs
	},
	fields: func(s *corev1.Secret) map[string]string { return map[string]string{"type": string(s.Type)} },
}

func validateConfig(sizes map[string]int) field.ErrorList {
	var errs field.ErrorList
	total := 0
	for key, size := range sizes {
		total += size
		for _, why := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, why))
		}
	}
	if total > maxConfigSize {
		errs = append(errs, field.TooLong(field.NewPath("data"), strconv.Itoa(total)+" bytes", maxConfigSize))
	}
	return errs
}

func isTrue(b *bool) bool { return b != nil && *b }
