package apiserver

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
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet has so long to say what its pods use, and so much room for it. One that does not is left out.
const (
	usagePatience = 5 * time.Second
	maxUsage      = 1 << 20
)

// metricsRoutes serves what nodes and pods use at this moment, for `kubectl top` and whoever scales: the kubelets are asked.
//
// In Kubernetes: metrics-server, which asks them every 15 s, behind an APIService.
func (s *Server) metricsRoutes() {
	for _, kind := range api.Measured {
		list := func(w http.ResponseWriter, r *request) error {
			found, err := s.measure(r)
			if err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, map[string]any{"kind": kind.Kind + "List", "apiVersion": kind.GroupVersion().String(),
				"metadata": metav1.ListMeta{}, "items": found})
		}
		if kind.Namespaced {
			s.handle("list", kind.Path("", "", ""), kind, "", list)
		}
		s.handle("list", kind.Path("{namespace}", "", ""), kind, "", list)
		s.handle("get", kind.Path("{namespace}", "{name}", ""), kind, "", func(w http.ResponseWriter, r *request) error {
			found, err := s.measure(r)
			if err == nil && len(found) == 0 {
				err = apierrors.NewNotFound(kind.GroupResource(), r.name)
			}
			if err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, found[0])
		})
	}
}

// measure returns the metrics of the nodes or pods that a request is about. What nobody can tell of is left out.
func (s *Server) measure(r *request) ([]api.Metrics, error) {
	of := *r // the same of the objects themselves
	of.kind = api.Lookup(r.kind.Resource)
	var stored []store.Object
	var err error
	if r.verb == "list" {
		stored, _, err = s.selected(&of)
	} else {
		stored = make([]store.Object, 1)
		stored[0], err = s.Store.Get(r.Context(), keyOf(of.kind, of.namespace, of.name))
	}
	if err != nil {
		return nil, err
	}
	nodes := map[string][]api.Object{} // what is asked of each
	for _, one := range stored {
		o, err := decode(of.kind, one)
		if err != nil {
			return nil, err
		}
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
			usage, err := s.usageOf(r, node)
			if err != nil {
				slog.Debug("a node does not tell what its pods use", "node", node, "reason", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, o := range objects {
				if m, ok := metricsOf(r.kind, o, usage); ok {
					found = append(found, m)
				}
			}
		})
	}
	asking.Wait()
	return found, nil
}

// usageOf asks the kubelet of a node.
func (s *Server) usageOf(r *request, node string) (usage api.NodeUsage, err error) {
	host, err := s.kubeletOf(r, &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}})
	if err != nil {
		return usage, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), usagePatience)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/usage", nil)
	if err != nil {
		return usage, err
	}
	answer, err := s.Kubelet.Do(ask)
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
