package deployment

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// updateStatus reports how far the rollout is, as `kubectl rollout status` reads it, and returns after how long it may
// have to say that it does not get on; 0 for never.
func (c *Controller) updateStatus(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) (
	again time.Duration, err error) {
	_, err = c.deployments.ChangeStatus(ctx, d, func(d *appsv1.Deployment) { again = setStatus(d, current, sets, time.Now()) })
	return again, err
}

func setStatus(d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet, now time.Time) (again time.Duration) {
	before := d.Status
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
	return setProgress(d, before, current, now)
}

// setProgress says whether the rollout gets on. The first of these that applies is what it says.
//
//  1. Paused: that is not known.
//  2. It has reached its end. That stays so when pods are lost later, which is no matter of the rollout.
//  3. It has got on since the last look, or has just begun, or gone on after a pause: its time begins anew.
//  4. It has not got on for progressDeadlineSeconds. It is not taken back: that is for people to say.
//  5. Else nothing new, until that time is over.
func setProgress(d *appsv1.Deployment, before appsv1.DeploymentStatus, current *appsv1.ReplicaSet, now time.Time) (again time.Duration) {
	status, wanted := &d.Status, *d.Spec.Replicas
	set := func(is corev1.ConditionStatus, reason, format string) {
		setCondition(status, appsv1.DeploymentProgressing, is, reason, fmt.Sprintf(format, current.Name))
	}
	const ended, moves, late = "NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"
	last := progressing(before)
	same := current != nil && strings.Contains(last.Message, strconv.Quote(current.Name))
	switch deadline := last.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second); {
	case d.Spec.Paused:
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused")
	case current == nil:
	case status.Replicas == status.UpdatedReplicas && (same && last.Reason == ended || status.Replicas == wanted && status.AvailableReplicas == wanted):
		set(corev1.ConditionTrue, ended, "ReplicaSet %q has successfully progressed.")
	case !same || last.Reason == ended || gotOn(before, *status):
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == last.Type })
		set(corev1.ConditionTrue, moves, "ReplicaSet %q is progressing.")
	case last.Reason == late:
	case !now.Before(deadline):
		set(corev1.ConditionFalse, late, "ReplicaSet %q has timed out progressing.")
	default:
		again = deadline.Sub(now)
	}
	return again
}

// gotOn reports whether there is more of the new version or less of the old ones.
func gotOn(before, now appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas || now.ReadyReplicas > before.ReadyReplicas ||
		now.AvailableReplicas > before.AvailableReplicas || now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas
}

func progressing(status appsv1.DeploymentStatus) (condition appsv1.DeploymentCondition) {
	for _, c := range status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			condition = c
		}
	}
	return condition
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
