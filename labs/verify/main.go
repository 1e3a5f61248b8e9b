// Command verify checks that the cluster that runs keeps what the labs promised, whoever's components are in it. It works in a
// namespace of its own, which it removes.
//
//	go run ./labs/verify 05 06
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"workshop/labs/workbench"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// patience is how long a cluster has to do what it promises.
const patience = 60 * time.Second

// promise is one thing that a lab's component does, seen from outside.
type promise struct {
	text   string
	docker bool // it takes real containers
	keeps  func(ctx context.Context, p *probe) error
}

// promises by lab.
var promises = map[string][]promise{"01": containers, "02": pods, "03": state, "04": apiServer, "05": scheduler, "06": replicaSets}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := verify(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func verify(ctx context.Context, names []string) error {
	p, err := connect(ctx)
	if err != nil {
		return err
	}
	defer p.remove()
	paint, broken := workbench.PaintFor(os.Stdout), 0
	for _, name := range names {
		l, err := workbench.Find(name)
		if err != nil {
			return err
		}
		fmt.Println(paint.Bold("Lab " + l.Number + "  " + l.Title))
		for _, promise := range promises[l.Number] {
			if promise.docker && p.hollow {
				fmt.Printf("  - %-64s skipped: the pods of this cluster are simulated\n", promise.text)
				continue
			}
			start := time.Now()
			limited, cancel := context.WithTimeout(ctx, patience)
			err := promise.keeps(limited, p)
			cancel()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				broken++
				fmt.Printf("  %s %s\n      %s\n", paint.Red("✘"), promise.text, strings.ReplaceAll(err.Error(), "\n", "\n      "))
				continue
			}
			fmt.Printf("  %s %-64s %s\n", paint.Green("✔"), promise.text, paint.Dim(fmt.Sprintf("%.1f s", time.Since(start).Seconds())))
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d promises are broken", broken)
	}
	return nil
}

// probe is what promises are checked with.
type probe struct {
	*client.Client
	namespace string
	hollow    bool
	nodes     []string
	made      int
}

// connect finds the cluster that runs here, and makes a namespace in it.
func connect(ctx context.Context) (*probe, error) {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		var err error
		if path, err = cluster.Kubeconfig(""); err != nil {
			return nil, fmt.Errorf("%w\nstart one with your code in it: go run ./labs run --mine passed", err)
		}
	}
	config, err := pki.ReadKubeconfig(path)
	if err != nil {
		return nil, err
	}
	tls, err := pki.ClientTLS(config.CAPEM, config.Pair)
	if err != nil {
		return nil, err
	}
	p := &probe{Client: client.New(client.Config{Server: config.Server, TLS: tls, Name: "verify"}), namespace: "verify-" + rand.String(5)}
	nodes, err := client.Of[*corev1.Node](p.Client).List(ctx, client.Selection{})
	if err != nil {
		return nil, fmt.Errorf("ask the cluster at %s for its nodes: %w", config.Server, err)
	}
	for _, node := range nodes.Items {
		p.nodes = append(p.nodes, node.Name)
		p.hollow = p.hollow || strings.HasPrefix(node.Status.NodeInfo.ContainerRuntimeVersion, cluster.Hollow)
	}
	if len(p.nodes) == 0 {
		return nil, errors.New("the cluster has no nodes")
	}
	_, err = client.Of[*corev1.Namespace](p.Client).Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.namespace}})
	return p, err
}

// remove removes the namespace and waits until all in it is gone, as long as that may take.
func (p *probe) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	namespaces := client.Of[*corev1.Namespace](p.Client)
	if _, err := namespaces.Delete(ctx, "", p.namespace, metav1.DeleteOptions{}); err != nil {
		fmt.Fprintf(os.Stderr, "the namespace %s is left: %v\n", p.namespace, err)
		return
	}
	err := eventually(ctx, func() error {
		if _, err := namespaces.Get(ctx, "", p.namespace); err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "the namespace %s is left: %v\n", p.namespace, err)
	}
}

// eventually calls holds until it returns no error, and returns its last one when the time is up.
func eventually(ctx context.Context, holds func() error) error {
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after waiting in vain: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// name returns one that nothing in the namespace has.
func (p *probe) name(base string) string {
	p.made++
	return fmt.Sprintf("%s-%d", base, p.made)
}

// pod creates a pod of our image.
func (p *probe) pod(ctx context.Context, base string, changes ...func(*corev1.Pod)) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name(base)},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: new(int64), Containers: []corev1.Container{{Name: "app", Image: "mini-k8s/hello:v1"}}},
	}
	*pod.Spec.TerminationGracePeriodSeconds = 2
	for _, change := range changes {
		change(pod)
	}
	return client.Of[*corev1.Pod](p.Client).Create(ctx, pod)
}

// get returns a pod as it is now.
func (p *probe) get(ctx context.Context, name string) (*corev1.Pod, error) {
	return client.Of[*corev1.Pod](p.Client).Get(ctx, p.namespace, name)
}

// becomes waits until a pod is as wanted and returns it.
func (p *probe) becomes(ctx context.Context, name, what string, wanted func(*corev1.Pod) bool) (pod *corev1.Pod, err error) {
	err = eventually(ctx, func() error {
		var err error
		if pod, err = p.get(ctx, name); err != nil {
			return err
		}
		if !wanted(pod) {
			return fmt.Errorf("pod %s is not %s: phase %s, node %q, containers %+v", name, what, pod.Status.Phase, pod.Spec.NodeName, pod.Status.ContainerStatuses)
		}
		return nil
	})
	return pod, err
}

func running(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }
