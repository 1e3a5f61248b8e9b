package api

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// checkRights checks a container's security context.
func checkRights(c *check, s *corev1.SecurityContext, at *field.Path) {
	if s == nil {
		return
	}
	checkUser(c, s.RunAsUser, s.RunAsGroup, at)
	if ptr.Deref(s.AllowPrivilegeEscalation, true) {
		return
	}
	if at := at.Child("allowPrivilegeEscalation"); ptr.Deref(s.Privileged, false) {
		c.invalid(at, false, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
	} else if s.Capabilities != nil && slices.Contains(s.Capabilities.Add, "CAP_SYS_ADMIN") {
		c.invalid(at, false, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
	}
}

// checkPodRights checks the security context that is for all containers of a pod.
func checkPodRights(c *check, s *corev1.PodSecurityContext, at *field.Path) {
	if s == nil {
		return
	}
	checkUser(c, s.RunAsUser, s.RunAsGroup, at)
	checkGroup := func(at *field.Path, group int64) { c.invalid(at, group, validation.IsValidGroupID(group)...) }
	for i, group := range s.SupplementalGroups {
		checkGroup(at.Child("supplementalGroups").Index(i), group)
	}
	if s.FSGroup != nil {
		checkGroup(at.Child("fsGroup"), *s.FSGroup)
	}
}

func checkUser(c *check, user, group *int64, at *field.Path) {
	if user != nil {
		c.invalid(at.Child("runAsUser"), *user, validation.IsValidUserID(*user)...)
	}
	if group != nil {
		c.invalid(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group)...)
	}
}
