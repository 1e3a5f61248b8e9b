package api

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The kinds of volumes, and the sentences with which others are refused.
var (
	volumeKinds   = []string{"emptyDir", "hostPath", "configMap", "secret"}
	volumeRefusal = map[string]string{
		"":                      "use one of " + strings.Join(volumeKinds, ", "),
		"persistentVolumeClaim": "no storage outlives its node; a hostPath volume comes nearest",
		"ephemeral":             "no storage outlives its node; an emptyDir lives as long as its pod",
		"projected":             "use a configMap and a secret volume, each in a directory of its own",
		"downwardAPI":           "use environment variables with fieldRef and resourceFieldRef",
	}
)

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
}

func checkVolume(c *check, v *corev1.Volume, at *field.Path) {
	set := 0
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if source.Field(i).IsNil() {
			continue
		}
		kind := jsonName(source.Type().Field(i))
		if set++; set > 1 {
			c.add(field.Forbidden(at.Child(kind), "may not specify more than 1 volume type"))
		} else if !slices.Contains(volumeKinds, kind) {
			instead, known := volumeRefusal[kind]
			if !known {
				instead = volumeRefusal[""]
			}
			c.add(field.Forbidden(at.Child(kind), "is out of scope in mini-k8s: "+instead))
		}
	}
}

func checkMount(c *check, m *corev1.VolumeMount, at *field.Path) {
	if m.SubPath != "" && m.SubPathExpr != "" {
		c.invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
	}
}
