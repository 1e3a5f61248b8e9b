package kubelet

import (
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

func TestExpand(t *testing.T) {
	known := map[string]string{"A": "alpha", "EMPTY": "", "B": "$(A)"}
	for in, want := range map[string]string{
		"":                     "",
		"plain":                "plain",
		"$(A)":                 "alpha",
		"x$(A)y$(A)z":          "xalphayalphaz",
		"$(EMPTY)!":            "!",
		"$(UNKNOWN)":           "$(UNKNOWN)",
		"$$(A)":                "$(A)",
		"$$$(A)":               "$alpha",
		"$$":                   "$",
		"$":                    "$",
		"$A":                   "$A",
		"$(A":                  "$(A",
		"$()":                  "$()",
		"$(B)":                 "$(A)", // what a variable holds is not looked at again
		"$(UNKNOWN) and $(A)":  "$(UNKNOWN) and alpha",
		"costs 5$, says $(A).": "costs 5$, says alpha.",
	} {
		if got := expand(in, known); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	pod := newPod()
	pod.Labels, pod.Annotations = map[string]string{"app": "shop", "x/y": "z"}, map[string]string{"note": "hi"}
	pod.Spec.ServiceAccountName = "robot"
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	c := &corev1.Container{Env: []corev1.EnvVar{
		field("NAME", "metadata.name"), field("NS", "metadata.namespace"), field("UID", "metadata.uid"),
		field("NODE", "spec.nodeName"), field("ACCOUNT", "spec.serviceAccountName"),
		field("IP", "status.podIP"), field("IPS", "status.podIPs"), field("HOST", "status.hostIP"),
		field("APP", "metadata.labels['app']"), field("XY", "metadata.labels['x/y']"), field("NOTE", "metadata.annotations['note']"),
		field("NONE", "metadata.labels['none']"),
		{Name: "URL", Value: "http://$(IP):8080/$(NAME)"},
		{Name: "EARLY", Value: "$(LATE)"}, // it stands before what it refers to
		{Name: "LATE", Value: "late"},
		{Name: "URL", Value: "$(URL)?again"}, // the second of a name sees the first
	}}
	want := []string{"NAME=web", "NS=default", "UID=web-uid", "NODE=node-1", "ACCOUNT=robot", "IP=10.244.1.7", "IPS=10.244.1.7", "HOST=192.0.2.1",
		"APP=shop", "XY=z", "NOTE=hi", "NONE=", "URL=http://10.244.1.7:8080/web", "EARLY=$(LATE)", "LATE=late", "URL=http://10.244.1.7:8080/web?again"}
	got, err := specOf(pod, c, 0, "10.244.1.7", "192.0.2.1")
	if err != nil || !slices.Equal(got.Env, want) {
		t.Errorf("the environment is\n%q\n(%v), want\n%q", got.Env, err, want)
	}
}

func TestAFieldThatCannotBeReferredToIsNamed(t *testing.T) {
	for _, path := range []string{"spec.nonsense", "metadata.labels", "metadata.labels['app'", "status.phase"} {
		c := &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}}}
		if _, err := specOf(newPod(), c, 0, "", ""); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "env X") {
			t.Errorf("%s: the error is %v", path, err)
		}
	}
}

func TestEveryFieldThatTheAPIServerLetsThroughCanBeReferredTo(t *testing.T) {
	for _, path := range append(api.PodFields, "metadata.labels['a']", "metadata.annotations['a']") {
		if _, err := fieldOf(newPod(), path, "", ""); err != nil {
			t.Error(err)
		}
	}
}

func TestCommandAndArgumentsReferToTheEnvironment(t *testing.T) {
	c := &corev1.Container{Name: "app", Image: "hello:1", Command: []string{"/$(PROGRAM)"}, Args: []string{"--name=$(NAME)", "$$(NAME)", "$(PATH)"},
		WorkingDir: "/tmp", TTY: true, Stdin: true, Env: []corev1.EnvVar{{Name: "PROGRAM", Value: "hello"}, {Name: "NAME", Value: "a=b"}}}
	got, err := specOf(newPod(), c, 3, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Command, []string{"/hello"}) || !slices.Equal(got.Args, []string{"--name=a=b", "$(NAME)", "$(PATH)"}) {
		t.Errorf("command %q, arguments %q", got.Command, got.Args)
	}
	if got.Name != "app" || got.Image != "hello:1" || got.Attempt != 3 || got.WorkingDir != "/tmp" || !got.TTY || !got.Stdin {
		t.Errorf("the rest is %+v", got)
	}
	if empty, _ := specOf(newPod(), &corev1.Container{}, 0, "", ""); len(empty.Command)+len(empty.Args) > 0 {
		t.Errorf("nothing became %q %q, which would replace the image's", empty.Command, empty.Args)
	}
}
