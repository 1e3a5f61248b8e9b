package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"workshop/mini-k8s/images"

	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"
)

func TestFurnishSaysNothingOfWhatTheSpecDoesNot(t *testing.T) {
	for _, spec := range []ContainerSpec{{}, {Rights: &corev1.SecurityContext{AllowPrivilegeEscalation: &[]bool{true}[0]}}} {
		config, host := &container.Config{}, &container.HostConfig{}
		furnish(config, host, spec)
		if config.User != "" || host.Privileged || host.ReadonlyRootfs || len(host.Mounts)+len(host.GroupAdd)+len(host.CapAdd)+len(host.CapDrop)+len(host.SecurityOpt) > 0 {
			t.Errorf("it made %+v, %+v", config, host)
		}
	}
	host := &container.HostConfig{} // not with Docker, for inside a container nobody may have it
	if furnish(&container.Config{}, host, ContainerSpec{Rights: &corev1.SecurityContext{Privileged: &[]bool{true}[0]}}); !host.Privileged {
		t.Error("what is privileged is not")
	}
}

func TestDockerContainersHaveTheFilesAndRightsOfTheirSpec(t *testing.T) {
	yes, no := true, false
	r := newDocker(t, dockerOrSkip(t))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("what it has\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	writable, readOnly := []Mount{{Source: dir, Target: "/dir"}}, []Mount{{Source: dir, Target: "/dir", ReadOnly: true}}
	for _, row := range []struct {
		name string
		spec ContainerSpec
		args []string
		want string // in the log
	}{
		{"a directory", ContainerSpec{Mounts: writable}, []string{"read", "/dir/file"}, "what it has"},
		{"one file", ContainerSpec{Mounts: []Mount{{Source: dir + "/file", Target: "/etc/name"}}}, []string{"read", "/etc/name"}, "what it has"},
		{"written to", ContainerSpec{Mounts: writable, User: "1000"}, []string{"write", "/dir/mine", "x"}, ""},
		{"only to be read", ContainerSpec{Mounts: readOnly}, []string{"write", "/dir/file", "x"}, "read-only file system"},
		{"a root that is only to be read", ContainerSpec{Rights: &corev1.SecurityContext{ReadOnlyRootFilesystem: &yes}}, []string{"write", "/file", "x"}, "read-only file system"},
		{"root", ContainerSpec{}, []string{"id"}, "user 0 group 0 groups"},
		{"a user", ContainerSpec{User: "1000"}, []string{"id"}, "user 1000 group 0 groups"},
		{"user and groups", ContainerSpec{User: "1000:2000", Groups: []string{"3000", "4000"}}, []string{"id"}, "user 1000 group 2000 groups [2000 3000 4000]"},
		{"no capabilities", ContainerSpec{Rights: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}},
			[]string{"read", "/proc/self/status"}, "CapEff:\t0000000000000000"},
		{"one capability", ContainerSpec{Rights: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}},
			[]string{"read", "/proc/self/status"}, "CapEff:\t0000000000001000"},
		{"no further privileges", ContainerSpec{Rights: &corev1.SecurityContext{AllowPrivilegeEscalation: &no}}, []string{"read", "/proc/self/status"}, "NoNewPrivs:\t1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := newPod(t, r)
			row.spec.Name, row.spec.Image, row.spec.Args = "app", images.HelloV1.Name, row.args
			id, err := r.StartContainer(t.Context(), mustStartSandbox(t, r, pod), pod, row.spec)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the container ends", func() bool { return mustContainer(t, r, pod.UID, id).State == Exited })
			if got := logOf(t, r, id, LogOptions{}); !strings.Contains(got, row.want) {
				t.Errorf("its program says %q, want %q", got, row.want)
			}
		})
	}
	if written, err := os.ReadFile(filepath.Join(dir, "mine")); string(written) != "x\n" {
		t.Errorf("a container has written %q (%v)", written, err)
	}
	if user, err := r.EnsureImage(t.Context(), images.HelloV1.Name, corev1.PullNever); user != "" || err != nil {
		t.Errorf("the image runs as %q (%v)", user, err)
	}
}
