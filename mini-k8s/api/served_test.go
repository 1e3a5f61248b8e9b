package api_test

import (
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/api"
)

func TestWarningsNameWhatNothingActsOn(t *testing.T) {
	const nothing = ": this field is stored, but nothing acts on it in this version of mini-k8s"
	const only = ": this version of mini-k8s acts on no other value than "
	for _, row := range []struct {
		name, old, spec string
		want            []string
	}{
		{"all is acted on", ``, `{containers: [{name: c, image: i, resources: {limits: {cpu: 1, memory: 1Gi}}}], nodeSelector: {a: b}}`, nil},
		{"empty is not set", ``, `{volumes: [], overhead: {}, securityContext: {}, affinity: {}, hostPID: false, priorityClassName: ""}`, nil},
		{"false is a value where true is the rule", ``, `{hostUsers: false}`, []string{"spec.hostUsers" + only + "true"}},
		{"zero is a value where nothing is the rule", ``, `{runtimeClassName: ""}`, []string{"spec.runtimeClassName" + nothing}},
		{"in order", ``, `{overhead: {cpu: 1}, affinity: {nodeAffinity: {}}, hostIPC: true}`, []string{"spec.affinity" + nothing, "spec.hostIPC" + nothing, "spec.overhead" + nothing}},
		{"once for all containers", ``, `{containers: [{volumeDevices: [{name: v}]}, {}, {volumeDevices: [{name: w}]}]}`, []string{"spec.containers[*].volumeDevices" + nothing}},
		{"deep inside", ``, `{volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: w, configMap: {name: m}}]}`, []string{"spec.volumes[*].emptyDir.sizeLimit" + nothing}},
		{"key of a map", ``, `{containers: [{resources: {limits: {cpu: 1, nvidia.com/gpu: 1}}}]}`, []string{"spec.containers[*].resources.limits[nvidia.com/gpu]" + nothing}},
		{"values that are acted on", ``, `{dnsPolicy: Default, serviceAccountName: default, hostUsers: true}`, nil},
		{"value that is not", ``, `{dnsPolicy: None}`, []string{"spec.dnsPolicy" + only + "ClusterFirst or Default"}},
		{"told before", `{hostIPC: true, dnsPolicy: None}`, `{hostIPC: true, dnsPolicy: None, restartPolicy: Never}`, nil},
		{"other than before", `{overhead: {cpu: 1}}`, `{overhead: {cpu: 2}}`, []string{"spec.overhead" + nothing}},
		{"taken away", `{hostIPC: true}`, `{}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var old api.Object
			if row.old != "" {
				old = parse(t, "Pod", `{spec: `+row.old+`}`)
			}
			if got := api.Lookup("pods").Warnings(parse(t, "Pod", `{spec: `+row.spec+`}`), old); !slices.Equal(got, row.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(row.want, "\n\t"))
			}
		})
	}
}

func TestDefaultsBringNoWarnings(t *testing.T) {
	eachKind(t, func(t *testing.T, kind *api.Kind, object api.Object) {
		before := object.DeepCopyObject().(api.Object)
		kind.Default(object)
		if got := kind.Warnings(object, before); kind.Kind != "Service" && kind.Kind != "HorizontalPodAutoscaler" && len(got) > 0 {
			t.Errorf("what was filled in is warned about: %v", got)
		}
	})
}
