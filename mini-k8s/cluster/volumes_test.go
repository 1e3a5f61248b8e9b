package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	corev1 "k8s.io/api/core/v1"
)

// What the containers of a real cluster are given: environment, files and rights.

// given is a pod that says what it is given, and ends.
const given = `
apiVersion: v1
kind: Pod
metadata: {name: given}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000}
  initContainers:
    - {name: init, image: "mini-k8s/hello:v1", args: [write, /scratch/init, "from $(COLOR)"], env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}],
       volumeMounts: [{name: scratch, mountPath: /scratch}]}
    - {name: memory, image: "mini-k8s/hello:v1", args: [write, /memory/init, remembered], volumeMounts: [{name: memory, mountPath: /memory}]}
  containers:
    - name: files
      image: mini-k8s/hello:v1
      args: [read, /config/color, /config/..data/size, /one, /secret/deep/password, /machine/file, /scratch/init, /memory/init]
      volumeMounts:
        - {name: config, mountPath: /config}
        - {name: config, mountPath: /one, subPath: color}
        - {name: secret, mountPath: /secret}
        - {name: machine, mountPath: /machine, readOnly: true}
        - {name: scratch, mountPath: /scratch}
        - {name: memory, mountPath: /memory}
    - name: environment
      image: mini-k8s/hello:v1
      args: [env]
      envFrom: [{prefix: SETTINGS_, configMapRef: {name: settings}}, {secretRef: {name: none, optional: true}}]
      env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: key, key: password}}}, {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]
      resources: {limits: {memory: 64Mi}}
    - {name: user, image: "mini-k8s/hello:v1", args: [id]}
    - {name: refused, image: "mini-k8s/hello:v1", args: [write, /machine/file, x], securityContext: {runAsUser: 0}, volumeMounts: [{name: machine, mountPath: /machine, readOnly: true}]}
  volumes:
    - {name: config, configMap: {name: settings}}
    - {name: secret, secret: {secretName: key, defaultMode: 0400, items: [{key: password, path: deep/password}]}}
    - {name: machine, hostPath: {path: MACHINE, type: Directory}}
    - {name: scratch, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory}}
`

// reader is a deployment that mounts a ConfigMap and has files of its own.
const reader = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
        - name: hello
          image: mini-k8s/hello:v1
          env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          volumeMounts: [{name: config, mountPath: /config}, {name: config, mountPath: /one, subPath: color},
            {name: scratch, mountPath: /scratch}, {name: memory, mountPath: /memory, subPathExpr: of/$(POD_NAME)}]
      volumes: [{name: config, configMap: {name: settings}}, {name: scratch, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
`

func TestDockerContainersAreGivenWhatTheirPodSays(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "1", "--demo=false")
	u.kubectl("create", "configmap", "settings", "--from-literal=color=blue\n", "--from-literal=size=XL\n")
	u.kubectl("create", "secret", "generic", "key", "--from-literal=password=hunter2\n")
	u.kubectl("create", "service", "clusterip", "web", "--tcp=80")
	machine := t.TempDir()
	if err := os.WriteFile(filepath.Join(machine, "file"), []byte("of the machine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u.apply(strings.ReplaceAll(given, "MACHINE", machine))
	u.ends("given")
	if got, want := u.kubectl("logs", "given", "-c", "files"), "blue\nXL\nblue\nhunter2\nof the machine\nfrom blue\n\nremembered\n"; got != want {
		t.Errorf("it reads %q, want %q", got, want)
	}
	environment := u.kubectl("logs", "given", "-c", "environment")
	for _, line := range []string{"SETTINGS_color=blue", "SETTINGS_size=XL", "PASSWORD=hunter2", "LIMIT=64", "WEB_SERVICE_PORT=80", "WEB_PORT_80_TCP_PROTO=tcp"} {
		if !strings.Contains("\n"+environment, "\n"+line+"\n") {
			t.Errorf("the environment has no %s:\n%s", line, environment)
		}
	}
	if got := u.kubectl("logs", "given", "-c", "user"); got != "user 1000 group 2000 groups [2000 3000]\n" {
		t.Errorf("it runs as %q", got)
	}
	if got := u.kubectl("logs", "given", "-c", "refused"); !strings.Contains(got, "read-only file system") {
		t.Errorf("writing to what is mounted read-only says %q", got)
	}
	if log := u.log(); strings.Contains(log, "hunter2") {
		t.Errorf("the log tells a secret:\n%s", log)
	}

	u.apply(`{apiVersion: v1, kind: Pod, metadata: {name: root}, spec: {containers: [{name: app, image: "mini-k8s/hello:v1", securityContext: {runAsNonRoot: true}}]}}`)
	eventually(t, "a pod that must not be root is refused", func() bool {
		statuses := get(t, u.client(), "root").Status.ContainerStatuses
		return len(statuses) > 0 && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Reason == "CreateContainerConfigError" &&
			strings.HasPrefix(statuses[0].State.Waiting.Message, "container has runAsNonRoot and image will run as root (pod: ")
	}, u.log)
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func TestDockerFilesLiveAsLongAsTheirPod(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "1", "--demo=false")
	u.kubectl("create", "configmap", "settings", "--from-literal=color=blue")
	u.apply(reader)
	pod := u.serving(1)[0]
	files := filepath.Join(u.home, u.name, "pods", "node-1", string(pod.UID))
	for _, file := range []string{"/scratch/mine", "/memory/mine"} {
		u.in(pod, "", "write", file, "kept")
	}
	if data, err := os.ReadFile(filepath.Join(files, "memory", "of", pod.Name, "mine")); string(data) != "kept\n" {
		t.Errorf("by its subPath it wrote %q (%v)", data, err)
	}
	u.in(pod, "read-only file system", "write", "/config/color", "mine")

	t.Run("the ConfigMap changes, while the worker is away", func(t *testing.T) {
		u.kubectl("patch", "configmap", "settings", "-p", `{"data": {"color": "green", "size": "XL"}}`)
		u.killAll()
		u.up("--nodes", "1", "--demo=false")
		eventually(t, "the container reads what is new", func() bool { return u.in(pod, "", "read", "/config/color") == "green" }, u.log)
		if got := u.in(pod, "", "read", "/config/size", "/one"); got != "XLblue" {
			t.Errorf("what is new, and what is mounted by its subPath, are %q", got)
		}
	})
	for i, kill := range []string{"hello", ""} { // its container, then all of its sandbox
		if err := u.docker.ContainerKill(t.Context(), u.containerOf(pod.UID, kill), "SIGKILL"); err != nil {
			t.Fatal(err)
		}
		u.restarted(pod, int32(i+1))
		if got := u.in(pod, "", "read", "/scratch/mine", "/memory/mine", "/one"); got != "kept\nkept\ngreen" {
			t.Errorf("after %d restarts it reads %q", i+1, got)
		}
	}
	u.kubectl("delete", "deployment", "hello")
	eventually(t, "its files are gone", func() bool {
		_, err := os.Lstat(files)
		return os.IsNotExist(err)
	}, u.log)

	u.apply(reader) // for down, which finds memory that is mounted
	u.serving(1)
	u.run("down", "--name", u.name)
	u.leavesNothing()
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(u.home)) {
		t.Errorf("something is mounted:\n%s", mounts)
	}
}

// ends waits until all containers of a pod have ended.
func (u *user) ends(name string) {
	u.t.Helper()
	var pod *corev1.Pod
	eventually(u.t, "pod "+name+" ends", func() bool {
		pod = get(u.t, u.client(), name)
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	}, func() string { return fmt.Sprintf("%+v\n%s", pod.Status, u.log()) })
}

// in runs hello with these arguments in the pod's container hello and returns what it prints. If it is to fail with some
// words it must say those.
func (u *user) in(pod *corev1.Pod, fails string, args ...string) string {
	u.t.Helper()
	ctx := u.t.Context()
	created, err := u.docker.ContainerExecCreate(ctx, u.containerOf(pod.UID, "hello"), container.ExecOptions{Cmd: append([]string{"/hello"}, args...),
		AttachStdout: true, AttachStderr: true})
	if err != nil {
		u.t.Fatal(err)
	}
	stream, err := u.docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		u.t.Fatal(err)
	}
	defer stream.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil {
		u.t.Fatal(err)
	}
	if failed := strings.HasPrefix(out.String(), "hello: "); failed != (fails != "") || !strings.Contains(out.String(), fails) {
		u.t.Errorf("hello %v in pod %s says %q", args, pod.Name, out.String())
	}
	return out.String()
}
