package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"workshop/mini-k8s/api"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Annotations that `kubectl rollout history` and `undo` read.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
)

// split returns the ReplicaSet of the Deployment's own template, nil if there is none, and the others, in their order.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		if current == nil && sameTemplate(rs, d) {
			current = rs
		} else {
			old = append(old, rs)
		}
	}
	return current, old
}

// sameTemplate compares templates, but for the hash label that a ReplicaSet's has.
func sameTemplate(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	a, b := rs.Spec.Template.DeepCopy(), d.Spec.Template.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// newSet returns the ReplicaSet for the Deployment's template, still without replicas.
func newSet(d *appsv1.Deployment, revision int) *appsv1.ReplicaSet {
	hash := labels.Set{appsv1.DefaultDeploymentUniqueLabelKey: hashOf(d)}
	template, selector := d.Spec.Template.DeepCopy(), d.Spec.Selector.DeepCopy()
	template.Labels = labels.Merge(template.Labels, hash)
	selector.MatchLabels = labels.Merge(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: api.JoinName(d.Name, hashOf(d)), Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, controllerKind)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32), Selector: selector, Template: *template},
	}
	follow(rs, d, revision)
	return rs
}

// follow gives a ReplicaSet what it has of its Deployment: which revision of it it is, what is noted there
// (kubernetes.io/change-cause, for the history), and when a pod counts as available.
func follow(rs *appsv1.ReplicaSet, d *appsv1.Deployment, revision int) {
	for name, value := range d.Annotations {
		if name != corev1.LastAppliedConfigAnnotation {
			metav1.SetMetaDataAnnotation(&rs.ObjectMeta, name, value)
		}
	}
	metav1.SetMetaDataAnnotation(&rs.ObjectMeta, revisionAnnotation, strconv.Itoa(revision))
	metav1.SetMetaDataAnnotation(&rs.ObjectMeta, desiredAnnotation, fmt.Sprint(*d.Spec.Replicas))
	rs.Spec.MinReadySeconds = d.Spec.MinReadySeconds
}

// hashOf names a template: the same template has the same name, at any time and by whoever looks.
func hashOf(d *appsv1.Deployment) string {
	text, _ := json.Marshal(d.Spec.Template) // it came as JSON
	hash := fnv.New32a()
	hash.Write(text)
	if d.Status.CollisionCount != nil {
		fmt.Fprint(hash, *d.Status.CollisionCount)
	}
	return rand.SafeEncodeString(fmt.Sprint(hash.Sum32()))
}

func revisionOf(o metav1.Object) int {
	revision, _ := strconv.Atoi(o.GetAnnotations()[revisionAnnotation])
	return revision
}

// nextRevision returns the one after those of ReplicaSets, of which the newest is the last.
func nextRevision(sets []*appsv1.ReplicaSet) int {
	if len(sets) == 0 {
		return 1
	}
	return revisionOf(sets[len(sets)-1]) + 1
}

func oldestFirst(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.SortedFunc(slices.Values(sets), func(a, b *appsv1.ReplicaSet) int { return revisionOf(a) - revisionOf(b) })
}

// keepRevision makes the current ReplicaSet the latest revision (after a rollback it was an earlier one) and notes
// the revision in the Deployment. It returns both as they are now.
func (c *Controller) keepRevision(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) (
	*appsv1.Deployment, *appsv1.ReplicaSet, error) {
	revision := max(revisionOf(current), nextRevision(old))
	current, err := c.sets.Change(ctx, current, func(rs *appsv1.ReplicaSet) { follow(rs, d, revision) })
	if err != nil {
		return d, current, err
	}
	d, err = c.deployments.Change(ctx, d, func(d *appsv1.Deployment) {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, revisionAnnotation, strconv.Itoa(revision))
	})
	return d, current, err
}

// dropHistory deletes the oldest empty ReplicaSets beyond the revisionHistoryLimit.
func (c *Controller) dropHistory(ctx context.Context, d *appsv1.Deployment, old []*appsv1.ReplicaSet) error {
	empty := slices.DeleteFunc(slices.Clone(old), func(rs *appsv1.ReplicaSet) bool {
		return specReplicas(rs) > 0 || hasPods(rs) || rs.DeletionTimestamp != nil
	})
	for _, rs := range empty[:max(0, len(empty)-int(*d.Spec.RevisionHistoryLimit))] {
		if err := c.sets.Delete(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}
