package api_test

import (
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
)

func TestKindsOutOfScopeHaveASentence(t *testing.T) {
	for _, row := range []struct{ name, kind, resource, short, path, sentence string }{
		{"of a group", "Job", "jobs", "", "/apis/batch/v1/namespaces/x/jobs", "jobs.batch is out of scope in mini-k8s: a Pod with restartPolicy"},
		{"with a short name", "StatefulSet", "statefulsets", "sts", "/apis/apps/v1/namespaces/x/statefulsets", "statefulsets.apps is out of scope in mini-k8s: use a Deployment"},
		{"of the core", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "/api/v1/namespaces/x/persistentvolumeclaims", "persistentvolumeclaims is out of scope"},
		{"in no namespace", "StorageClass", "storageclasses", "sc", "/apis/storage.k8s.io/v1/storageclasses", "storageclasses.storage.k8s.io is out of scope"},
		{"with an odd plural", "NetworkPolicy", "networkpolicies", "netpol", "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies", "every pod may reach"},
		{"with two short names", "CustomResourceDefinition", "customresourcedefinitions", "crd crds", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "api-resources"},
	} {
		t.Run(row.name, func(t *testing.T) {
			i := slices.IndexFunc(api.OutOfScope, func(k *api.Kind) bool { return k.Kind == row.kind })
			if i < 0 {
				t.Fatal("it is not listed")
			}
			kind := api.OutOfScope[i]
			if kind.Resource != row.resource || strings.Join(kind.ShortNames, " ") != row.short || kind.Path("x", "", "") != row.path ||
				!strings.Contains(kind.Refusal(), row.sentence) {
				t.Errorf("got %s %v %s: %s", kind.Resource, kind.ShortNames, kind.Path("x", "", ""), kind.Refusal())
			}
		})
	}
}

func TestNoKindIsBothServedAndOutOfScope(t *testing.T) {
	for _, kind := range api.OutOfScope {
		if kind.Refusal() == "" {
			t.Errorf("%s: out of scope without a word", kind.Kind)
		}
		if api.ForGVK(kind.GroupVersionKind) != nil {
			t.Errorf("%s is served: take it out of the list", kind.Kind)
		}
	}
	for _, kind := range api.Kinds {
		if kind.Refusal() != "" {
			t.Errorf("%s is refused and served", kind.Kind)
		}
	}
}
