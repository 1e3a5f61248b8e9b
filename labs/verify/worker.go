package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labs 01 and 02: what the worker does.

var containers = []promise{
	{"a pod is a pause container and its own, in one network", true, podIsASandboxAndContainers},
	{"what a container writes can be read", false, logsCanBeRead},
	{"a pod that is deleted leaves no container", true, deletedPodLeavesNothing},
}

var pods = []promise{
	{"init containers run first, one after the other", false, initContainersRunFirst},
	{"a container that is removed is back, and counted", true, removedContainerIsBack},
	{"a container that crashes waits longer and longer", false, crashingContainerWaits},
	{"a pod with restart policy Never ends as Succeeded or Failed", false, podsEnd},
}

// docker runs the command line client and returns the lines that it prints.
func docker(ctx context.Context, args ...string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.Fields(string(out)), nil
}

// containersOf returns the IDs of a pod's containers, of a kind ("sandbox", "container") or of all.
func containersOf(ctx context.Context, pod *corev1.Pod, kind string) ([]string, error) {
	args := []string{"ps", "-a", "-q", "--no-trunc", "--filter", "label=mini-k8s.pod.uid=" + string(pod.UID)}
	if kind != "" {
		args = append(args, "--filter", "label=mini-k8s.kind="+kind)
	}
	return docker(ctx, args...)
}

func podIsASandboxAndContainers(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "two", func(pod *corev1.Pod) {
		second := corev1.Container{Name: "second", Image: "mini-k8s/hello:v1", Args: []string{"sleep"}}
		pod.Spec.Containers = append(pod.Spec.Containers, second)
	})
	if err != nil {
		return err
	}
	if _, err := p.becomes(ctx, pod.Name, "running", running); err != nil {
		return err
	}
	sandboxes, err := containersOf(ctx, pod, "sandbox")
	if err != nil {
		return err
	}
	own, err := containersOf(ctx, pod, "container")
	if err != nil {
		return err
	}
	if len(sandboxes) != 1 || len(own) != 2 {
		return fmt.Errorf("it has %d sandboxes and %d containers, want 1 and 2", len(sandboxes), len(own))
	}
	modes, err := docker(ctx, append([]string{"inspect", "--format", "{{.HostConfig.NetworkMode}}"}, own...)...)
	if err != nil {
		return err
	}
	for _, mode := range modes {
		if mode != "container:"+sandboxes[0] {
			return fmt.Errorf("a container has the network mode %q, want that of the sandbox: container:%s", mode, sandboxes[0])
		}
	}
	return nil
}

func logsCanBeRead(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "writes", func(pod *corev1.Pod) {
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Spec.Containers[0].Args = []string{"log", "3"}
	})
	if err != nil {
		return err
	}
	want := "line 3"
	if p.hollow {
		want = "hollow"
	}
	return eventually(ctx, func() error {
		body, _, err := p.Do(ctx, client.Request{Method: "GET", Path: "/api/v1/namespaces/" + p.namespace + "/pods/" + pod.Name + "/log"})
		if err == nil && !strings.Contains(string(body), want) {
			err = fmt.Errorf("the log says %q, want %q in it", body, want)
		}
		return err
	})
}

func deletedPodLeavesNothing(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "goes")
	if err != nil {
		return err
	}
	if _, err := p.becomes(ctx, pod.Name, "running", running); err != nil {
		return err
	}
	if _, err := client.Of[*corev1.Pod](p.Client).Delete(ctx, p.namespace, pod.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		if _, err := p.get(ctx, pod.Name); !apierrors.IsNotFound(err) {
			return fmt.Errorf("pod %s is still there (%v)", pod.Name, err)
		}
		left, err := containersOf(ctx, pod, "")
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("the containers %v are still there", left)
		}
		return err
	})
}

func initContainersRunFirst(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "prepared", func(pod *corev1.Pod) {
		for _, name := range []string{"first", "then"} {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "mini-k8s/hello:v1", Args: []string{"log", "1"}})
		}
	})
	if err != nil {
		return err
	}
	if pod, err = p.becomes(ctx, pod.Name, "running", running); err != nil {
		return err
	}
	before := metav1.Time{}
	for _, status := range pod.Status.InitContainerStatuses {
		ended := status.State.Terminated
		if ended == nil || ended.ExitCode != 0 || ended.StartedAt.Before(&before) {
			return fmt.Errorf("the init container %s has the state %+v, though the pod runs", status.Name, status.State)
		}
		before = ended.FinishedAt
	}
	if started := pod.Status.ContainerStatuses[0].State.Running; len(pod.Status.InitContainerStatuses) != 2 || started == nil || started.StartedAt.Before(&before) {
		return fmt.Errorf("the container has the state %+v after the init containers %+v", pod.Status.ContainerStatuses[0].State, pod.Status.InitContainerStatuses)
	}
	return nil
}

func removedContainerIsBack(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "robbed")
	if err != nil {
		return err
	}
	if _, err := p.becomes(ctx, pod.Name, "running", running); err != nil {
		return err
	}
	own, err := containersOf(ctx, pod, "container")
	if err != nil || len(own) != 1 {
		return errors.Join(err, fmt.Errorf("it has the containers %v, want one", own))
	}
	if _, err := docker(ctx, "rm", "-f", own[0]); err != nil {
		return err
	}
	_, err = p.becomes(ctx, pod.Name, "running again with one restart", func(pod *corev1.Pod) bool {
		status := pod.Status.ContainerStatuses[0]
		return status.State.Running != nil && status.RestartCount == 1
	})
	return err
}

func crashingContainerWaits(ctx context.Context, p *probe) error {
	pod, err := p.pod(ctx, "crashes", func(pod *corev1.Pod) { pod.Spec.Containers[0].Args = []string{"exit", "3"} })
	if err != nil {
		return err
	}
	_, err = p.becomes(ctx, pod.Name, "in CrashLoopBackOff", func(pod *corev1.Pod) bool {
		if len(pod.Status.ContainerStatuses) == 0 {
			return false
		}
		status := pod.Status.ContainerStatuses[0]
		last := status.LastTerminationState.Terminated
		return status.State.Waiting != nil && status.State.Waiting.Reason == "CrashLoopBackOff" && status.RestartCount >= 1 && last != nil && last.ExitCode == 3
	})
	return err
}

func podsEnd(ctx context.Context, p *probe) error {
	for code, want := range map[string]corev1.PodPhase{"0": corev1.PodSucceeded, "5": corev1.PodFailed} {
		pod, err := p.pod(ctx, "ends", func(pod *corev1.Pod) {
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			pod.Spec.Containers[0].Args = []string{"exit", code}
		})
		if err != nil {
			return err
		}
		if _, err := p.becomes(ctx, pod.Name, string(want), func(pod *corev1.Pod) bool { return pod.Status.Phase == want }); err != nil {
			return err
		}
	}
	return nil
}
