package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Annotations that `kubectl rollout history` and `undo` read.
const (
	revisionAnnotation    = "deployment.kubernetes.io/revision"
	desiredAnnotation     = "deployment.kubernetes.io/desired-replicas"
	lastAppliedAnnotation = corev1.LastAppliedConfigAnnotation
)

// split returns the ReplicaSet of the Deployment's own template, nil if there is none, and the others.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	for _, rs := range oldestFirst(sets) {
		if current == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			current = rs
		} else {
			old = append(old, rs)
		}
	}
	return current, old
}

// sameTemplate compares templates, but for the hash label that a ReplicaSet's has.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	if _, ok := t.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return t
	}
	t = t.DeepCopy()
	delete(t.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return t
}

// newSet returns the ReplicaSet for the Deployment's template, still without replicas.
func newSet(d *appsv1.Deployment, revision int) *appsv1.ReplicaSet {
	hash := hashOf(d)
	template := d.Spec.Template.DeepCopy()
	template.Labels = withLabel(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: api.JoinName(d.Name, hash), Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, controllerKind)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32), Selector: selector, Template: *template},
	}
	setAnnotations(rs, d, revision)
	return rs
}

// setAnnotations notes in a ReplicaSet which revision of the Deployment it is, with what is noted in the Deployment
// (kubernetes.io/change-cause, for the history), and reports whether that changed it.
func setAnnotations(rs *appsv1.ReplicaSet, d *appsv1.Deployment, revision int) bool {
	before := maps.Clone(rs.Annotations)
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for name, value := range d.Annotations {
		if name != lastAppliedAnnotation {
			rs.Annotations[name] = value
		}
	}
	rs.Annotations[revisionAnnotation] = strconv.Itoa(revision)
	rs.Annotations[desiredAnnotation] = strconv.Itoa(int(*d.Spec.Replicas))
	return !maps.Equal(before, rs.Annotations)
}

func withLabel(labels map[string]string, hash string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return labels
}

// hashOf names a template: the same template has the same name, at any time and by whoever looks.
func hashOf(d *appsv1.Deployment) string {
	text, err := json.Marshal(d.Spec.Template)
	if err != nil {
		panic(fmt.Sprintf("deployment: encode a template: %v", err)) // it came as JSON
	}
	hash := fnv.New32a()
	hash.Write(text)
	if d.Status.CollisionCount != nil {
		fmt.Fprint(hash, *d.Status.CollisionCount)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(hash.Sum32()), 10))
}

func revisionOf(o metav1.Object) int {
	revision, _ := strconv.Atoi(o.GetAnnotations()[revisionAnnotation])
	return revision
}

func nextRevision(sets []*appsv1.ReplicaSet) int {
	next := 1
	for _, rs := range sets {
		next = max(next, revisionOf(rs)+1)
	}
	return next
}

// keepRevision makes the current ReplicaSet the latest revision (after a rollback it was an earlier one) and notes
// the revision in the Deployment. It returns both as they are now.
func (c *Controller) keepRevision(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) (*appsv1.Deployment, *appsv1.ReplicaSet, error) {
	revision := max(revisionOf(current), nextRevision(old))
	noted := current.DeepCopy()
	if setAnnotations(noted, d, revision) {
		written, err := c.setClient.Update(ctx, noted)
		if err != nil {
			return d, current, fmt.Errorf("note revision %d in replica set %s: %w", revision, current.Name, err)
		}
		c.setWrites.Note(control.Key(d), written.ResourceVersion)
		current = written
	}
	if revisionOf(d) != revision {
		noted := d.DeepCopy()
		if noted.Annotations == nil {
			noted.Annotations = map[string]string{}
		}
		noted.Annotations[revisionAnnotation] = strconv.Itoa(revision)
		written, err := c.deploymentClient.Update(ctx, noted)
		if err != nil {
			return d, current, fmt.Errorf("note revision %d: %w", revision, err)
		}
		c.deploymentWrites.Note(control.Key(d), written.ResourceVersion)
		d = written
	}
	return d, current, nil
}

// dropHistory deletes the oldest empty ReplicaSets beyond the revisionHistoryLimit.
func (c *Controller) dropHistory(ctx context.Context, d *appsv1.Deployment, old []*appsv1.ReplicaSet) error {
	empty := slices.DeleteFunc(oldestFirst(old), func(rs *appsv1.ReplicaSet) bool {
		return specReplicas(rs) > 0 || rs.Status.Replicas > 0 || rs.DeletionTimestamp != nil
	})
	for _, rs := range empty[:max(0, len(empty)-int(*d.Spec.RevisionHistoryLimit))] {
		revision, err := c.setClient.Delete(ctx, rs.Namespace, rs.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(rs.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("drop replica set %s from the history: %w", rs.Name, err)
		}
		c.setWrites.Note(control.Key(d), revision)
	}
	return nil
}
