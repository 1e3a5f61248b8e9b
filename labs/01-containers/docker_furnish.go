package runtime

// What a container gets of the machine, in Docker's words: files and rights.

import (
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"k8s.io/utils/ptr"
)

// furnish sets mounts, user, groups and rights as the spec says.
func furnish(config *container.Config, host *container.HostConfig, spec ContainerSpec) {
	for _, m := range spec.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	config.User, host.GroupAdd = spec.User, spec.Groups
	rights := spec.Rights
	if rights == nil {
		return
	}
	host.Privileged, host.ReadonlyRootfs = ptr.Deref(rights.Privileged, false), ptr.Deref(rights.ReadOnlyRootFilesystem, false)
	if c := rights.Capabilities; c != nil {
		for _, name := range c.Add {
			host.CapAdd = append(host.CapAdd, string(name))
		}
		for _, name := range c.Drop {
			host.CapDrop = append(host.CapDrop, string(name))
		}
	}
	if !ptr.Deref(rights.AllowPrivilegeEscalation, true) {
		host.SecurityOpt = []string{"no-new-privileges"}
	}
}
