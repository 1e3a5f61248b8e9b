package kubelet

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestWhoAContainerRunsAs(t *testing.T) {
	for _, row := range []struct{ name, pod, container, image, want, err string }{
		{"nothing is said", ``, ``, "", "", ""},
		{"the image's user", ``, ``, "app:app", "app:app", ""},
		{"the pod's user", `{runAsUser: 1000}`, ``, "app", "1000", ""},
		{"the container's before the pod's", `{runAsUser: 1000, runAsGroup: 2000}`, `{runAsUser: 0}`, "", "0:2000", ""},
		{"a group for the image's user", ``, `{runAsGroup: 3000}`, "app:app", "app:3000", ""},
		{"a group for root", ``, `{runAsGroup: 3000}`, "", "0:3000", ""},
		{"not root", `{runAsNonRoot: true}`, ``, "1000:0", "1000:0", ""},
		{"not root, though the image is", `{runAsNonRoot: true, runAsUser: 1000}`, ``, "", "1000", ""},
		{"root by the pod", `{runAsNonRoot: true, runAsUser: 0}`, ``, "", "", "container's runAsUser breaks non-root policy"},
		{"root by the image", `{runAsNonRoot: true}`, ``, "", "", "container has runAsNonRoot and image will run as root"},
		{"root by the image's number", `{runAsNonRoot: true}`, ``, "0:5", "", "container has runAsNonRoot and image will run as root"},
		{"a name may be root's", `{runAsNonRoot: true}`, ``, "app", "", "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root"},
		{"the container may be root", `{runAsNonRoot: true}`, `{runAsNonRoot: false}`, "", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := newPod()
			c := &pod.Spec.Containers[0]
			for text, into := range map[string]any{row.pod: &pod.Spec.SecurityContext, row.container: &c.SecurityContext} {
				if err := yaml.UnmarshalStrict([]byte(text), into); text != "" && err != nil {
					t.Fatal(err)
				}
			}
			want := row.err
			if want != "" {
				want += ` (pod: "web_default(web-uid)", container: app)`
			}
			got, err := userOf(pod, c, rightsOf(pod, c), row.image)
			if got != row.want || strings.TrimSuffix(fmt.Sprint(err), "<nil>") != want {
				t.Errorf("it runs as %q (%v), want %q %s", got, err, row.want, want)
			}
		})
	}
}

func TestGroupsOfAPod(t *testing.T) {
	group := int64(3)
	pod := newPod(func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{1, 2}, FSGroup: &group}
	})
	if got := groupsOf(pod); strings.Join(got, " ") != "1 2 3" {
		t.Errorf("the groups are %q", got)
	}
}
