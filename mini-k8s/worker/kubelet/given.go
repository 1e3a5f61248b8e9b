package kubelet

// What a container is given when it starts, and what of it changes while it runs.

import (
	"context"
	"fmt"
	"strings"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
)

// Why a container is not started yet, as its status says it. Both may be cured from outside at any time, so both are tried
// again soon, however often they have failed.
const (
	badConfig  = "CreateContainerConfigError"
	notMounted = "ContainerCreating"
)

// retryAfter returns how long to wait after so many failures for the same reason.
func retryAfter(reason string, count int) time.Duration {
	if reason == badConfig || reason == notMounted {
		return firstDelay
	}
	return restartDelay(count)
}

// tellFailure records why a container was not started.
func (k *Kubelet) tellFailure(pod *corev1.Pod, reason string, err error) {
	switch reason {
	case notMounted:
		k.events.Warning(pod, "FailedMount", "%v", err)
	case badConfig:
		k.events.Warning(pod, "Failed", "Error: %v", err)
	default:
		k.events.Warning(pod, "Failed", "Error: %s: %v", reason, err)
	}
}

// prepare makes a pod's volumes and says what a container is to be started with. The reason is for its status, if that fails.
func (k *Kubelet) prepare(ctx context.Context, pod *corev1.Pod, s step, podIP string, m *memory) (spec runtime.ContainerSpec, reason string, err error) {
	c, around := s.container, surroundings{podIP: podIP, hostIP: k.Address, read: k.reader(ctx, pod, m)}
	if err := k.Dir.Make(pod, around.read); err != nil {
		return spec, notMounted, err
	}
	m.refreshed = time.Now()
	if k.Services != nil {
		if err := k.Services.CatchUp(ctx); err != nil {
			return spec, badConfig, err
		}
		around.services = servicesFor(pod, k.Services.List())
	}
	around.room = func() (corev1.ResourceList, error) {
		machine, err := k.Runtime.Machine(ctx)
		return roomOf(machine), err
	}
	spec, variables, err := specOf(pod, c, s.attempt, around)
	if err != nil {
		return spec, badConfig, err
	}
	rights := rightsOf(pod, c)
	spec.Rights, spec.Groups = &rights, groupsOf(pod)
	imageUser := ""
	if rights.RunAsUser == nil && (rights.RunAsGroup != nil || ptr.Deref(rights.RunAsNonRoot, false)) {
		imageUser, err = k.Runtime.ImageUser(ctx, c.Image)
	}
	if err == nil {
		spec.User, err = userOf(pod, c, rights, imageUser)
	}
	if err != nil {
		return spec, badConfig, err
	}
	for _, mount := range c.VolumeMounts {
		mount.SubPath += expand(mount.SubPathExpr, variables) // one of the two is empty
		source, readOnly, err := k.Dir.Source(pod, mount)
		if err != nil {
			return spec, badConfig, fmt.Errorf("prepare %s: %w", mount.MountPath, err)
		}
		spec.Mounts = append(spec.Mounts, runtime.Mount{Source: source, Target: mount.MountPath, ReadOnly: readOnly})
	}
	return spec, "", nil
}

// refresh brings the files that a pod sees of ConfigMaps and Secrets up to date, once in a while. The pod is no worse off if
// that fails: it has the ones of before.
func (k *Kubelet) refresh(ctx context.Context, pod *corev1.Pod, m *memory) {
	if pod.DeletionTimestamp != nil || time.Since(m.refreshed) < resync/2 {
		return
	}
	m.refreshed = time.Now()
	if err := k.Dir.Refresh(pod, k.reader(ctx, pod, m)); err != nil && ctx.Err() == nil {
		k.events.Warning(pod, "FailedMount", "%v", err)
	}
}

// reader reads ConfigMaps and Secrets for one pod. While the API server does not answer, what it had told before is taken, so
// that a container can start again.
func (k *Kubelet) reader(ctx context.Context, pod *corev1.Pod, m *memory) volumes.Reader {
	return func(kind, name string, optional bool) (volumes.Content, error) {
		content, err := k.contentOf(ctx, kind, pod.Namespace, name)
		key := kind + "/" + name
		before, known := m.read[key]
		switch {
		case err == nil:
			m.read[key] = content
		case apierrors.IsNotFound(err) && optional:
			return volumes.Content{}, nil
		case apierrors.IsNotFound(err):
			return content, fmt.Errorf("%s %q not found", strings.ToLower(kind), name)
		case known:
			return before, nil
		}
		return content, err
	}
}

func (k *Kubelet) contentOf(ctx context.Context, kind, namespace, name string) (content volumes.Content, err error) {
	if kind == volumes.ConfigMap {
		var found *corev1.ConfigMap
		if found, err = client.Of[*corev1.ConfigMap](k.Client).Get(ctx, namespace, name); err == nil {
			content = volumes.Content{Text: found.Data, Binary: found.BinaryData}
		}
		return content, err
	}
	found, err := client.Of[*corev1.Secret](k.Client).Get(ctx, namespace, name)
	if err == nil {
		content.Text = map[string]string{}
		for key, value := range found.Data {
			content.Text[key] = string(value)
		}
	}
	return content, err
}
