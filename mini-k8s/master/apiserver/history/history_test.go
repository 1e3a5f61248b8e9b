package history

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"workshop/mini-k8s/master/store"
)

// told returns entries as "created Pod a".
func told(entries []Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprint(e.Verb, " ", e.Kind, " ", e.Name))
	}
	return strings.Join(all, ", ")
}

func TestLifeIsReadFromTheLogAndGoesOn(t *testing.T) {
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	create := func(key, value string) {
		t.Helper()
		if _, err := s.Create(ctx, key, []byte(value), "test"); err != nil {
			t.Fatal(err)
		}
	}
	create("replicasets.apps/default/web", `{"metadata":{"name":"web","uid":"1"}}`)
	create("pods/default/web-1", `{"metadata":{"name":"web-1","uid":"2","ownerReferences":[{"uid":"1"}]}}`)
	create("pods/default/other", `{"metadata":{"name":"other","uid":"3"}}`)
	create("serviceips/10.96.0.1", `{"uid":"1"}`) // no object
	life, past, present, err := Read(ctx, s, "replicasets.apps/default/web")
	if err != nil || told(past) != "created ReplicaSet web, created Pod web-1" || present != 4 {
		t.Fatalf("%v: %q up to %d", err, told(past), present)
	}
	create("pods/default/web-2", `{"metadata":{"name":"web-2","uid":"4","ownerReferences":[{"uid":"1"}]}}`)
	if more, err := life.Next(ctx); err != nil || told(more) != "created Pod web-2" || more[0].Of.Resource != "pods" {
		t.Errorf("%v: %q", err, told(more))
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := life.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	if _, _, _, err := Read(ctx, s, "pods/default/nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of what never was: %v", err)
	}
}
