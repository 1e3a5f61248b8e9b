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
			if m.text = string(text); err == nil {
				m.pod = pod
			} else {
				slog.Warn("manifest is wrong", "file", name, "node", k.Node, "reason", err)
			}
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
	pod, kind := &corev1.Pod{}, api.KindOf[*corev1.Pod]()
	if err := yaml.Unmarshal(text, &pod.TypeMeta); err != nil {
		return nil, err
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" || strings.Contains(strings.TrimSpace(string(text)), "\n---") {
		return nil, errors.New("a manifest holds one object, of apiVersion v1 and kind Pod")
	}
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
