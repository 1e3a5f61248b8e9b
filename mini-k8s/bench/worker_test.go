package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster/rig"
	"workshop/mini-k8s/images"
	"workshop/mini-k8s/worker/network"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	types "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	docker "github.com/docker/docker/client"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// replicas is how many are started at once.
const replicas = 20

// BenchmarkWorker is of one worker, on a machine with a Docker of its own. From the creation of a Deployment until its pods
// are ready, against a service of swarm until its tasks run, and against plain containers through Docker's API, a container
// for each pod and at the concurrency that is best for them: the same image, in turns, the medians compared. Then what the
// worker takes with 50 pods and nothing to do.
//
// The service is measured without a network, where nobody reaches its tasks, and with one, as pods have. Sandboxes are not
// made ahead: a container's hostname, which is the pod's name, is what its sandbox was created with, and Docker lets nobody
// change that later.
func BenchmarkWorker(b *testing.B) {
	r := rig.New(b, 1)
	h := r.Hosts[0]
	r.Up()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return h.Dial(ctx, "unix", "/var/run/docker.sock")
	}
	d, err := docker.NewClientWithOpts(docker.WithHost("tcp://"+h.Name), docker.WithDialContext(dial), docker.WithAPIVersionNegotiation())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	h.Run("docker", "swarm", "init", "--advertise-addr", h.Address)
	overlay, err := d.NetworkCreate(b.Context(), "overlay", types.CreateOptions{Driver: "overlay"})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Starts20", func(b *testing.B) {
		times := map[string][]time.Duration{}
		measure := func(what string, run func()) {
			start := time.Now()
			run()
			times[what] = append(times[what], time.Since(start))
		}
		for b.Loop() {
			measure("pods", func() { runDeployment(b, r.Client, replicas) })
			removeDeployment(b, r.Client, d)
			measure("service", func() { runService(b, d) })
			removeService(b, d)
			measure("networked", func() { runService(b, d, overlay.ID) })
			removeService(b, d)
			for _, turns := range []int{2, 4, 8, replicas} {
				measure(fmt.Sprint("plain", turns), func() { runPlain(b, d, turns) })
				removePlain(b, d)
			}
		}
		medians := map[string]time.Duration{}
		for what, all := range times {
			slices.Sort(all)
			medians[what] = all[len(all)/2]
		}
		plain := min(medians["plain2"], medians["plain4"], medians["plain8"], medians[fmt.Sprint("plain", replicas)])
		b.Log(medians)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(medians["pods"].Milliseconds()), "ms/20pods")
		b.ReportMetric(float64(medians["service"].Milliseconds()), "ms/service")
		b.ReportMetric(float64(medians["networked"].Milliseconds()), "ms/networked-service")
		b.ReportMetric(float64(plain.Milliseconds()), "ms/plain")
		b.ReportMetric(float64(medians["pods"])/float64(medians["service"]), "ratio-to-service")
		b.ReportMetric(float64(medians["pods"])/float64(medians["networked"]), "ratio-to-networked-service")
		b.ReportMetric(float64(medians["pods"])/float64(plain), "ratio-to-plain")
	})
	b.Run("Rolls20", func(b *testing.B) { rolls(b, r.Client, d) })
	b.Run("Idles50", func(b *testing.B) {
		const idle = time.Minute // in which each pod is looked at once, whatever is heard of it
		runDeployment(b, r.Client, 50)
		time.Sleep(5 * time.Second) // let it come to rest
		for b.Loop() {
			before := cpuTime(b, r.Workers[0].Pid())
			time.Sleep(idle)
			b.ReportMetric((cpuTime(b, r.Workers[0].Pid())-before).Seconds()/idle.Seconds()*100, "%core-idle")
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(memory(b, r.Workers[0].Pid(), "VmRSS:"))/1e6, "MB-idle")
	})
}

func removeDeployment(b *testing.B, c *client.Client, d *docker.Client) {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if _, err := client.Of[*appsv1.Deployment](c).Delete(b.Context(), "default", "bench", metav1.DeleteOptions{}); err != nil {
		b.Fatal(err)
	}
	pods := client.Of[*corev1.Pod](c)
	waitUntil(b, "the pods are gone", func() error {
		list, err := pods.List(b.Context(), client.Selection{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			pods.Delete(b.Context(), pod.Namespace, pod.Name, now) // which spares the wait for their grace period; it may be gone
		}
		return none(len(list.Items), b, d)
	})
}

// runService starts tasks, which are reached by nobody unless they have a network.
func runService(b *testing.B, d *docker.Client, networks ...string) {
	count := uint64(replicas)
	spec := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "bench"}, Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &count}},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: images.HelloV1.Name}}}
	for _, id := range networks {
		spec.TaskTemplate.Networks = append(spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: id})
	}
	if _, err := d.ServiceCreate(b.Context(), spec, swarm.ServiceCreateOptions{}); err != nil {
		b.Fatal(err)
	}
	waitUntil(b, "the tasks run", func() error {
		tasks, err := d.TaskList(b.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", "bench"))})
		running := 0
		for _, task := range tasks {
			if task.Status.State == swarm.TaskStateRunning {
				running++
			}
		}
		if err == nil && running < replicas {
			err = fmt.Errorf("%d run", running)
		}
		return err
	})
}

func removeService(b *testing.B, d *docker.Client) {
	if err := d.ServiceRemove(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	waitUntil(b, "the tasks are gone", func() error { return none(0, b, d) })
}

// runPlain starts containers, so many at the same time, on the network of the pods.
func runPlain(b *testing.B, d *docker.Client, abreast int) {
	bridge := container.NetworkMode(network.Name("mini", "host-1"))
	turns := make(chan struct{}, abreast)
	var running sync.WaitGroup
	for range replicas {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			created, err := d.ContainerCreate(b.Context(), &container.Config{Image: images.HelloV1.Name}, &container.HostConfig{NetworkMode: bridge}, nil, nil, "")
			if err == nil {
				err = d.ContainerStart(b.Context(), created.ID, container.StartOptions{})
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	running.Wait()
}

func removePlain(b *testing.B, d *docker.Client) {
	all, err := d.ContainerList(b.Context(), container.ListOptions{All: true})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range all {
		if err := d.ContainerRemove(b.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			b.Error(err)
		}
	}
	waitUntil(b, "the containers are gone", func() error { return none(0, b, d) })
}

// none is an error as long as there is something left, in the API or in Docker.
func none(left int, b *testing.B, d *docker.Client) error {
	all, err := d.ContainerList(b.Context(), container.ListOptions{All: true})
	if err == nil && left+len(all) > 0 {
		err = fmt.Errorf("there are %d objects and %d containers", left, len(all))
	}
	return err
}

func waitUntil(b *testing.B, what string, holds func() error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for err := holds(); err != nil; err = holds() {
		if ctx.Err() != nil {
			b.Fatalf("in vain: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
