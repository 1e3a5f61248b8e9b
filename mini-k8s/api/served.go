package api

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ServedAlways are the fields of every object that are acted on, and those that the server alone writes: what a client
// sends of those is dropped, as it is in Kubernetes.
var ServedAlways = slices.Concat(below("", "apiVersion kind status"),
	below("metadata.", "name generateName namespace labels annotations finalizers uid resourceVersion "+
		"generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds selfLink managedFields"),
	below("metadata.ownerReferences[*].", "apiVersion kind name uid controller blockOwnerDeletion=true"))

// servedPodFields are those that the scheduler, the kubelet and the runtime act on, and those that make a pod what it
// is anyway: with no host name but its own, say, or no token.
func servedPodFields(spec string) []string {
	paths := below(spec, "nodeName nodeSelector schedulerName restartPolicy terminationGracePeriodSeconds hostname subdomain hostNetwork "+
		"serviceAccountName=default serviceAccount=default automountServiceAccountToken=false enableServiceLinks "+
		"dnsPolicy=ClusterFirst|Default hostUsers=true shareProcessNamespace=false setHostnameAsFQDN=false os.name=linux priority=0")
	paths = append(paths, below(spec+"tolerations[*].", "key operator value effect tolerationSeconds")...)
	paths = append(paths, below(spec+"securityContext.", "runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup seccompProfile.type=RuntimeDefault")...)
	paths = append(paths, below(spec+"volumes[*].", "name emptyDir.medium hostPath.path hostPath.type configMap.name secret.secretName")...)
	for _, from := range []string{"configMap.", "secret."} {
		paths = append(paths, below(spec+"volumes[*]."+from, "optional defaultMode items[*].key items[*].path items[*].mode")...)
	}
	paths = append(paths, below(spec+"containers[*].ports[*].", "name containerPort hostPort hostIP protocol")...)
	paths = append(paths, spec+"initContainers[*].restartPolicy=Always")
	for _, list := range []string{"initContainers[*].", "containers[*]."} {
		paths = append(paths, below(spec+list, "name image imagePullPolicy command args workingDir stdin stdinOnce tty "+
			"env[*].name env[*].value env[*].valueFrom.fieldRef.fieldPath env[*].valueFrom.fieldRef.apiVersion=v1 "+
			"env[*].valueFrom.configMapKeyRef env[*].valueFrom.secretKeyRef env[*].valueFrom.resourceFieldRef envFrom "+
			"volumeMounts[*].name volumeMounts[*].mountPath volumeMounts[*].subPath volumeMounts[*].subPathExpr volumeMounts[*].readOnly "+
			"volumeMounts[*].mountPropagation=None securityContext.runAsUser securityContext.runAsGroup securityContext.runAsNonRoot "+
			"securityContext.readOnlyRootFilesystem securityContext.capabilities securityContext.privileged "+
			"securityContext.allowPrivilegeEscalation securityContext.seccompProfile.type=RuntimeDefault "+
			"resources.limits[cpu] resources.limits[memory] resources.requests[cpu] resources.requests[memory] "+
			"terminationMessagePath=/dev/termination-log terminationMessagePolicy=File "+
			"lifecycle.postStart.sleep.seconds lifecycle.preStop.sleep.seconds")...)
		const handler = "exec.command httpGet.path httpGet.port httpGet.host httpGet.scheme httpGet.httpHeaders[*].name httpGet.httpHeaders[*].value "
		for _, hook := range []string{"postStart.", "preStop."} {
			paths = append(paths, below(spec+list+"lifecycle."+hook, handler)...)
		}
		for _, probe := range []string{"startupProbe.", "livenessProbe.", "readinessProbe."} {
			paths = append(paths, below(spec+list+probe, handler+"tcpSocket.port tcpSocket.host initialDelaySeconds timeoutSeconds "+
				"periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds")...)
		}
	}
	return paths
}

// servedTemplate are the fields of a template of pods.
var servedTemplate = append(below("spec.template.metadata.", "labels annotations finalizers"), servedPodFields("spec.template.spec.")...)

// below returns paths: the names, each below the same one.
func below(path, names string) (paths []string) {
	for _, name := range strings.Fields(names) {
		paths = append(paths, path+name)
	}
	return paths
}

// served says by its path what is acted on of a field: all of it ("*"), values ("a|b"), or some fields below it ("").
type served map[string]string

func servedOf(paths []string) served {
	s := served{}
	for _, path := range paths {
		path, values, limited := strings.Cut(path, "=")
		if s[path] = "*"; limited {
			s[path] = values
		}
		for i, end := range path {
			if end == '.' || end == '[' {
				s[path[:i]] = ""
			}
		}
	}
	return s
}

// Warnings names each field of an object that is set and that nothing acts on. What the old object had too, if there
// is one, its author has been told already.
func (k *Kind) Warnings(o, old Object) (texts []string) {
	has, had := map[string][]any{}, map[string][]any{}
	k.served.findOthers(reflect.ValueOf(o), "", has)
	k.served.findOthers(reflect.ValueOf(old), "", had)
	for _, path := range slices.Sorted(maps.Keys(has)) {
		why := "this field is stored, but nothing acts on it in this version of mini-k8s"
		if values := k.served[path]; values != "" {
			why = "this version of mini-k8s acts on no other value than " + strings.ReplaceAll(values, "|", " or ")
		}
		if !reflect.DeepEqual(has[path], had[path]) {
			texts = append(texts, path+": "+why)
		}
	}
	return texts
}

// findOthers collects what is not served, by the paths of the fields.
func (s served) findOthers(value reflect.Value, path string, found map[string][]any) {
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	values, known := s[path]
	switch kind := value.Kind(); {
	case !value.IsValid(), value.IsZero() && kind == reflect.Struct, values == "*":
	case (kind == reflect.Slice || kind == reflect.Map) && value.Len() == 0:
	case path != "" && !known, values != "" && !slices.Contains(strings.Split(values, "|"), fmt.Sprint(value)):
		found[path] = append(found[path], value.Interface())
	case kind == reflect.Slice:
		for i := range value.Len() {
			s.findOthers(value.Index(i), path+"[*]", found)
		}
	case kind == reflect.Map:
		for _, key := range value.MapKeys() {
			s.findOthers(value.MapIndex(key), fmt.Sprintf("%s[%s]", path, key), found)
		}
	case kind == reflect.Struct:
		for i := range value.NumField() {
			name := jsonName(value.Type().Field(i))
			if field := value.Field(i); !field.IsZero() && (name != "" || value.Type().Field(i).Anonymous) {
				s.findOthers(field, strings.Trim(path+"."+name, "."), found)
			}
		}
	}
}
