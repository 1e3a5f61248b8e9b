package kubelet

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
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
		{Name: "URL", Value: "$(URL)?again"}, // the second of a name sees the first, and takes its place
	}}
	want := []string{"NAME=web", "NS=default", "UID=web-uid", "NODE=node-1", "ACCOUNT=robot", "IP=10.244.1.7", "IPS=10.244.1.7", "HOST=192.0.2.1",
		"APP=shop", "XY=z", "NOTE=hi", "NONE=", "URL=http://10.244.1.7:8080/web?again", "EARLY=$(LATE)", "LATE=late"}
	got, _, err := specOf(pod, c, 0, surroundings{podIP: "10.244.1.7", hostIP: "192.0.2.1"})
	slices.Sort(want)
	if err != nil || !slices.Equal(got.Env, want) {
		t.Errorf("the environment is\n%q\n(%v), want\n%q", got.Env, err, want)
	}
}

func TestAFieldThatCannotBeReferredToIsNamed(t *testing.T) {
	for _, path := range []string{"spec.nonsense", "metadata.labels", "metadata.labels['app'", "status.phase"} {
		c := &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}}}
		if _, _, err := specOf(newPod(), c, 0, surroundings{}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "env X") {
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
	got, _, err := specOf(newPod(), c, 3, surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Command, []string{"/hello"}) || !slices.Equal(got.Args, []string{"--name=a=b", "$(NAME)", "$(PATH)"}) {
		t.Errorf("command %q, arguments %q", got.Command, got.Args)
	}
	if got.Name != "app" || got.Image != "hello:1" || got.Attempt != 3 || got.WorkingDir != "/tmp" || !got.TTY || !got.Stdin {
		t.Errorf("the rest is %+v", got)
	}
	if empty, _, _ := specOf(newPod(), &corev1.Container{}, 0, surroundings{}); len(empty.Command)+len(empty.Args) > 0 {
		t.Errorf("nothing became %q %q, which would replace the image's", empty.Command, empty.Args)
	}
}

// shelf has the ConfigMap settings and the Secret key.
func shelf(kind, name string, optional bool) (volumes.Content, error) {
	switch {
	case kind == volumes.ConfigMap && name == "settings":
		return volumes.Content{"color": []byte("blue"), "size": []byte("$(NOT)"), "picture": {0}}, nil
	case kind == volumes.Secret && name == "key":
		return volumes.Content{"password": []byte("hunter2"), "color": []byte("red")}, nil
	case optional:
		return volumes.Content{}, nil
	}
	return volumes.Content{}, fmt.Errorf("%s %q not found", strings.ToLower(kind), name)
}

func TestEnvironmentFromElsewhere(t *testing.T) {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")}
	web := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 80}}}}
	web.Name = "web"
	for _, row := range []struct{ name, container, want, err string }{
		{"keys", `{env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: color}}}, {name: B, valueFrom: {secretKeyRef: {name: key, key: password}}}, {name: C, value: "$(A)-$(B)"}]}`, "A=blue B=hunter2 C=blue-hunter2", ""},
		{"what is missing", `{env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: a}}}]}`, "", `configmap "none" not found`},
		{"a key that is missing", `{env: [{name: A, valueFrom: {secretKeyRef: {name: key, key: a}}}]}`, "", `couldn't find key a in Secret default/key`},
		{"what may be missing", `{env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: a, optional: true}}}, {name: B, valueFrom: {secretKeyRef: {name: key, key: a, optional: true}}}, {name: C, value: c}]}`, "C=c", ""},
		{"all of it", `{envFrom: [{configMapRef: {name: settings}}, {prefix: P_, secretRef: {name: key}}]}`, "P_color=red P_password=hunter2 color=blue size=$(NOT)", ""},
		{"the later counts", `{envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: key}}], env: [{name: size, value: XL}]}`, "color=red password=hunter2 size=XL", ""},
		{"all of nothing", `{envFrom: [{configMapRef: {name: none, optional: true}}]}`, "", ""},
		{"all of what is missing", `{envFrom: [{secretRef: {name: none}}]}`, "", `secret "none" not found`},
		{"resources", `{resources: {limits: {cpu: 1500m, memory: 100Mi}, requests: {cpu: 250m}}, env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
			{name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
			{name: D, valueFrom: {resourceFieldRef: {resource: limits.memory}}}, {name: E, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1}}},
			{name: F, valueFrom: {resourceFieldRef: {resource: requests.memory}}}, {name: G, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}]}`,
			"A=2 B=1500 C=100 D=104857600 E=1 F=0 G=1", ""},
		{"no limit but the node's", `{env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}]}`, "A=4 B=8", ""},
		{"another container's", `{name: other, env: [{name: A, valueFrom: {resourceFieldRef: {containerName: app, resource: requests.cpu, divisor: 1m}}}]}`, "A=10", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := corev1.Container{Name: "c"}
			if err := yaml.UnmarshalStrict([]byte(row.container), &c); err != nil {
				t.Fatal(err)
			}
			pod := newPod()
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}
			got, _, err := specOf(pod, &c, 0, surroundings{room: room, read: shelf})
			if said := fmt.Sprint(err); strings.Join(got.Env, " ") != row.want || (err != nil || row.err != "") && said != row.err {
				t.Errorf("the environment is %q (%v), want %s %s", got.Env, err, row.want, row.err)
			}
		})
	}
	c := &corev1.Container{Env: []corev1.EnvVar{{Name: "URL", Value: "http://$(WEB_SERVICE_HOST)/"}, {Name: "WEB_PORT", Value: "mine"}}, Args: []string{"$(WEB_SERVICE_PORT)"}}
	got, _, err := specOf(newPod(), c, 0, surroundings{services: []*corev1.Service{web}})
	if err != nil || !slices.Contains(got.Env, "URL=http://10.96.0.7/") || !slices.Contains(got.Env, "WEB_PORT=mine") || got.Args[0] != "80" {
		t.Errorf("with a service the environment is %q, the arguments %q (%v)", got.Env, got.Args, err)
	}
}
