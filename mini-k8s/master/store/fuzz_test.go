package store_test

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"workshop/mini-k8s/master/store"
)

// FuzzKey: keys keep their objects apart, and a prefix finds those that begin with it, in their order, and no others.
func FuzzKey(f *testing.F) {
	s, err := store.OpenSQLite(filepath.Join(f.TempDir(), "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add("pods/default/a", "pods/default/ab", "pods/default/", "pods/default/a")
	f.Add("pods/a/b", "pods/a-/b", "pods.a/b", "pods/a")
	f.Add("", "\x00", "\x00\x00", "\x00")
	f.Add("a", "A", "á", "a\u0301")
	f.Add("a_b", "a%b", "a*b", "a_")
	f.Add("\U0010ffff", "\U0010ffff\U0010ffff", "\uffff", "\U0010ffff")
	f.Fuzz(func(t *testing.T, a, b, c, prefix string) {
		if !utf8.ValidString(a + b + c + prefix) {
			return // no name has such a key
		}
		want := map[string]string{}
		_, before, err := s.List(t.Context(), "")
		must(t, err)
		for i, key := range []string{a, b, c} {
			_, err := s.Create(t.Context(), key, []byte{byte(i)}, "test")
			if _, there := want[key]; there != errors.Is(err, store.ErrExists) {
				t.Fatalf("create %q, there already: %v: %v", key, there, err)
			} else if !there {
				must(t, err)
				want[key] = string([]byte{byte(i)})
			}
		}
		found, _, err := s.List(t.Context(), prefix)
		must(t, err)
		var keys []string
		for _, object := range found {
			if keys = append(keys, object.Key); string(object.Value) != want[object.Key] {
				t.Errorf("%q has the value %q, want %q", object.Key, object.Value, want[object.Key])
			}
		}
		sorted := slices.Sorted(maps.Keys(want))
		sorted = slices.DeleteFunc(sorted, func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if !slices.Equal(keys, sorted) {
			t.Errorf("list of %q: %q, want %q", prefix, keys, sorted)
		}
		if len(sorted) > 0 {
			w, err := s.Watch(prefix, before)
			must(t, err)
			var told []string
			for len(told) < len(sorted) {
				changes, err := w.Next(t.Context())
				must(t, err)
				for _, change := range changes {
					told = append(told, change.Key)
				}
			}
			if slices.Sort(told); !slices.Equal(told, sorted) {
				t.Errorf("watch of %q: %q, want %q", prefix, told, sorted)
			}
		}
		for key := range want {
			object, err := s.Get(t.Context(), key)
			must(t, err)
			_, err = s.Delete(t.Context(), key, object.Revision, "test")
			must(t, err)
		}
	})
}
