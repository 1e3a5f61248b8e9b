package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/worker/runtime"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodsThatComeAndGoLeaveNothing(t *testing.T) {
	for _, row := range []struct {
		runtime     string
		waves, each int
	}{{Hollow, 5, 100}, {Docker, 2, 16}} {
		t.Run(fmt.Sprint(row.waves*row.each, " pods ", row.runtime), func(t *testing.T) {
			containers := func() int { return 0 }
			home := setHome(t)
			options := Options{Nodes: 1, Runtime: row.runtime}
			if row.runtime == Docker {
				d := needDocker(t)
				options.Name = uniqueName()
				labelled := filters.NewArgs(filters.Arg("label", runtime.LabelCluster+"="+options.Name))
				containers = func() int {
					found, err := d.ContainerList(t.Context(), container.ListOptions{All: true, Filters: labelled})
					if err != nil {
						t.Fatal(err)
					}
					return len(found)
				}
			}
			c := mustUp(t, options)
			comeAndGo(t, c, 1) // opens what stays open
			before := ours()
			for range row.waves {
				comeAndGo(t, c, row.each)
			}
			eventually(t, "as many goroutines are there as before", func() bool { return len(ours()) <= len(before) },
				func() string { return fmt.Sprintf("%d before\n%s", len(before), strings.Join(ours(), "\n\n")) })
			left := func() string { // pods that have ended are gone from the API before they are from their node
				files, _ := filepath.Glob(filepath.Join(home, c.Name, "pods", "*", "*"))
				return fmt.Sprintf("%d containers, files %v", containers(), files)
			}
			eventually(t, "no container and no file is left", func() bool { return left() == "0 containers, files []" }, left)
		})
	}
}

// comeAndGo runs so many pods, each to its end, and deletes them.
func comeAndGo(t *testing.T, c *Cluster, count int) {
	t.Helper()
	pods := client.Of[*corev1.Pod](c.Client())
	for i := range count {
		create(t, c.Client(), fmt.Sprint("pod-", i), func(p *corev1.Pod) {
			p.Spec.RestartPolicy, p.Spec.Containers[0].Args = corev1.RestartPolicyNever, []string{"exit", "0"}
			p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		})
	}
	var last []*corev1.Pod
	eventually(t, "all pods have ended", func() bool {
		last = list[*corev1.Pod](t, c.Client())
		return !slices.ContainsFunc(last, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodSucceeded })
	}, func() string { return fmt.Sprint(last[0].Name, last[0].Status) })
	for _, pod := range last {
		if _, err := pods.Delete(t.Context(), pod.Namespace, pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all pods are gone", func() bool { return len(list[*corev1.Pod](t, c.Client())) == 0 }, func() string { return "" })
}
