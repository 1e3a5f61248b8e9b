package kubelet

// What a container is given when it starts, and what of it changes while it runs.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
)

// prepare says what a container is to be started with. The pod's volumes have been made.
func (k *Kubelet) prepare(ctx context.Context, pod *corev1.Pod, s step, podIP, imageUser string, read volumes.Reader) (spec runtime.ContainerSpec, err error) {
	c, around := s.container, surroundings{podIP: podIP, hostIP: k.Address, room: k.room, read: read}
	if k.Services != nil {
		if err := k.Services.CatchUp(ctx); err != nil {
			return spec, err
		}
		around.services = servicesFor(pod, k.Services.List())
	}
	spec, variables, err := specOf(pod, c, s.attempt, around)
	if err != nil {
		return spec, err
	}
	rights := rightsOf(pod, c)
	spec.Rights, spec.Groups = &rights, groupsOf(pod)
	if spec.User, err = userOf(pod, c, rights, imageUser); err != nil {
		return spec, err
	}
	for _, mount := range c.VolumeMounts {
		mount.SubPath += expand(mount.SubPathExpr, variables) // one of the two is empty
		source, readOnly, err := k.Dir.Source(pod, mount)
		if err != nil {
			return spec, fmt.Errorf("prepare %s: %w", mount.MountPath, err)
		}
		spec.Mounts = append(spec.Mounts, runtime.Mount{Source: source, Target: mount.MountPath, ReadOnly: readOnly})
	}
	return spec, nil
}

// refresh brings the files that a pod sees of ConfigMaps and Secrets up to date, once in a while. The pod is no worse off if
// that fails: it has the ones of before.
func (k *Kubelet) refresh(ctx context.Context, pod *corev1.Pod, m *memory) {
	if pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil || time.Since(m.refreshed) < resync/2 {
		return
	}
	m.refreshed = time.Now()
	if err := k.Dir.Make(pod, k.reader(ctx, pod, m)); err != nil && ctx.Err() == nil {
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
			return nil, nil
		case apierrors.IsNotFound(err):
			return content, fmt.Errorf("%s %q not found", strings.ToLower(kind), name)
		case known:
			return before, nil
		}
		return content, err
	}
}

func (k *Kubelet) contentOf(ctx context.Context, kind, namespace, name string) (volumes.Content, error) {
	if kind == volumes.Secret {
		found, err := client.Of[*corev1.Secret](k.Client).Get(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		return found.Data, nil
	}
	found, err := client.Of[*corev1.ConfigMap](k.Client).Get(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	content := volumes.Content{}
	maps.Copy(content, found.BinaryData)
	for key, text := range found.Data {
		content[key] = []byte(text)
	}
	return content, nil
}

// rightsOf returns a container's security context; where it says nothing the pod's stands, which is for all containers.
func rightsOf(pod *corev1.Pod, c *corev1.Container) corev1.SecurityContext {
	var rights corev1.SecurityContext
	if c.SecurityContext != nil {
		rights = *c.SecurityContext
	}
	if all := pod.Spec.SecurityContext; all != nil {
		rights.RunAsUser = cmp.Or(rights.RunAsUser, all.RunAsUser)
		rights.RunAsGroup = cmp.Or(rights.RunAsGroup, all.RunAsGroup)
		rights.RunAsNonRoot = cmp.Or(rights.RunAsNonRoot, all.RunAsNonRoot)
	}
	return rights
}

// groupsOf returns the groups that all of a pod's programs are in beside their own.
func groupsOf(pod *corev1.Pod) (groups []string) {
	if all := pod.Spec.SecurityContext; all != nil {
		for _, group := range all.SupplementalGroups {
			groups = append(groups, strconv.FormatInt(group, 10))
		}
		if all.FSGroup != nil {
			groups = append(groups, strconv.FormatInt(*all.FSGroup, 10))
		}
	}
	return groups
}

// userOf returns as whom a container runs, user or user:group, when its image would run as imageUser. It is an error if that
// is root, or may be, and must not be.
func userOf(pod *corev1.Pod, c *corev1.Container, rights corev1.SecurityContext, imageUser string) (string, error) {
	if rights.RunAsUser != nil {
		imageUser = strconv.FormatInt(*rights.RunAsUser, 10)
	}
	user, _, _ := strings.Cut(cmp.Or(imageUser, "0"), ":")
	number, err := strconv.Atoi(user)
	why := ""
	switch {
	case !ptr.Deref(rights.RunAsNonRoot, false):
	case err != nil:
		why = fmt.Sprintf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", user)
	case number == 0 && rights.RunAsUser != nil:
		why = "container's runAsUser breaks non-root policy"
	case number == 0:
		why = "container has runAsNonRoot and image will run as root"
	}
	switch {
	case why != "":
		return "", fmt.Errorf("%s (pod: \"%s_%s(%s)\", container: %s)", why, pod.Name, pod.Namespace, pod.UID, c.Name)
	case rights.RunAsGroup != nil:
		return user + ":" + strconv.FormatInt(*rights.RunAsGroup, 10), nil
	}
	return imageUser, nil
}
