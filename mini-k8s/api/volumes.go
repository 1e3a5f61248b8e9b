package api

import (
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
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
	if v.HostPath != nil {
		setDefaultPtr(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.ConfigMap != nil {
		setDefaultPtr(&v.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if v.Secret != nil {
		setDefaultPtr(&v.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
}

func checkVolume(c *check, v corev1.Volume, at *field.Path) {
	c.name(at.Child("name"), v.Name, validation.IsDNS1123Label)
	set := 0
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if source.Field(i).IsNil() {
			continue
		}
		kind, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
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
	switch {
	case v.EmptyDir != nil:
		oneOf(c, at.Child("emptyDir", "medium"), v.EmptyDir.Medium, corev1.StorageMediumDefault, corev1.StorageMediumMemory)
	case v.HostPath != nil:
		at := at.Child("hostPath")
		if c.required(at.Child("path"), v.HostPath.Path != ""); v.HostPath.Path != "" && !path.IsAbs(v.HostPath.Path) {
			c.invalid(at.Child("path"), v.HostPath.Path, "must be an absolute path")
		}
		checkNoBacksteps(c, at.Child("path"), v.HostPath.Path)
		oneOf(c, at.Child("type"), ptr.Deref(v.HostPath.Type, corev1.HostPathUnset), corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate,
			corev1.HostPathDirectory, corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
	case v.ConfigMap != nil:
		at := at.Child("configMap")
		c.required(at.Child("name"), v.ConfigMap.Name != "")
		checkFiles(c, v.ConfigMap.Items, v.ConfigMap.DefaultMode, at)
	case v.Secret != nil:
		at := at.Child("secret")
		c.required(at.Child("secretName"), v.Secret.SecretName != "")
		checkFiles(c, v.Secret.Items, v.Secret.DefaultMode, at)
	}
}

// checkFiles checks what is to be shown of a ConfigMap or Secret.
func checkFiles(c *check, items []corev1.KeyToPath, defaultMode *int32, at *field.Path) {
	checkMode(c, at.Child("defaultMode"), defaultMode)
	for i, item := range items {
		at := at.Child("items").Index(i)
		c.required(at.Child("key"), item.Key != "")
		c.required(at.Child("path"), item.Path != "")
		checkInside(c, at.Child("path"), item.Path)
		if strings.HasPrefix(item.Path, "..") {
			c.invalid(at.Child("path"), item.Path, "must not start with '..'")
		}
		checkMode(c, at.Child("mode"), item.Mode)
	}
}

func checkMode(c *check, at *field.Path, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		c.invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")
	}
}

// checkInside refuses a path that does not stay where it begins.
func checkInside(c *check, at *field.Path, path string) {
	if strings.HasPrefix(path, "/") {
		c.invalid(at, path, "must be a relative path")
	}
	checkNoBacksteps(c, at, path)
}

func checkNoBacksteps(c *check, at *field.Path, path string) {
	if slices.Contains(strings.Split(path, "/"), "..") {
		c.invalid(at, path, "must not contain '..'")
	}
}

// checkMounts checks where the containers of a pod have its volumes.
func checkMounts(c *check, mounts []corev1.VolumeMount, volumes map[string]bool, path *field.Path) {
	places := map[string]bool{}
	for i, m := range mounts {
		at := path.Index(i)
		if c.required(at.Child("name"), m.Name != ""); m.Name != "" && !volumes[m.Name] {
			c.add(field.NotFound(at.Child("name"), m.Name))
		}
		c.required(at.Child("mountPath"), m.MountPath != "")
		if places[m.MountPath] {
			c.invalid(at.Child("mountPath"), m.MountPath, "must be unique")
		}
		places[m.MountPath] = true
		if m.SubPath != "" && m.SubPathExpr != "" {
			c.invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
		}
		checkInside(c, at.Child("subPath"), m.SubPath)
		checkInside(c, at.Child("subPathExpr"), m.SubPathExpr)
	}
}
