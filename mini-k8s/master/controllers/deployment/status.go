package deployment

import (
	"context"
	"fmt"

	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// updateStatus reports how far the rollout is, as `kubectl rollout status` reads it.
func (c *Controller) updateStatus(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) error {
	changed := d.DeepCopy()
	changed.Status = statusOf(d, current, sets)
	if equality.Semantic.DeepEqual(d.Status, changed.Status) {
		return nil
	}
	written, err := c.deploymentClient.UpdateStatus(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update status: %w", err)
	}
	c.deploymentWrites.Note(control.Key(d), written.ResourceVersion)
	return nil
}

func statusOf(d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) appsv1.DeploymentStatus {
	status := appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, CollisionCount: d.Status.CollisionCount, Conditions: d.DeepCopy().Status.Conditions,
		Replicas:          sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas }),
		ReadyReplicas:     sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas }),
		AvailableReplicas: sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas }),
	}
	if current != nil {
		status.UpdatedReplicas = current.Status.Replicas
	}
	status.UnavailableReplicas = max(0, *d.Spec.Replicas-status.AvailableReplicas)

	available := appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue,
		Reason: "MinimumReplicasAvailable", Message: "Deployment has minimum availability."}
	if _, unavailable := limits(d); status.AvailableReplicas < *d.Spec.Replicas-unavailable {
		available.Status, available.Reason = corev1.ConditionFalse, "MinimumReplicasUnavailable"
		available.Message = "Deployment does not have minimum availability."
	}
	setCondition(&status, available)

	if current == nil {
		return status
	}
	progressing := appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue,
		Reason: "ReplicaSetUpdated", Message: fmt.Sprintf("ReplicaSet %q is progressing.", current.Name)}
	if done := *d.Spec.Replicas; status.UpdatedReplicas == done && status.Replicas == done && status.AvailableReplicas == done {
		progressing.Reason = "NewReplicaSetAvailable"
		progressing.Message = fmt.Sprintf("ReplicaSet %q has successfully progressed.", current.Name)
	}
	setCondition(&status, progressing)
	return status
}

// setCondition replaces the condition of the type; its times change only when what it says does.
func setCondition(status *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	now := metav1.Now().Rfc3339Copy()
	c.LastUpdateTime, c.LastTransitionTime = now, now
	for i, old := range status.Conditions {
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
			if old.Reason == c.Reason && old.Message == c.Message {
				c.LastUpdateTime = old.LastUpdateTime
			}
		}
		status.Conditions[i] = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}
