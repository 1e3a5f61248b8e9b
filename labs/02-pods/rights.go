package kubelet

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

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
