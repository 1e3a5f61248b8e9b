package access

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var errAway = errors.New("the store is away")

// control knows one pod, web, that is bound to node-1 and uses the Secret key.
func control(away bool) *Control {
	err := func() error {
		if away {
			return errAway
		}
		return nil
	}
	return &Control{
		Pod: func(_ context.Context, namespace, name string) (*corev1.Pod, error) {
			if name != "web" {
				return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
			}
			return &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1"}}, err()
		},
		Pods: func(context.Context, string) ([][]byte, error) {
			const pod = `{"spec":{"nodeName":"node-1","volumes":[{"secret":{"secretName":"key"}}]}}`
			return [][]byte{[]byte(pod)}, err()
		},
	}
}

func TestNodeMayTouchItsPodsAndTheirSecrets(t *testing.T) {
	for _, row := range []struct {
		user              User
		verb, what, sub   string
		name              string
		allowed, notFound bool
	}{
		{"node:node-1", "patch", "pods", "status", "web", true, false},
		{"node:node-2", "patch", "pods", "status", "web", false, false},
		{"node:node-1", "patch", "pods", "status", "gone", false, true},
		{"node:node-1", "update", "pods", "", "web", false, false},
		{"node:node-1", "get", "secrets", "", "key", true, false},
		{"node:node-1", "get", "secrets", "", "other", false, false},
		{"node:node-1", "list", "secrets", "", "key", false, false},
		{"node:node-2", "get", "secrets", "", "key", false, false},
		{"viewer", "get", "pods", "log", "web", true, false},
		{"viewer", "get", "pods", "exec", "web", false, false},
		{"viewer", "get", "secrets", "", "key", false, false},
		{"component:scheduler", "create", "pods", "binding", "web", true, false},
		{"", "get", "pods", "", "web", false, false},
	} {
		do := Attributes{Verb: row.verb, Resource: row.what, Subresource: row.sub, Namespace: "default", Name: row.name}
		err := control(false).Authorize(t.Context(), row.user, do)
		if ok := err == nil; ok != row.allowed || apierrors.IsNotFound(err) != row.notFound || !ok && !row.notFound && !apierrors.IsForbidden(err) {
			t.Errorf("%q %s %s/%s %s: %v", row.user, row.verb, row.what, row.sub, row.name, err)
		}
	}
}

func TestWhatCannotBeDecidedIsAnErrorAndNotAllowed(t *testing.T) {
	for _, do := range []Attributes{
		{Verb: "patch", Resource: "pods", Subresource: "status", Namespace: "default", Name: "web"},
		{Verb: "get", Resource: "secrets", Namespace: "default", Name: "other"},
	} {
		if err := control(true).Authorize(t.Context(), "node:node-1", do); !errors.Is(err, errAway) {
			t.Errorf("%s %s: %v", do.Verb, do.Resource, err)
		}
	}
}

func TestANodeMayCreateMirrorsOfItsOwnPodsAndNoOtherPods(t *testing.T) {
	for _, row := range []struct {
		name, pod string
		allowed   bool
	}{
		{"a mirror", `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"node-1"}}`, true},
		{"of another node", `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"node-2"}}`, false},
		{"of no node", `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}}`, false},
		{"no mirror", `{"spec":{"nodeName":"node-1"}}`, false},
		{"with a Secret", `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"node-1","volumes":[{"secret":{"secretName":"key"}}]}}`, false},
		{"with one in a variable", `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"node-1","containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"key"}}}]}]}}`, false},
	} {
		var pod corev1.Pod
		if err := json.Unmarshal([]byte(row.pod), &pod); err != nil {
			t.Fatal(err)
		}
		do := Attributes{Verb: "create", Resource: "pods", Namespace: "default"}
		if err := CheckNew("node:node-1", do, &pod); (err == nil) != row.allowed || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
