package kubelet

// Static pods: those that a node is told of by files in a directory, and not by the API server. What is in the files, and how
// they are followed; static.go has what becomes of them.

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// manifest is a file as it was read last.
type manifest struct {
	text string
	pod  *corev1.Pod // of the last text that was right; nil if none was
}

// followManifests reads the files again and again. A directory that cannot be read changes nothing.
func (k *Kubelet) followManifests(ctx context.Context) error {
	if k.Manifests == "" {
		<-ctx.Done()
	}
	for ctx.Err() == nil {
		control.Sleep(ctx, time.Second)
		if err := k.readManifests(); err != nil {
			slog.Warn("trying again", "node", k.Node, "reason", err)
		}
	}
	return ctx.Err()
}

// readManifests makes the pods of the directory the static ones. A file that is wrong changes nothing: the pod that it told of
// before runs on, and so do all others. Of two files with one pod the first counts.
func (k *Kubelet) readManifests() error {
	if k.Manifests == "" {
		return nil
	}
	entries, err := os.ReadDir(k.Manifests)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	wanted, files := map[string]*corev1.Pod{}, map[string]manifest{}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(k.Manifests, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone just now
		}
		m := k.manifests[name]
		if err != nil || string(text) != m.text {
			var pod *corev1.Pod
			if err == nil {
				pod, err = podOf(text, k.Node)
			}
			if err != nil {
				slog.Warn("manifest is wrong", "file", name, "node", k.Node, "reason", err)
			} else if m.pod = pod; wanted[control.Key(pod)] != nil {
				slog.Warn("manifest does not count: another has a pod of this name", "file", name, "node", k.Node, "pod", control.Key(pod))
			}
			m.text = string(text)
		}
		if files[name] = m; m.pod != nil {
			key := control.Key(m.pod)
			wanted[key] = cmp.Or(wanted[key], m.pod)
		}
	}
	k.manifests = files
	k.want(wanted)
	return nil
}

// podOf reads a pod from a manifest as the API server would, and names it after the node, too. Its UID tells of the content: a
// changed file is another pod.
func podOf(text []byte, node string) (*corev1.Pod, error) {
	var plain map[string]any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	if plain["apiVersion"] != "v1" || plain["kind"] != "Pod" || strings.Contains(strings.TrimSpace(string(text)), "\n---") {
		return nil, errors.New("a manifest holds one object, of apiVersion v1 and kind Pod")
	}
	if field := referenceIn(plain["spec"]); field != "" {
		return nil, fmt.Errorf("%s: a static pod cannot refer to what is in the API server", field)
	}
	pod, kind := &corev1.Pod{}, api.KindOf[*corev1.Pod]()
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		return nil, err
	}
	pod.Namespace, pod.Name = cmp.Or(pod.Namespace, metav1.NamespaceDefault), pod.Name+"-"+node
	pod.UID = types.UID(fmt.Sprintf("%x", sha256.Sum256(append(text, node...)))[:32])
	pod.Spec.NodeName, pod.Status = node, corev1.PodStatus{}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	kind.Default(pod)
	for _, warning := range kind.Warnings(pod, nil) {
		slog.Warn("manifest", "pod", control.Key(pod), "warning", warning)
	}
	return pod, kind.Validate(pod, nil).ToAggregate()
}

// references are the fields of a pod that lead to other objects.
var references = []string{"configMap", "configMapRef", "configMapKeyRef", "secret", "secretRef", "secretKeyRef", "persistentVolumeClaim"}

// referenceIn returns one of those that are used, "" if there is none.
func referenceIn(value any) (field string) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			field = cmp.Or(field, referenceIn(element))
		}
	case map[string]any:
		for name, below := range value {
			if _, isObject := below.(map[string]any); isObject && slices.Contains(references, name) {
				return name
			}
			field = cmp.Or(field, referenceIn(below))
		}
	}
	return field
}
