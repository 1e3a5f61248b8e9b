package kubelets

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet has so long to say what its pods use, and so much room for it. One that does not is left out.
const (
	usagePatience = 5 * time.Second
	maxUsage      = 1 << 20
)

// Measure asks the kubelets what nodes or pods use, and returns it as objects of the kind. What nobody can tell of is left out.
func (c *Caller) Measure(ctx context.Context, kind *api.Kind, objects []api.Object) []api.Metrics {
	nodes := map[string][]api.Object{} // what is asked of each
	for _, o := range objects {
		node := o.GetName()
		if pod, ok := o.(*corev1.Pod); ok {
			node = pod.Spec.NodeName
		}
		if node != "" {
			nodes[node] = append(nodes[node], o)
		}
	}
	found := []api.Metrics{}
	var mu sync.Mutex // guards found
	var asking sync.WaitGroup
	for node, objects := range nodes {
		asking.Go(func() {
			usage, err := c.usageOf(ctx, node)
			if err != nil {
				slog.Debug("a node does not tell what its pods use", "node", node, "reason", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, o := range objects {
				if m, ok := metricsOf(kind, o, usage); ok {
					found = append(found, m)
				}
			}
		})
	}
	asking.Wait()
	return found
}

// usageOf asks the kubelet of a node.
func (c *Caller) usageOf(ctx context.Context, node string) (usage api.NodeUsage, err error) {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	host, err := c.hostOf(ctx, node)
	if err != nil {
		return usage, err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/usage", nil)
	if err != nil {
		return usage, err
	}
	answer, err := c.Client.Do(ask)
	if err != nil {
		return usage, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return usage, fmt.Errorf("its kubelet answers %s", answer.Status)
	}
	return usage, json.NewDecoder(io.LimitReader(answer.Body, maxUsage)).Decode(&usage)
}

// metricsOf returns the metrics of a node, which are those of its pods together, or of one of them, if it has any.
func metricsOf(kind *api.Kind, o api.Object, usage api.NodeUsage) (api.Metrics, bool) {
	m := api.Metrics{TypeMeta: metav1.TypeMeta{Kind: kind.Kind, APIVersion: kind.GroupVersion().String()}, Timestamp: usage.Timestamp, Window: usage.Window,
		ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), CreationTimestamp: usage.Timestamp}}
	if kind.Namespaced {
		m.Containers = usage.Pods[string(o.GetUID())]
		return m, len(m.Containers) > 0
	}
	cpu, memory := *resource.NewQuantity(0, resource.DecimalSI), *resource.NewQuantity(0, resource.BinarySI)
	for _, containers := range usage.Pods {
		for _, c := range containers {
			cpu.Add(*c.Usage.Cpu())
			memory.Add(*c.Usage.Memory())
		}
	}
	m.Usage = corev1.ResourceList{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory}
	return m, true
}
