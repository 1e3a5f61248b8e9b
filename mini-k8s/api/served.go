package api

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// served is what is acted on of a value: some of its fields, some of its values, or all of it if it has neither. Nil
// is nothing of it.
type served struct {
	fields map[string]*served // by the name in JSON, or the key of a map
	values []string
}

// serve adds a path of Kind.Served.
func (s *served) serve(path string) {
	path, values, some := strings.Cut(path, "=")
	for _, name := range strings.Split(strings.ReplaceAll(path, "[*]", ""), ".") {
		if s.fields == nil {
			s.fields = map[string]*served{}
		}
		if s.fields[name] == nil {
			s.fields[name] = &served{}
		}
		s = s.fields[name]
	}
	if some {
		s.values = strings.Split(values, "|")
	}
}

// below returns paths: the names, each below the same one.
func below(path, names string) (paths []string) {
	for _, name := range strings.Fields(names) {
		paths = append(paths, path+name)
	}
	return paths
}

// ServedAlways are the fields of every object that are acted on, and those that the server alone writes: what a client
// sends of those is dropped, as it is in Kubernetes.
var ServedAlways = slices.Concat(below("", "apiVersion kind status"),
	below("metadata.", "name generateName namespace labels annotations finalizers uid resourceVersion "+
		"generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds selfLink managedFields"),
	below("metadata.ownerReferences[*].", "apiVersion kind name uid controller blockOwnerDeletion=true"))

// servedPodFields are those that the scheduler, the kubelet and the runtime act on, and those that make a pod what it
// is anyway: with no host name but its own, say, or no token.
func servedPodFields(spec string) []string {
	paths := below(spec, "nodeName nodeSelector schedulerName restartPolicy terminationGracePeriodSeconds hostname hostNetwork "+
		"serviceAccountName=default serviceAccount=default automountServiceAccountToken=false enableServiceLinks=false "+
		"dnsPolicy=ClusterFirst|Default hostUsers=true shareProcessNamespace=false setHostnameAsFQDN=false os.name=linux priority=0")
	paths = append(paths, below(spec+"tolerations[*].", "key operator value effect")...)
	paths = append(paths, below(spec+"containers[*].ports[*].", "name containerPort hostPort hostIP protocol")...)
	for _, list := range []string{"initContainers[*].", "containers[*]."} {
		paths = append(paths, below(spec+list, "name image imagePullPolicy command args workingDir stdin tty "+
			"env[*].name env[*].value env[*].valueFrom.fieldRef.fieldPath env[*].valueFrom.fieldRef.apiVersion=v1 "+
			"resources.limits.cpu resources.limits.memory resources.requests.cpu resources.requests.memory "+
			"terminationMessagePath=/dev/termination-log terminationMessagePolicy=File")...)
	}
	return paths
}

// servedTemplate are the fields of a template of pods.
var servedTemplate = append(below("spec.template.metadata.", "labels annotations finalizers"), servedPodFields("spec.template.spec.")...)

// Warnings names each field of an object that is set and that nothing acts on. What the old object had too, if there
// is one, its author has been told already.
func (k *Kind) Warnings(o, old Object) (texts []string) {
	has, had := unserved{}, unserved{}
	has.find(reflect.ValueOf(o), k.served, "")
	if old != nil {
		had.find(reflect.ValueOf(old), k.served, "")
	}
	for _, path := range slices.Sorted(maps.Keys(has)) {
		found := has[path]
		if reflect.DeepEqual(found, had[path]) {
			continue
		}
		why := "this field is stored, but nothing acts on it in this version of mini-k8s"
		if found.only != nil {
			why = "this version of mini-k8s acts on no other value than " + strings.Join(found.only, " or ")
		}
		texts = append(texts, path+": "+why)
	}
	return texts
}

// unserved are the fields that nothing acts on by their paths in JSON, in which "containers[*]" is each of a list.
type unserved map[string]finding

type finding struct {
	values []any
	only   []string // what is acted on instead, if the field is not the matter but its value
}

func (u unserved) find(value reflect.Value, s *served, path string) {
	for value.Kind() == reflect.Pointer && !value.IsNil() {
		if value = value.Elem(); value.Kind() == reflect.Struct && value.IsZero() {
			return
		}
	}
	switch kind := value.Kind(); {
	case s == nil, s.values != nil && !slices.Contains(s.values, fmt.Sprint(value)):
		found := finding{values: append(u[path].values, value.Interface())}
		if s != nil {
			found.only = s.values
		}
		u[path] = found
	case s.fields == nil:
	case kind == reflect.Slice:
		for i := range value.Len() {
			u.find(value.Index(i), s, path+"[*]")
		}
	case kind == reflect.Map:
		for _, key := range value.MapKeys() {
			u.find(value.MapIndex(key), s.fields[key.String()], fmt.Sprintf("%s[%s]", path, key))
		}
	case kind == reflect.Struct:
		for i := range value.NumField() {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			if field := value.Field(i); name == "" { // its fields are in JSON those of the whole
				u.find(field, s, path)
			} else if !empty(field) {
				u.find(field, s.fields[name], strings.TrimPrefix(path+"."+name, "."))
			}
		}
	}
}

// empty reports whether a field is not set.
func empty(value reflect.Value) bool {
	kind := value.Kind()
	return value.IsZero() || (kind == reflect.Slice || kind == reflect.Map) && value.Len() == 0
}
