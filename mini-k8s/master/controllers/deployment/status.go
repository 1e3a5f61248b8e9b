package deployment

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// updateStatus reports how far the rollout is, as `kubectl rollout status` reads it.
func (c *Controller) updateStatus(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) error {
	_, err := c.deployments.ChangeStatus(ctx, d, func(d *appsv1.Deployment) { setStatus(d, current, sets) })
	return err
}

func setStatus(d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) {
	wanted := *d.Spec.Replicas
	status := &d.Status
	status.ObservedGeneration = d.Generation
	status.Replicas = sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas })
	status.ReadyReplicas = sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas })
	status.AvailableReplicas = sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas })
	status.UnavailableReplicas = max(0, wanted-status.AvailableReplicas)
	status.UpdatedReplicas = 0
	if current != nil {
		status.UpdatedReplicas = current.Status.Replicas
	}

	if _, unavailable := limits(d); status.AvailableReplicas >= wanted-unavailable {
		setCondition(status, appsv1.DeploymentAvailable, corev1.ConditionTrue,
			"MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		setCondition(status, appsv1.DeploymentAvailable, corev1.ConditionFalse,
			"MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
	switch {
	case current == nil:
	case status.UpdatedReplicas == wanted && status.Replicas == wanted && status.AvailableReplicas == wanted:
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionTrue,
			"NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %q has successfully progressed.", current.Name))
	default:
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionTrue,
			"ReplicaSetUpdated", fmt.Sprintf("ReplicaSet %q is progressing.", current.Name))
	}
}

// setCondition replaces the condition of the type; its times change only when what it says does.
func setCondition(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, is corev1.ConditionStatus, reason, message string) {
	now := metav1.Now().Rfc3339Copy()
	c := appsv1.DeploymentCondition{Type: kind, Status: is, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
	for i, old := range status.Conditions {
		if old.Type != kind {
			continue
		}
		if old.Status == is {
			c.LastTransitionTime = old.LastTransitionTime
			if old.Reason == reason && old.Message == message {
				c.LastUpdateTime = old.LastUpdateTime
			}
		}
		status.Conditions[i] = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}
