package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"workshop/mini-k8s/client"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Labs 03 to 06: what the master does.

var state = []promise{
	{"of many who change the same object at once, one wins each time", false, oneWriterWins},
	{"a watch from a revision tells every change after it, in order", false, watchTellsAll},
}

var apiServer = []promise{
	{"what is stored comes back with a UID, a revision and its defaults", false, createdIsComplete},
	{"a stale resourceVersion is a conflict, a bad object names the field", false, badWritesAreRefused},
	{"a watcher with a selector hears when an object stops to match", false, selectorsInWatches},
}

var scheduler = []promise{
	{"pods of one owner are spread over the nodes", false, replicasAreSpread},
	{"a pod that fits nowhere stays Pending and says why", false, unfitPodSaysWhy},
	{"a node selector is kept", false, nodeSelectorIsKept},
}

var replicaSets = []promise{
	{"a pod that is deleted is replaced", false, deletedPodIsReplaced},
	{"scaling goes up and down to the number, no further", false, scalingIsExact},
	{"a pod that matches and belongs to nobody is adopted", false, orphanIsAdopted},
}

func (p *probe) configMaps() client.Resource[*corev1.ConfigMap] {
	return client.Of[*corev1.ConfigMap](p.Client)
}

func (p *probe) configMap(ctx context.Context, base string) (*corev1.ConfigMap, error) {
	return p.configMaps().Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name(base)}, Data: map[string]string{"count": "0"}})
}

func oneWriterWins(ctx context.Context, p *probe) error {
	const writers, rounds = 8, 10
	object, err := p.configMap(ctx, "contested")
	if err != nil {
		return err
	}
	for round := range rounds {
		var mu sync.Mutex // guards won and failure
		var failure error
		var won []*corev1.ConfigMap
		var all sync.WaitGroup
		for writer := range writers {
			all.Go(func() {
				changed := object.DeepCopy()
				changed.Data["count"] = fmt.Sprintf("%d by %d", round, writer)
				written, err := p.configMaps().Update(ctx, changed)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, written)
				} else if !apierrors.IsConflict(err) {
					failure = err
				}
			})
		}
		all.Wait()
		if failure != nil {
			return failure
		}
		if len(won) != 1 {
			return fmt.Errorf("%d of %d writers of revision %s were told that they won", len(won), writers, object.ResourceVersion)
		}
		object = won[0]
	}
	return nil
}

func watchTellsAll(ctx context.Context, p *probe) error {
	object, err := p.configMap(ctx, "watched")
	if err != nil {
		return err
	}
	start := object.ResourceVersion
	var want []string
	for i := range 20 {
		object.Data["count"] = fmt.Sprint(i + 1) // what changes nothing is not written
		if object, err = p.configMaps().Update(ctx, object); err != nil {
			return err
		}
		want = append(want, object.ResourceVersion)
	}
	var got []string
	selection := client.Selection{Namespace: p.namespace, Fields: "metadata.name=" + object.Name}
	for event, err := range p.configMaps().Watch(ctx, selection, start) {
		if err != nil {
			return fmt.Errorf("after %d of %d changes: %w", len(got), len(want), err)
		}
		if event.Type != watch.Bookmark {
			got = append(got, event.Object.ResourceVersion)
		}
		if len(got) == len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the revisions were %v, and the watch told %v", want, got)
	}
	return nil
}

func createdIsComplete(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "complete")
	if err != nil {
		return err
	}
	read, err := p.get(ctx, pod.Name)
	if err != nil {
		return err
	}
	if read.UID == "" || read.UID != pod.UID || read.ResourceVersion == "" || read.CreationTimestamp.IsZero() || read.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		return fmt.Errorf("it has the UID %q, the revision %q, the time %s and the restart policy %q", read.UID, read.ResourceVersion, read.CreationTimestamp, read.Spec.RestartPolicy)
	}
	if _, err := client.Of[*corev1.Pod](p.Client).Create(ctx, pod); !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating it again was answered with %v, want AlreadyExists", err)
	}
	return nil
}

func badWritesAreRefused(ctx context.Context, p *probe) error {
	object, err := p.configMap(ctx, "moving")
	if err != nil {
		return err
	}
	stale := object.DeepCopy()
	object.Data["count"] = "1"
	if _, err := p.configMaps().Update(ctx, object); err != nil {
		return err
	}
	if _, err := p.configMaps().Update(ctx, stale); !apierrors.IsConflict(err) {
		return fmt.Errorf("a stale update was answered with %v, want Conflict", err)
	}
	_, err = p.pod(ctx, "bad", func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "" })
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.containers[0].image") {
		return fmt.Errorf("a pod without an image was answered with %v, want Invalid and spec.containers[0].image", err)
	}
	return nil
}

func selectorsInWatches(ctx context.Context, p *probe) error {
	object, err := p.configMap(ctx, "labelled")
	if err != nil {
		return err
	}
	start := object.ResourceVersion
	for _, value := range []string{"yes", "no"} {
		object.Labels = map[string]string{"wanted": value}
		if object, err = p.configMaps().Update(ctx, object); err != nil {
			return err
		}
	}
	var got []watch.EventType
	for event, err := range p.configMaps().Watch(ctx, client.Selection{Namespace: p.namespace, Labels: "wanted=yes"}, start) {
		if err != nil {
			return fmt.Errorf("after %v: %w", got, err)
		}
		if event.Type != watch.Bookmark {
			got = append(got, event.Type)
		}
		if len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, []watch.EventType{watch.Added, watch.Deleted}) {
		return fmt.Errorf("it heard %v, want ADDED and then DELETED", got)
	}
	return nil
}

func (p *probe) replicaSet(ctx context.Context, replicas int32) (*appsv1.ReplicaSet, error) {
	name := p.name("set")
	labels := map[string]string{"set": name}
	return client.Of[*appsv1.ReplicaSet](p.Client).Create(ctx, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: name},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64), Containers: []corev1.Container{{Name: "app", Image: "mini-k8s/hello:v1"}}}}},
	})
}

// podsOf returns the pods of a ReplicaSet that are to stay.
func (p *probe) podsOf(ctx context.Context, rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	list, err := client.Of[*corev1.Pod](p.Client).List(ctx, client.Selection{Namespace: p.namespace})
	return slices.DeleteFunc(list.Items, func(pod *corev1.Pod) bool {
		return pod.DeletionTimestamp != nil || !metav1.IsControlledBy(pod, rs)
	}), err
}

// hasRunning waits until a ReplicaSet has so many pods, and all run.
func (p *probe) hasRunning(ctx context.Context, rs *appsv1.ReplicaSet, count int) (found []*corev1.Pod, err error) {
	err = eventually(ctx, func() error {
		var err error
		if found, err = p.podsOf(ctx, rs); err != nil {
			return err
		}
		run := 0
		for _, pod := range found {
			if running(pod) {
				run++
			}
		}
		if len(found) != count || run != count {
			return fmt.Errorf("replica set %s has %d pods, of which %d run; want %d", rs.Name, len(found), run, count)
		}
		return nil
	})
	return found, err
}

func replicasAreSpread(ctx context.Context, p *probe) error {
	rs, err := p.replicaSet(ctx, int32(2*len(p.nodes)))
	if err != nil {
		return err
	}
	found, err := p.hasRunning(ctx, rs, 2*len(p.nodes))
	if err != nil {
		return err
	}
	perNode := map[string]int{}
	for _, pod := range found {
		perNode[pod.Spec.NodeName]++
	}
	for _, node := range p.nodes {
		if perNode[node] != 2 {
			return fmt.Errorf("%d pods on %d nodes are spread like this: %v; want 2 on each", len(found), len(p.nodes), perNode)
		}
	}
	return nil
}

func unfitPodSaysWhy(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "huge", func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
	})
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		events, err := client.Of[*corev1.Event](p.Client).List(ctx, client.Selection{Namespace: p.namespace, Fields: "involvedObject.name=" + pod.Name})
		if err != nil {
			return err
		}
		var told []string
		for _, event := range events.Items {
			told = append(told, event.Reason+": "+event.Message)
			if event.Reason == "FailedScheduling" && strings.Contains(event.Message, "Insufficient cpu") {
				return nil
			}
		}
		return fmt.Errorf("its events are %q; want FailedScheduling with Insufficient cpu", told)
	})
}

func nodeSelectorIsKept(ctx context.Context, p *probe) error {
	for _, node := range p.nodes {
		pod, err := p.pod(ctx, "choosy", func(pod *corev1.Pod) { pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} })
		if err != nil {
			return err
		}
		if _, err := p.becomes(ctx, pod.Name, "on "+node, func(pod *corev1.Pod) bool { return pod.Spec.NodeName == node }); err != nil {
			return err
		}
	}
	return nil
}

func deletedPodIsReplaced(ctx context.Context, p *probe) error {
	rs, err := p.replicaSet(ctx, 2)
	if err != nil {
		return err
	}
	before, err := p.hasRunning(ctx, rs, 2)
	if err != nil {
		return err
	}
	if _, err := client.Of[*corev1.Pod](p.Client).Delete(ctx, p.namespace, before[0].Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	after, err := p.hasRunning(ctx, rs, 2)
	if err != nil {
		return err
	}
	names := map[types.UID]bool{before[0].UID: true}
	for _, pod := range after {
		if names[pod.UID] {
			return errors.New("the pod that was deleted is still counted")
		}
	}
	return nil
}

func scalingIsExact(ctx context.Context, p *probe) error {
	rs, err := p.replicaSet(ctx, 1)
	if err != nil {
		return err
	}
	uids := map[types.UID]bool{}
	for _, replicas := range []int{4, 2, 3} {
		patch := map[string]any{"spec": map[string]any{"replicas": replicas}}
		if _, err := client.Of[*appsv1.ReplicaSet](p.Client).Patch(ctx, p.namespace, rs.Name, "", types.MergePatchType, patch); err != nil {
			return err
		}
		found, err := p.hasRunning(ctx, rs, replicas)
		if err != nil {
			return err
		}
		for _, pod := range found {
			uids[pod.UID] = true
		}
	}
	if len(uids) != 5 { // 4, of which 2 go, and 1 more
		return fmt.Errorf("it made %d pods on the way 4, 2, 3; want 5: %v", len(uids), slices.Collect(maps.Keys(uids)))
	}
	return nil
}

func orphanIsAdopted(ctx context.Context, p *probe) error {
	rs, err := p.replicaSet(ctx, 0)
	if err != nil {
		return err
	}
	orphan, err := p.pod(ctx, "orphan", func(pod *corev1.Pod) { pod.Labels = rs.Spec.Template.Labels })
	if err != nil {
		return err
	}
	// It is one too many: adopted, and then removed.
	return eventually(ctx, func() error {
		pod, err := p.get(ctx, orphan.Name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil && pod.DeletionTimestamp == nil {
			err = fmt.Errorf("pod %s has the owners %v and stays", pod.Name, pod.OwnerReferences)
		}
		return err
	})
}
