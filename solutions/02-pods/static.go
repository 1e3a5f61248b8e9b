package kubelet

// What becomes of static pods. They are looked at as all others are, only that nobody but this node has their objects. Where
// there is an API server, each has a mirror there that shows it: a pod of the same name with another UID, which runs nothing.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// static holds the static pods. What it refers to is never changed, only replaced.
type static struct {
	mu   sync.Mutex // guards pods
	pods map[types.UID]*corev1.Pod
}

func (s *static) get(uid types.UID) *corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[uid]
}

func (s *static) list() []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.pods))
}

// want makes the pods, which are given by their keys, the static ones. Those that are wanted no more are deleted as pods are,
// with their grace period, and one of the same name begins when they are gone.
func (k *Kubelet) want(pods map[string]*corev1.Pod) {
	k.static.mu.Lock()
	defer k.static.mu.Unlock()
	for uid, pod := range k.static.pods {
		key := control.Key(pod)
		if now := pods[key]; pod.DeletionTimestamp == nil && (now == nil || now.UID != uid) {
			pod = pod.DeepCopy()
			pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(gracePeriod(pod))}
			k.static.pods[uid] = pod
			k.queue.Add(string(uid))
		}
		delete(pods, key)
	}
	for _, pod := range pods {
		for _, mirror := range k.pods.ByIndex("uid", string(pod.UID)) { // it remembers how the pod was
			pod = pod.DeepCopy()
			pod.Status = mirror.Status
		}
		k.static.pods[pod.UID] = pod
		k.queue.Add(string(pod.UID))
	}
}

// uidOf returns the UID under which a pod runs: for a mirror that of the pod that it shows.
func uidOf(pod *corev1.Pod) types.UID {
	if shown := pod.Annotations[corev1.MirrorPodAnnotationKey]; shown != "" {
		return types.UID(shown)
	}
	return pod.UID
}

// find returns the pod that is to run under the UID, or else the mirror that is left of one, nil if there is neither. That a
// pod is a mirror anybody can write into it, so one that has the UID itself comes first.
func (k *Kubelet) find(uid types.UID) (pod *corev1.Pod, mirror bool) {
	if pod := k.static.get(uid); pod != nil {
		return pod, false
	}
	for _, pod = range k.pods.ByIndex("uid", string(uid)) {
		if mirror = pod.UID != uid; !mirror {
			break
		}
	}
	return pod, mirror
}

// all returns the pods that this node has to run.
func (k *Kubelet) all() []*corev1.Pod {
	mirrors := func(pod *corev1.Pod) bool { return uidOf(pod) != pod.UID }
	return append(slices.DeleteFunc(k.pods.List(), mirrors), k.static.list()...)
}

// objects is where the kubelet's pods are: in the API server, or, if they are static, here.
type objects struct {
	client.Resource[*corev1.Pod]
	static *static
	gone   func(uid string) // is told of a static pod that is
}

func (o objects) UpdateStatus(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	if o.static.get(pod.UID) == nil {
		return o.Resource.UpdateStatus(ctx, pod)
	}
	o.static.mu.Lock()
	defer o.static.mu.Unlock()
	held := o.static.pods[pod.UID].DeepCopy() // it may have been deleted meanwhile; only its own worker takes it out
	held.Status = pod.Status
	o.static.pods[pod.UID] = held
	return held, nil
}

func (o objects) Delete(ctx context.Context, namespace, name string, options metav1.DeleteOptions) (string, error) {
	uid := *options.Preconditions.UID
	if o.static.get(uid) == nil {
		return o.Resource.Delete(ctx, namespace, name, options)
	}
	o.static.mu.Lock()
	defer o.static.mu.Unlock()
	delete(o.static.pods, uid)
	o.gone(string(uid))
	return "", nil
}

// mirror has the API server show a static pod as it is now. A mirror that somebody deletes is made anew.
func (k *Kubelet) mirror(ctx context.Context, uid types.UID) error {
	pod := k.static.get(uid)
	if pod == nil || k.alone {
		return nil
	}
	shown, exists := k.pods.Get(control.Key(pod))
	switch {
	case !exists:
		fresh := pod.DeepCopy()
		fresh.UID, fresh.DeletionTimestamp = "", nil
		metav1.SetMetaDataAnnotation(&fresh.ObjectMeta, corev1.MirrorPodAnnotationKey, string(uid))
		if _, err := k.client.Create(ctx, fresh); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("show the static pod: %w", err)
		}
	case uidOf(shown) != uid:
		return fmt.Errorf("show the static pod: there is another one with the name %s", control.Key(pod))
	case shown.DeletionTimestamp != nil:
		return k.confirmDeletion(ctx, shown)
	case !equality.Semantic.DeepEqual(shown.Status, pod.Status):
		changed := shown.DeepCopy()
		changed.ResourceVersion, changed.Status = "", pod.Status
		if _, err := k.client.UpdateStatus(ctx, changed); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("report the status of the static pod: %w", err)
		}
	}
	return nil
}
