package deployment

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"workshop/mini-k8s/control"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setStatus reports how far the rollout is, as `kubectl rollout status` reads it.
func (c *Controller) setStatus(d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) {
	before, status, wanted := d.Status, &d.Status, *d.Spec.Replicas
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
	setFailure(status, sets)
	c.setProgress(d, before, current, time.Now())
}

// setFailure passes on that pods cannot be made or deleted, as the newest version says that has such a condition; they have no
// other one.
func setFailure(status *appsv1.DeploymentStatus, sets []*appsv1.ReplicaSet) {
	var failures []appsv1.ReplicaSetCondition
	for _, rs := range sets {
		failures = append(failures, rs.Status.Conditions...)
	}
	if len(failures) == 0 {
		status.Conditions = slices.DeleteFunc(status.Conditions,
			func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentReplicaFailure })
		return
	}
	last := failures[len(failures)-1]
	setCondition(status, appsv1.DeploymentReplicaFailure, last.Status, last.Reason, last.Message)
}

// setProgress says whether the rollout gets on. The first of these that applies is what it says.
//
//  1. Paused: that is not known.
//  2. It has reached its end. That stays so when pods are lost later, which is no matter of the rollout.
//  3. It has got on since the last look, or has just begun, or gone on after a pause: its time begins anew.
//  4. It has not got on for progressDeadlineSeconds. It is not taken back: that is for people to say.
//  5. Else nothing new, until that time is over.
func (c *Controller) setProgress(d *appsv1.Deployment, before appsv1.DeploymentStatus, current *appsv1.ReplicaSet, now time.Time) {
	const ended, moves, late = "NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"
	status, wanted := &d.Status, *d.Spec.Replicas
	set := func(is corev1.ConditionStatus, reason, format string) {
		setCondition(status, appsv1.DeploymentProgressing, is, reason, fmt.Sprintf(format, current.Name))
	}
	if d.Spec.Paused {
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused")
		return
	}
	last := conditionOf(status, appsv1.DeploymentProgressing)
	same := strings.Contains(last.Message, strconv.Quote(current.Name))
	left := last.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second).Sub(now)
	alone, whole := status.Replicas == status.UpdatedReplicas, status.Replicas == wanted && status.AvailableReplicas == wanted
	switch {
	case alone && (whole || same && last.Reason == ended):
		set(corev1.ConditionTrue, ended, "ReplicaSet %q has successfully progressed.")
	case !same || last.Reason == ended || gotOn(before, *status):
		last.Reason = "" // so that it is written again, with its time
		set(corev1.ConditionTrue, moves, "ReplicaSet %q is progressing.")
	case last.Reason == late:
	case left <= 0:
		set(corev1.ConditionFalse, late, "ReplicaSet %q has timed out progressing.")
	default:
		c.AddAfter(control.Key(d), left)
	}
}

// gotOn reports whether there is more of the new version or less of the old ones.
func gotOn(before, now appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas || now.ReadyReplicas > before.ReadyReplicas ||
		now.AvailableReplicas > before.AvailableReplicas || now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas
}

// setCondition says something new of a type; its times change only when what it says does.
func setCondition(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, is corev1.ConditionStatus, reason, message string) {
	c, now := conditionOf(status, kind), metav1.Now().Rfc3339Copy()
	if c.Status == is && c.Reason == reason && c.Message == message {
		return
	}
	if c.Status != is {
		c.LastTransitionTime = now
	}
	c.Status, c.Reason, c.Message, c.LastUpdateTime = is, reason, message, now
}

// conditionOf returns the condition of a type, an empty one if it is new.
func conditionOf(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	i := slices.IndexFunc(status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
	if i < 0 {
		i = len(status.Conditions)
		status.Conditions = append(status.Conditions, appsv1.DeploymentCondition{Type: kind})
	}
	return &status.Conditions[i]
}
