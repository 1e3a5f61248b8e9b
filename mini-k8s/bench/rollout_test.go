package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	docker "github.com/docker/docker/client"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// abreast is how many are replaced at the same time: 25 % of the replicas.
const abreast = replicas / 4

// rolls measures from the command to update until all that runs is of the new version and nothing of the old one is left:
// a Deployment with maxSurge 25 % that may have no pod too few, and a service of swarm that starts a new task before it
// stops an old one, as many at the same time. Both wait until what they have started serves.
func rolls(b *testing.B, c *client.Client, d *docker.Client) {
	var pods, service []time.Duration
	for b.Loop() {
		runDeployment(b, c, replicas)
		start := time.Now()
		rollDeployment(b, c)
		pods = append(pods, time.Since(start))
		removeDeployment(b, c, d)

		runService(b, d)
		start = time.Now()
		rollService(b, d)
		service = append(service, time.Since(start))
		removeService(b, d)
	}
	slices.Sort(pods)
	slices.Sort(service)
	ours, theirs := pods[len(pods)/2], service[len(service)/2]
	b.Log(pods, service)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.Milliseconds()), "ms/rollout")
	b.ReportMetric(float64(theirs.Milliseconds()), "ms/service-update")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio-to-service-update")
}

func rollDeployment(b *testing.B, c *client.Client) {
	deployments := client.Of[*appsv1.Deployment](c)
	waitUntil(b, "the deployment is written", func() error {
		deployment, err := deployments.Get(b.Context(), "default", "bench")
		if err != nil {
			return err
		}
		surge, none := intstr.FromString("25%"), intstr.FromInt32(0)
		deployment.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &none}}
		deployment.Spec.Template.Spec.Containers[0].Image = images.HelloV2.Name
		_, err = deployments.Update(b.Context(), deployment) // its status may have changed in between
		return err
	})
	waitUntil(b, "all pods are new", func() error {
		deployment, err := deployments.Get(b.Context(), "default", "bench")
		if err != nil {
			return err
		}
		status := deployment.Status
		if status.ObservedGeneration < deployment.Generation || status.Replicas != replicas || status.UpdatedReplicas != replicas || status.AvailableReplicas != replicas {
			return fmt.Errorf("%d pods, %d new, %d available", status.Replicas, status.UpdatedReplicas, status.AvailableReplicas)
		}
		return nil
	})
}

// ended are the states of tasks of which no container is left that runs.
var ended = []swarm.TaskState{swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected,
	swarm.TaskStateRemove, swarm.TaskStateOrphaned}

func rollService(b *testing.B, d *docker.Client) {
	service, _, err := d.ServiceInspectWithRaw(b.Context(), "bench", swarm.ServiceInspectOptions{})
	if err != nil {
		b.Fatal(err)
	}
	spec := service.Spec
	spec.TaskTemplate.ContainerSpec.Image = images.HelloV2.Name
	spec.UpdateConfig = &swarm.UpdateConfig{Parallelism: abreast, Order: swarm.UpdateOrderStartFirst, Monitor: time.Millisecond}
	if _, err := d.ServiceUpdate(b.Context(), service.ID, service.Version, spec, swarm.ServiceUpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	waitUntil(b, "all tasks are new", func() error {
		tasks, err := d.TaskList(b.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", "bench"))})
		updated, old := 0, 0
		for _, task := range tasks {
			switch isNew := task.Spec.ContainerSpec.Image == images.HelloV2.Name; {
			case task.Status.State == swarm.TaskStateRunning && isNew:
				updated++
			case !isNew && !slices.Contains(ended, task.Status.State):
				old++
			}
		}
		if err == nil && (updated != replicas || old > 0) {
			err = fmt.Errorf("%d new tasks and %d old ones run", updated, old)
		}
		return err
	})
}
