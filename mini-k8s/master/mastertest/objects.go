package mastertest

import (
	"cmp"
	"context"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Pod returns a pod in the namespace default.
func Pod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: podSpec("hello:1")}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// Requests makes a pod ask for CPU and memory ("500m", "1Gi").
func Requests(cpu, memory string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
}

func podSpec(image string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}
}

// Node returns a node with so much room.
func Node(name, cpu, memory, pods string, changes ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
			corev1.ResourcePods: resource.MustParse(pods)},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	for _, change := range changes {
		change(node)
	}
	return node
}

// Join registers a node with its status, as a kubelet does.
func Join(t testing.TB, c *client.Client, node *corev1.Node) *corev1.Node {
	t.Helper()
	created := Create(t, c, node)
	created.Status, created.ResourceVersion = node.Status, "" // the node controller may be giving it a range
	stored, err := client.Of[*corev1.Node](c).UpdateStatus(t.Context(), created)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// ReplicaSet returns one whose pods have the label app=name.
func ReplicaSet(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: appsv1.ReplicaSetSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec("hello:1")},
	}}
}

// Deployment returns one whose pods have the label app=name and run the image.
func Deployment(name string, replicas int32, image string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(image)},
	}}
}

// Create stores an object and returns it as it was stored.
func Create[T api.Object](t testing.TB, c *client.Client, object T) T {
	t.Helper()
	stored, err := client.Of[T](c).Create(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// Find returns an object, and whether there is one.
func Find[T api.Object](t testing.TB, c *client.Client, namespace, name string) (T, bool) {
	t.Helper()
	object, err := client.Of[T](c).Get(t.Context(), namespace, name)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return object, err == nil
}

// Get returns an object that must be there.
func Get[T api.Object](t testing.TB, c *client.Client, namespace, name string) T {
	t.Helper()
	object, err := client.Of[T](c).Get(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// List returns all objects of a kind.
func List[T api.Object](t testing.TB, c *client.Client) []T {
	t.Helper()
	list, err := client.Of[T](c).List(t.Context(), client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// Change updates an object, whoever else writes it meanwhile, and returns it as it was stored.
func Change[T api.Object](t testing.TB, c *client.Client, namespace, name string, change func(T)) T {
	t.Helper()
	return write(t, c, namespace, name, change, client.Of[T](c).Update)
}

// ChangeStatus updates an object's status.
func ChangeStatus[T api.Object](t testing.TB, c *client.Client, namespace, name string, change func(T)) T {
	t.Helper()
	return write(t, c, namespace, name, change, client.Of[T](c).UpdateStatus)
}

func write[T api.Object](t testing.TB, c *client.Client, namespace, name string, change func(T),
	update func(context.Context, T) (T, error)) T {
	t.Helper()
	for {
		object := Get[T](t, c, namespace, name)
		change(object)
		stored, err := update(t.Context(), object)
		if err == nil {
			return stored
		}
		if !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
	}
}

// Delete asks for an object to go, in the way that policy says: "" for the usual one.
func Delete[T api.Object](t testing.TB, c *client.Client, namespace, name string, policy metav1.DeletionPropagation) {
	t.Helper()
	options := metav1.DeleteOptions{}
	if policy != "" {
		options.PropagationPolicy = &policy
	}
	if _, err := client.Of[T](c).Delete(t.Context(), namespace, name, options); err != nil {
		t.Fatal(err)
	}
}

// MakeReady gives a pod's status what a kubelet says of one that runs and serves.
func MakeReady(pod *corev1.Pod) {
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, cmp.Or(pod.Status.StartTime, ptr.To(metav1.Now().Rfc3339Copy()))
	api.SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
}

// Kubelet returns a loop that plays the kubelets of all nodes: a pod is running and ready at once, if serves says so
// (nil: always), and one that is being deleted is gone at once. It needs no node.
func Kubelet(deps control.Deps, serves func(*corev1.Pod) bool) func(context.Context) error {
	deps = deps.As("kubelet")
	pods := control.Of[*corev1.Pod](deps)
	loop := control.NewLoop(deps, 4, func(ctx context.Context, key string) (err error) {
		pod, ok := pods.Get(key)
		switch {
		case !ok:
		case pod.DeletionTimestamp != nil:
			_, err = pods.Resource.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{
				GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		case !api.PodReady(pod) && (serves == nil || serves(pod)):
			_, err = pods.ChangeStatus(ctx, pod, MakeReady)
		}
		return err
	})
	control.Watch(loop, pods, control.Itself)
	return loop.Run
}

// Events returns what was recorded about the objects of a name.
func Events(t testing.TB, c *client.Client, name string) []*corev1.Event {
	t.Helper()
	var found []*corev1.Event
	for _, event := range List[*corev1.Event](t, c) {
		if event.InvolvedObject.Name == name {
			found = append(found, event)
		}
	}
	return found
}
