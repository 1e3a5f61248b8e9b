package kubelet

// One look at a pod: what to do is planned, carried out, and what came of it is reported.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"workshop/mini-k8s/control"
	"workshop/mini-k8s/worker/runtime"
	"workshop/mini-k8s/worker/volumes"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxRounds bounds how often one look plans again after it has done something: remove what is left of a pod, start it
// anew, see that it runs.
const maxRounds = 3

// memory is what the kubelet knows of a pod beside what it can look up. It belongs to the worker that is looking at
// the pod.
type memory struct {
	written   *corev1.Pod                // as it was after the last report
	signalled map[string]signal          // the last signal to each container, by ID
	failed    map[string]failure         // containers that could not be started, by name
	probers   map[asked]*prober          // those that run, or have come to a verdict, of the containers that run
	verdicts  map[asked]verdict          // theirs, when this look began
	refusal   refusal                    // of the node to run the pod
	admitted  bool                       // it was not refused; the kubelet's lock of admission guards it
	read      map[string]volumes.Content // ConfigMaps and Secrets, as they were
	refreshed time.Time                  // when the files of the pod were brought up to date
}

// signal is one that was sent.
type signal struct {
	name action
	at   time.Time // of the first: from then on counts how long the container has
	ill  bool      // it was stopped because of a probe
}

// failure is why a container could not be started from an image, and when to try again.
type failure struct {
	image           string
	reason, message string
	count           int
	retry           time.Time
}

// sync looks at one pod: what the API server or a manifest wants of it, what is remembered of it, and hands both on.
func (k *Kubelet) sync(ctx context.Context, uid types.UID) error {
	pod, left := k.find(uid)
	if pod == nil || left { // nobody wants it any more
		if remembered, ok := k.memory.LoadAndDelete(uid); ok {
			remembered.(*memory).endProbes()
		}
		if err := k.Runtime.RemovePod(ctx, uid); err != nil {
			return err
		}
		if err := k.Dir.Remove(uid); err != nil || !left {
			return err
		}
		return k.confirmDeletion(ctx, pod)
	}
	remembered, _ := k.memory.LoadOrStore(uid, &memory{signalled: map[string]signal{}, failed: map[string]failure{},
		probers: map[asked]*prober{}, read: map[string]volumes.Content{}})
	m := remembered.(*memory)
	m.verdicts = map[asked]verdict{}
	for question, p := range m.probers {
		m.verdicts[question] = verdict(p.verdict.Load())
	}
	if m.written != nil && control.Revision(pod.ResourceVersion) < control.Revision(m.written.ResourceVersion) {
		pod = m.written // the watch has not brought it yet
	}
	if m.refusal == (refusal{}) {
		if m.refusal = k.admit(pod, m); m.refusal.reason != "" {
			k.events.Warning(pod, m.refusal.reason, "%s", m.refusal.message)
		}
	}
	k.refresh(ctx, pod, m)
	return errors.Join(k.syncPod(ctx, pod, m), k.mirror(ctx, uid))
}

// syncPod brings one pod nearer to what it should be, and reports how it is.
//
//  1. Ask the runtime what there is of the pod (k.Runtime.Pod, by its UID); if it does not answer, return its error. Then
//     plan, with the time that it is now.
//  2. If there are steps, carry them out (k.carryOut, with the sandbox that the runtime has told) and begin again with 1:
//     what there is has changed. At most maxRounds times; and if a step fails, look once more, for the report, and do no
//     more steps.
//  3. If the plan asks for a look after some time, put the pod's UID into the queue for then (k.queue.AddAfter).
//  4. A pod that is being deleted and of which the runtime has nothing left, sandbox or container: k.confirmDeletion. Any
//     other: k.report. What is reported is what the last look saw.
//  5. A failure of step 2 is returned after the report, joined with the report's own: the queue brings the pod back.
//
//lab:02 4
func (k *Kubelet) syncPod(ctx context.Context, pod *corev1.Pod, m *memory) error {
	uid := pod.UID
	var failure error
	for round := 0; ; round++ {
		actual, err := k.Runtime.Pod(ctx, uid)
		if err != nil {
			return err
		}
		steps, again := plan(pod, actual, m, time.Now())
		if len(steps) > 0 && failure == nil && round < maxRounds {
			failure = k.carryOut(ctx, pod, actual.Sandbox, m, steps)
			continue
		}
		if again > 0 {
			k.queue.AddAfter(string(uid), again)
		}
		if pod.DeletionTimestamp != nil && actual.Sandbox == nil && len(actual.Containers) == 0 {
			return k.confirmDeletion(ctx, pod)
		}
		return errors.Join(k.report(ctx, pod, actual, m), failure)
	}
}

// carryOut does the steps one after the other and returns the first failure. That a container cannot be started is
// none: start notes it, and the plan tells when to try again.
func (k *Kubelet) carryOut(ctx context.Context, pod *corev1.Pod, sandbox *runtime.Sandbox, m *memory, steps []step) (err error) {
	for _, s := range steps {
		switch s.do {
		case startSandbox:
			var started runtime.Sandbox
			if started, err = k.Runtime.StartSandbox(ctx, pod); err != nil {
				k.events.Warning(pod, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
			}
			sandbox = &started
			clear(m.failed) // in another sandbox it may work
		case startContainer:
			k.start(ctx, pod, *sandbox, m, s)
		case callPreStop, terminate, kill:
			err = k.stop(ctx, pod, addressOf(pod, sandbox, k.Address), m, s)
		case beginProbe:
			k.begin(ctx, pod, addressOf(pod, sandbox, k.Address), m, s)
		case endProbe:
			m.probers[s.asked].end()
			delete(m.probers, s.asked)
		case removeContainer:
			err = k.Runtime.RemoveContainer(ctx, s.id)
		case removePod:
			err = k.Runtime.RemovePod(ctx, pod.UID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stop takes one step towards the end of a container.
func (k *Kubelet) stop(ctx context.Context, pod *corev1.Pod, podIP string, m *memory, s step) (err error) {
	sent := m.signalled[s.id]
	if sent.name == "" {
		k.events.Normal(pod, "Killing", "%s", cmp.Or(s.why, "Stopping container "+s.container.Name))
		sent.at, sent.ill = time.Now(), s.why != ""
	}
	sent.name = s.do
	if s.do == callPreStop {
		k.begin(ctx, pod, podIP, m, s)
	} else {
		err = k.Runtime.Signal(ctx, s.id, string(s.do))
	}
	if err == nil {
		m.signalled[s.id] = sent
	}
	return err
}

// start starts one container and notes in m if that failed.
func (k *Kubelet) start(ctx context.Context, pod *corev1.Pod, sandbox runtime.Sandbox, m *memory, s step) {
	name := s.container.Name
	reason, err := k.tryStart(ctx, pod, sandbox, m, s)
	if err == nil {
		delete(m.failed, name)
		slog.Info("container started", "pod", control.Key(pod), "container", name, "node", k.Node, "attempt", s.attempt)
		k.events.Normal(pod, "Started", "Started container %s", name)
		return
	}
	if ctx.Err() != nil {
		return
	}
	f := failure{image: s.container.Image, reason: reason, message: err.Error(), count: 1}
	if before := m.failed[name]; before.image == f.image {
		f.count += before.count
	}
	slog.Warn("container does not start", "pod", control.Key(pod), "container", name, "reason", err)
	wait := firstDelay
	switch reason { // the first two may be cured from outside at any time, so they are tried again soon, however often they have failed
	case notMounted:
		k.events.Warning(pod, "FailedMount", "%v", err)
	case badConfig:
		k.events.Warning(pod, "Failed", "Error: %v", err)
	default:
		k.events.Warning(pod, "Failed", "Error: %s: %v", reason, err)
		wait = restartDelay(f.count)
	}
	f.retry = time.Now().Add(wait)
	m.failed[name] = f
}

// Why a container is not started yet, as its status says it.
const (
	badConfig  = "CreateContainerConfigError"
	notMounted = "ContainerCreating"
)

// tryStart gets the image, prepares what the container is given and starts the container; reason is for the status if that fails.
func (k *Kubelet) tryStart(ctx context.Context, pod *corev1.Pod, sandbox runtime.Sandbox, m *memory, s step) (reason string, err error) {
	imageUser, err := k.Runtime.EnsureImage(ctx, s.container.Image, s.container.ImagePullPolicy)
	if errors.Is(err, runtime.ErrImageNotPresent) {
		return "ErrImageNeverPull", err
	}
	if err != nil {
		return "ErrImagePull", err
	}
	read := k.reader(ctx, pod, m)
	if err := k.Dir.Make(pod, read); err != nil {
		return notMounted, err
	}
	m.refreshed = time.Now()
	spec, err := k.prepare(ctx, pod, s, addressOf(pod, &sandbox, k.Address), imageUser, read)
	if err != nil {
		return badConfig, err
	}
	id, err := k.Runtime.StartContainer(ctx, sandbox, pod, spec)
	if id == "" {
		return "CreateContainerError", err
	}
	return "RunContainerError", err
}

// report tells the API server how the pod is.
//
//  1. The status is statusOf what there is, with the kubelet's Address and the time that it is now. If it is the one that the
//     pod has (equality.Semantic.DeepEqual), write nothing.
//  2. Write it with k.client.UpdateStatus, on a copy: the pod belongs to the cache. Whatever else was changed in the pod
//     meanwhile is none of our business, the status is ours alone: with an empty resourceVersion there is no conflict.
//  3. Remember what the API server answers in m.written: until the watch brings it, the next look goes on from there.
//  4. That the pod is not found is no failure: it is gone, and the watch will say so. Any other error is returned, wrapped.
//
//lab:02 4
func (k *Kubelet) report(ctx context.Context, pod *corev1.Pod, actual runtime.Pod, m *memory) error {
	status := statusOf(pod, actual, m, k.Address, time.Now())
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return nil
	}
	changed := pod.DeepCopy()
	changed.Status = status
	changed.ResourceVersion = ""
	written, err := k.client.UpdateStatus(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil { // a conflict, too: others are writing it over and over, or another pod has its name
		return fmt.Errorf("report status: %w", err)
	}
	if status.Phase != pod.Status.Phase {
		slog.Info("pod is "+string(status.Phase), "pod", control.Key(pod), "node", k.Node)
	}
	m.written = written
	return nil
}

// confirmDeletion tells the API server that nothing of the pod is left, so that the object can go as well.
func (k *Kubelet) confirmDeletion(ctx context.Context, pod *corev1.Pod) error {
	options := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
	_, err := k.client.Delete(ctx, pod.Namespace, pod.Name, options)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // somebody else was faster
	}
	if err != nil {
		return fmt.Errorf("confirm the deletion: %w", err)
	}
	slog.Info("pod is gone", "pod", control.Key(pod), "node", k.Node)
	return nil
}
