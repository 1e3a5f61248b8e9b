package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"workshop/labs/labtest"
	"workshop/mini-k8s/images"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The tests of lab 01, in the order of its tasks. From task 2 on they drive the real Docker, and look at what came of it with
// a client of their own.

// rig is the runtime of a node, in a cluster of its own. What it has made is gone at the end of the test.
type rig struct {
	*Docker
	lab   *labtest.T
	plain *client.Client // sees what there is, whatever stands in the way of the runtime
	wire  *interception
}

// onDocker returns a rig for a test of a task.
func onDocker(t *testing.T, task int) (*labtest.T, *rig) {
	lab := labtest.Task(t, "01", task)
	lab.NeedDocker()
	plain, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		lab.Fatal(err)
	}
	plain.NegotiateAPIVersion(lab.Context())
	if err := makeImages(plain); err != nil {
		lab.Fatal(err)
	}
	r := &rig{lab: lab, plain: plain, wire: &interception{next: plain.HTTPClient().Transport}}
	docker, err := client.NewClientWithOpts(client.WithHost(plain.DaemonHost()), client.WithHTTPClient(&http.Client{Transport: r.wire}),
		client.WithVersion(plain.ClientVersion()))
	if err != nil {
		lab.Fatal(err)
	}
	r.Docker = NewDocker(docker, Options{Cluster: fmt.Sprintf("lab-%d", time.Now().UnixNano()), Node: "node-1", Network: "bridge"})
	lab.Cleanup(func() {
		for _, c := range r.left("") {
			if err := plain.ContainerRemove(context.Background(), c.ID, container.RemoveOptions{Force: true}); err != nil {
				lab.Error(err)
			}
		}
		docker.Close()
		plain.Close()
	})
	return lab, r
}

var imagesOnce sync.Once

func makeImages(docker *client.Client) (err error) {
	imagesOnce.Do(func() { err = images.Ensure(context.Background(), docker, images.Pause, images.HelloV1) })
	return err
}

// interception stands between the runtime and Docker, if a test sets by.
type interception struct {
	next http.RoundTripper
	by   atomic.Pointer[func(r *http.Request) (*http.Response, error)] // nil: all passes
}

func (i *interception) RoundTrip(r *http.Request) (*http.Response, error) {
	if by := i.by.Load(); by != nil {
		return (*by)(r)
	}
	return i.next.RoundTrip(r)
}

// meet has requests of the method whose path ends like this dealt with in another way. send carries one to Docker.
func (r *rig) meet(method, pathEnd string, how func(request *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error)) {
	by := func(request *http.Request) (*http.Response, error) {
		if request.Method == method && strings.HasSuffix(request.URL.Path, pathEnd) {
			return how(request, r.wire.next.RoundTrip)
		}
		return r.wire.next.RoundTrip(request)
	}
	r.wire.by.Store(&by)
}

// broken is what Docker answers when it has a problem of its own.
func broken() *http.Response {
	return &http.Response{StatusCode: 500, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"message":"out of luck"}`))}
}

// aPod returns a pod that nobody else has.
func aPod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	uid := types.UID(fmt.Sprintf("uid-%d", time.Now().UnixNano()))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: uid}}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// left returns what Docker has of a pod, or of all if the UID is empty.
func (r *rig) left(uid types.UID) []container.Summary {
	r.lab.Helper()
	found, err := r.plain.ContainerList(context.Background(), container.ListOptions{All: true, Filters: r.filter(uid)})
	if err != nil {
		r.lab.Fatal(err)
	}
	return found
}

// kinds tells how many sandboxes and containers Docker has of a pod.
func (r *rig) kinds(uid types.UID) string {
	r.lab.Helper()
	count := map[string]int{}
	for _, c := range r.left(uid) {
		count[c.Labels[LabelKind]]++
	}
	return fmt.Sprintf("sandboxes: %d, containers: %d", count[kindSandbox], count[kindContainer])
}

// sandbox starts one for a test that is about something else.
func (r *rig) sandbox(pod *corev1.Pod) Sandbox {
	r.lab.Helper()
	sandbox, err := r.StartSandbox(r.lab.Context(), pod)
	r.lab.NoError("started the sandbox of a pod", sayable(err), "see the tests of StartSandbox, in task 2")
	return sandbox
}

// run starts a container of the image hello for a test that is about something else.
func (r *rig) run(sandbox Sandbox, pod *corev1.Pod, name string, attempt int, args ...string) string {
	r.lab.Helper()
	id, err := r.StartContainer(r.lab.Context(), sandbox, pod, ContainerSpec{Name: name, Image: images.HelloV1.Name, Attempt: attempt, Args: args})
	r.lab.NoError("started a container", sayable(err), "see the tests of StartContainer, in task 2")
	return id
}

// ends waits until a container does not run any more and returns its exit code.
func (r *rig) ends(id string) int64 {
	r.lab.Helper()
	ctx, cancel := context.WithTimeout(r.lab.Context(), 10*time.Second)
	defer cancel()
	ended, errs := r.plain.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case end := <-ended:
		return end.StatusCode
	case <-errs:
		return -1
	}
}

// speaks waits until a container has written something: its program is up and hears signals.
func (r *rig) speaks(id string) {
	r.lab.Helper()
	ctx, cancel := context.WithTimeout(r.lab.Context(), 10*time.Second)
	defer cancel()
	stream, err := r.plain.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		r.lab.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Read(make([]byte, 1)); err != nil {
		r.lab.Fatal(err)
	}
}

var unsayable = regexp.MustCompile(`\b[0-9a-f]{12,64}\b|(uid|lab)-\d+`)

// sayable leaves out of an error what is another one each time, or with another version of Docker.
func sayable(err error) error {
	if err == nil {
		return nil
	}
	text := unsayable.ReplaceAllString(err.Error(), "...")
	tried, _, _ := strings.Cut(text, "Error response from daemon: ")
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("the context ended")
	case cerrdefs.IsNotFound(err):
		return errors.New(tried + "Docker says: not found")
	case cerrdefs.IsConflict(err):
		return errors.New(tried + "Docker says: conflict")
	}
	return errors.New(text)
}

// told puts an error in words.
func told(err error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("the error %q", sayable(err))
}

// Task 1

// configured returns what the runtime would ask Docker for.
func configured(lab *labtest.T, spec ContainerSpec) (*container.Config, *container.HostConfig) {
	lab.Helper()
	pod := aPod("web-1", func(p *corev1.Pod) {
		p.UID, p.Spec.Hostname = "the-uid", "web"
		p.Spec.Containers = []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 80}}}}
	})
	config, host := NewDocker(nil, Options{Cluster: "c", Node: "node-1", Network: "pods"}).containerConfig(Sandbox{ID: "pause"}, pod, spec)
	lab.Must(config != nil && host != nil, labtest.Report{Did: "asked for the two configurations of a container", Want: "both", Got: "nil", Cause: "return a *container.Config and a *container.HostConfig"})
	return config, host
}

func TestTask1ContainerJoinsTheNetworkOfItsSandbox(t *testing.T) {
	lab := labtest.Task(t, "01", 1)
	config, host := configured(lab, ContainerSpec{Name: "app", Image: "hello:1"})
	lab.Equal("asked for the network mode of a container whose sandbox has the ID pause", string(host.NetworkMode), "container:pause",
		"the pause container alone is on the pods' network; the others join its network, by its ID")
	lab.Check(config.Hostname == "" && len(config.ExposedPorts) == 0 && len(host.PortBindings) == 0, labtest.Report{
		Did: "asked for hostname and ports of a container, in a pod that has both", Want: "none",
		Got: fmt.Sprintf("hostname %q, %d ports", config.Hostname, len(host.PortBindings)), Cause: "they are set on the sandbox; on a container that joins another's network Docker refuses them"})
	lab.Check(host.RestartPolicy.IsNone(), labtest.Report{Did: "asked for the restart policy that Docker gets", Want: "none",
		Got: string(host.RestartPolicy.Name), Cause: "if Docker restarted containers by itself the kubelet could neither count nor delay it: leave it out"})
}

func TestTask1ContainerIsAsTheSpecSays(t *testing.T) {
	lab := labtest.Task(t, "01", 1)
	spec := ContainerSpec{Name: "app", Image: "hello:1", Command: []string{"/program"}, Args: []string{"a", "b"}, WorkingDir: "/tmp", Env: []string{"PORT=8081"}, TTY: true,
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}}
	config, host := configured(lab, spec)
	lab.Equal("asked for the image", config.Image, "hello:1", "Config.Image is the spec's")
	lab.Check(slices.Equal(config.Entrypoint, spec.Command) && slices.Equal(config.Cmd, spec.Args), labtest.Report{
		Did: "asked what is run, where the command is [/program] and the arguments are [a b]", Want: "entrypoint [/program], cmd [a b]",
		Got: fmt.Sprintf("entrypoint %v, cmd %v", config.Entrypoint, config.Cmd), Cause: "what Kubernetes calls command is Docker's ENTRYPOINT, and args are its CMD: each takes the place of the image's own"})
	lab.Equal("asked for the working directory", config.WorkingDir, "/tmp", "Config.WorkingDir is the spec's")
	lab.Equal("asked for the environment", config.Env, spec.Env, "Config.Env is the spec's")
	lab.Equal("asked whether a spec with a terminal and without standard input gives it a terminal, and open input", []bool{config.Tty, config.OpenStdin}, []bool{true, false},
		"Config.Tty is spec.TTY, Config.OpenStdin is spec.Stdin")
	lab.Equal("asked for the memory limit of a spec that allows 64 MiB", host.Memory, int64(64<<20), "HostConfig.Resources is resources(spec.Resources)")
	lab.Equal("asked how its log is kept", host.LogConfig, logRotation, "HostConfig.LogConfig is logRotation: without it a talkative container fills the disk")
	empty, _ := configured(lab, ContainerSpec{Name: "app", Image: "hello:1"})
	lab.Check(len(empty.Entrypoint) == 0 && len(empty.Cmd) == 0, labtest.Report{Did: "asked what is run, where the spec has neither command nor arguments", Want: "nothing of ours",
		Got: fmt.Sprintf("entrypoint %q, cmd %q", empty.Entrypoint, empty.Cmd), Cause: "an empty one leaves that of the image in its place"})
}

func TestTask1LabelsTellAllThatWillBeAskedFor(t *testing.T) {
	lab := labtest.Task(t, "01", 1)
	config, _ := configured(lab, ContainerSpec{Name: "app", Image: "hello:1", Attempt: 12})
	for _, label := range []struct{ name, want, cause string }{
		{LabelCluster, "c", "labels(pod, kindContainer) has those that all of a pod's containers share"},
		{LabelNode, "node-1", "labels(pod, kindContainer) has those that all of a pod's containers share"},
		{LabelUID, "the-uid", "labels(pod, kindContainer) has those that all of a pod's containers share"},
		{LabelKind, kindContainer, "the kind tells a container from its sandbox: ask labels for kindContainer"},
		{LabelContainer, "app", "the container's name in the pod is one of the two labels that you add"},
		{LabelAttempt, "12", "the attempt is one of the two labels that you add; string(12) is a control character, strconv.Itoa(12) is \"12\""},
	} {
		lab.Equal("asked for the label "+label.name, config.Labels[label.name], label.want, label.cause)
	}
}

// Task 2

func TestTask2SandboxRunsUnderThePodsNameAndHasAnAddress(t *testing.T) {
	lab, r := onDocker(t, 2)
	pod := aPod("web-1")
	got, err := r.StartSandbox(lab.Context(), pod)
	lab.NoError("started the sandbox of a pod", sayable(err), "create it with d.create, then start it by the ID that create returns")
	lab.Equal("counted what Docker has of the pod", r.kinds(pod.UID), "sandboxes: 1, containers: 0", "the sandbox is one container, made of sandboxConfig")
	lab.Must(got.ID != "", labtest.Report{Did: "looked at the sandbox that was returned", Want: "its ID", Got: "none", Cause: "return sandboxOf what ContainerInspect tells"})
	inspected, err := r.plain.ContainerInspect(lab.Context(), got.ID)
	lab.NoError("asked Docker for the sandbox by the ID that was returned", sayable(err), "the ID is the one that create returned")
	lab.Check(inspected.State.Running && got.Running, labtest.Report{Did: "looked whether the sandbox runs, first by Docker, then by what was returned", Want: "true, true",
		Got: fmt.Sprintf("%v, %v", inspected.State.Running, got.Running), Cause: "it has to be started before it is inspected"})
	lab.Check(got.IP != "" && got.IP == inspected.NetworkSettings.Networks["bridge"].IPAddress, labtest.Report{Did: "compared the address that was returned with Docker's", Want: "the same one",
		Got: map[bool]string{true: "none", false: "another one"}[got.IP == ""], Cause: "the address is known when the container runs: inspect it after the start"})
	lab.Equal("asked Docker for the sandbox's host name and program", []string{inspected.Config.Hostname, inspected.Config.Image}, []string{"web-1", images.Pause.Name}, "sandboxConfig has both")
}

func TestTask2NothingIsLeftOfASandboxThatDoesNotStart(t *testing.T) {
	lab, r := onDocker(t, 2)
	taken, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		lab.Fatal(err)
	}
	defer taken.Close()
	pod := aPod("web-1", func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080, HostPort: int32(taken.Addr().(*net.TCPAddr).Port)}}}}
	})
	_, err = r.StartSandbox(lab.Context(), pod)
	lab.Must(err != nil, labtest.Report{Did: "started a sandbox on a port of the host that is taken", Want: "an error", Got: "none", Cause: "Docker refuses at the start, not before: ContainerStart's error is to be returned"})
	lab.Check(strings.Contains(err.Error(), "default/web-1"), labtest.Report{Did: "read the error", Want: "that it names the pod: default/web-1", Got: "it does not",
		Cause: "an error says what was tried and of which pod: fmt.Errorf(\"start sandbox of pod %s/%s: %w\", ...)"})
	lab.Check(strings.Contains(err.Error(), fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)), labtest.Report{Did: "read the error", Want: "Docker's words, which name the port", Got: "they are lost",
		Cause: "the cause is to be wrapped with %w"})
	lab.Equal("counted what Docker has of the pod after the sandbox did not start", r.kinds(pod.UID), "sandboxes: 0, containers: 0",
		"it was created before it failed to start; remove it again, or each try leaves one more")
}

func TestTask2NothingIsLeftUnknownWhenTheContextEnds(t *testing.T) {
	labtest.Begun(t, "01")
	for _, row := range []struct{ when, cause string }{
		{"/create", "Docker goes on with a request whose caller hangs up: create with d.create, which waits; then the start fails, and the clean-up takes a context that has not ended"},
		{"/start", "clean up after the start has failed, with a context that has not ended: context.WithoutCancel(ctx)"},
	} {
		t.Run("sandbox"+row.when, func(t *testing.T) {
			lab, r := onDocker(t, 2)
			pod := aPod("web-1")
			ctx, cancel := context.WithCancel(lab.Context())
			defer cancel()
			r.meet("POST", row.when, hangsUp(cancel))
			_, err := r.StartSandbox(ctx, pod)
			lab.IsError("ended the context while Docker worked on POST ..."+row.when, sayableButIs(err, context.Canceled), context.Canceled, "the cause is to be wrapped with %w, also if it is the end of the context")
			lab.Equal("ended the context while Docker worked on POST ..."+row.when+", and counted what Docker has of the pod", r.kinds(pod.UID), "sandboxes: 0, containers: 0",
				row.cause)
		})
	}
	t.Run("container", func(t *testing.T) {
		lab, r := onDocker(t, 2)
		pod := aPod("web-1")
		sandbox := r.sandbox(pod)
		ctx, cancel := context.WithCancel(lab.Context())
		defer cancel()
		r.meet("POST", "/create", hangsUp(cancel))
		id, err := r.StartContainer(ctx, sandbox, pod, ContainerSpec{Name: "web", Image: images.HelloV1.Name})
		lab.Check(id != "" && errors.Is(err, context.Canceled), labtest.Report{Did: "ended the context while Docker made a container", Want: "its ID, together with the context's error",
			Got: fmt.Sprintf("an ID: %v, %s", id != "", told(err)), Cause: "create with d.create, which waits until Docker has made it; the start then fails with the context's error, and the ID is that of the container that was made"})
	})
}

// hangsUp ends the caller's context when Docker has got a request, and lets Docker finish: as Docker does, whoever has hung
// up.
func hangsUp(cancel func()) func(*http.Request, func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	return func(request *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		cancel()
		response, err := send(request.WithContext(context.WithoutCancel(request.Context())))
		if err == nil && request.Context().Err() != nil {
			response.Body.Close()
			return nil, request.Context().Err()
		}
		return response, err
	}
}

// sayableButIs is sayable for an error of which it is asked what it wraps.
func sayableButIs(err, wrapped error) error {
	if errors.Is(err, wrapped) {
		return wrapped
	}
	return sayable(err)
}

func TestTask2ContainersOfAPodReachEachOtherAsThemselves(t *testing.T) {
	lab, r := onDocker(t, 2)
	pod := aPod("web-1")
	sandbox := r.sandbox(pod)
	r.speaks(r.run(sandbox, pod, "web", 0))
	code := int64(-1)
	for attempt := 0; code != 0 && attempt < 4; attempt++ { // the server says that it listens a moment before it does
		code = r.ends(r.run(sandbox, pod, "caller", attempt, "get", "http://127.0.0.1:8080/healthz"))
	}
	lab.Equal("let one container of a pod serve and the other ask http://127.0.0.1:8080/healthz, four times at most, and looked at its exit code", code, int64(0),
		"both have to join the sandbox's network: containerConfig gets the sandbox that StartContainer got")
	lab.Check(strings.HasPrefix(r.kinds(pod.UID), "sandboxes: 1, "), labtest.Report{Did: "counted what Docker has of the pod", Want: "one sandbox", Got: r.kinds(pod.UID), Cause: "StartContainer makes containers, of the kind kindContainer"})
}

func TestTask2ContainerThatDoesNotStartStaysAndIsNamed(t *testing.T) {
	lab, r := onDocker(t, 2)
	pod := aPod("web-1")
	sandbox := r.sandbox(pod)
	id, err := r.StartContainer(lab.Context(), sandbox, pod, ContainerSpec{Name: "web", Image: images.HelloV1.Name, Command: []string{"/no-such-program"}})
	lab.Check(err != nil && strings.Contains(err.Error(), "no-such-program") && strings.Contains(err.Error(), "default/web-1"), labtest.Report{
		Did: "started a container whose program does not exist", Want: "an error that names the pod default/web-1, and has Docker's words with the program in it",
		Got: told(err), Cause: "the error of ContainerStart is to be returned, wrapped with %w"})
	lab.Check(id != "", labtest.Report{Did: "started a container whose program does not exist", Want: "its ID together with the error", Got: "no ID", Cause: "the container is there, only it does not run: the ID is what create returned"})
	lab.Equal("counted what Docker has of the pod then", r.kinds(pod.UID), "sandboxes: 1, containers: 1", "it stays, so that the pod's status can tell why it does not run, and that this was an attempt")
	id, err = r.StartContainer(lab.Context(), sandbox, pod, ContainerSpec{Name: "none", Image: "mini-k8s/never-made:v0"})
	lab.Check(id == "" && err != nil, labtest.Report{Did: "started a container of an image that is not there", Want: "an error and no ID", Got: fmt.Sprintf("%s, an ID: %v", told(err), id != ""),
		Cause: "Docker could not make it, so nothing is there that has an ID"})
}

// Task 3

func TestTask3PodsAreFoundAgainByWhoeverAsks(t *testing.T) {
	lab, r := onDocker(t, 3)
	web, db := aPod("web-1"), aPod("db-1")
	sandbox := r.sandbox(web)
	r.ends(r.run(sandbox, web, "app", 0, "exit", "3"))
	r.run(sandbox, web, "app", 1)
	r.sandbox(db)
	next := NewDocker(r.plain, r.options) // as after a kill -9: it was told of nothing
	pods, err := next.Pods(lab.Context())
	lab.NoError("asked for the pods of a node", sayable(err), "which request failed?")
	slices.SortFunc(pods, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	var found []string
	for _, pod := range pods {
		var parts []string
		for _, c := range pod.Containers {
			parts = append(parts, fmt.Sprintf("%s#%d %s %d", c.Name, c.Attempt, c.State, c.ExitCode))
		}
		found = append(found, fmt.Sprintf("%s/%s, sandbox: %v, containers: %v", pod.Namespace, pod.Name, pod.Sandbox != nil, parts))
	}
	lab.Equal("asked for the pods of a node that runs db-1, with no container yet, and web-1, whose container app has run twice", strings.Join(found, "; "),
		"default/db-1, sandbox: true, containers: []; default/web-1, sandbox: true, containers: [app#1 Running 0 app#0 Exited 3]",
		"what has the same LabelUID is one pod; the one of kind sandbox is its Sandbox, the others are its Containers, the newest first")
	one, err := next.Pod(lab.Context(), web.UID)
	lab.NoError("asked for one pod", sayable(err), "which request failed?")
	lab.Check(one.UID == web.UID && one.Sandbox != nil && reflect.DeepEqual(*one.Sandbox, sandbox), labtest.Report{Did: "asked for the pod web-1 alone, and compared its sandbox with what StartSandbox returned",
		Want: "the same", Got: map[bool]string{true: "no sandbox", false: "another one"}[one.Sandbox == nil], Cause: "d.list(ctx, uid) lists that pod's alone; sandboxOf tells of the sandbox"})
	elsewhere := r.options
	elsewhere.Node = "node-2"
	others, err := NewDocker(r.plain, elsewhere).Pods(lab.Context())
	lab.Check(err == nil && len(others) == 0, labtest.Report{Did: "asked for the pods of another node on the same Docker", Want: "none", Got: fmt.Sprintf("%d, %s", len(others), told(err)), Cause: "d.list leaves out what is not this node's"})
}

func TestTask3OnlyWhatIsNotFoundIsLeftOut(t *testing.T) {
	lab, r := onDocker(t, 3)
	pod := aPod("web-1")
	sandbox := r.sandbox(pod)
	going := r.run(sandbox, pod, "app", 0, "exit", "0")
	r.run(sandbox, pod, "app", 1, "exit", "0")
	r.meet("GET", going+"/json", func(request *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		if err := r.plain.ContainerRemove(request.Context(), going, container.RemoveOptions{Force: true}); err != nil {
			return nil, err
		}
		return send(request)
	})
	held, err := r.Pod(lab.Context(), pod.UID)
	lab.NoError("asked for a pod of which a container was removed between the list and its inspection", sayable(err), "what is not found any more is left out: cerrdefs.IsNotFound tells")
	lab.Check(held.Sandbox != nil && len(held.Containers) == 1 && held.Containers[0].ID != going, labtest.Report{Did: "looked what there is of that pod", Want: "its sandbox and the other container",
		Got: fmt.Sprintf("sandbox: %v, %d containers", held.Sandbox != nil, len(held.Containers)), Cause: "one that is gone is left out, and all others stay"})
	r.meet("GET", "/json", func(request *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		if strings.HasSuffix(request.URL.Path, "/containers/json") { // the list
			return send(request)
		}
		return broken(), nil
	})
	pods, err := r.Pods(lab.Context())
	lab.Check(err != nil && strings.Contains(err.Error(), "out of luck"), labtest.Report{Did: "asked for the pods while Docker answers each inspection with an error (500, out of luck)", Want: "that error, wrapped",
		Got: fmt.Sprintf("%s, and %d pods", told(err), len(pods)), Cause: "only a container that is not found is left out; a pod that is half seen would be taken for broken, and removed"})
}

// Task 4

func TestTask4SignalReachesTheProgram(t *testing.T) {
	lab, r := onDocker(t, 4)
	pod := aPod("web-1")
	sandbox := r.sandbox(pod)
	id := r.run(sandbox, pod, "app", 0)
	r.speaks(id)
	err := r.Signal(lab.Context(), id, "SIGTERM")
	lab.NoError("sent SIGTERM to a container that runs", sayable(err), "d.docker.ContainerKill sends it")
	lab.Equal("sent SIGTERM to a program that ends in good order when it is told so, and looked at its exit code", r.ends(id), int64(0), "it has to be the signal that Signal got: ContainerKill's last argument (137 is a SIGKILL, -1 that it still runs after ten seconds)")
	err = r.Signal(lab.Context(), sandbox.ID, "SIGNONSENSE")
	lab.Check(err != nil, labtest.Report{Did: "sent SIGNONSENSE to a container that runs", Want: "Docker's error", Got: "none", Cause: "give Docker the signal that Signal got; and only \"not found\" and \"conflict\" mean that the container runs no more, all else is a failure"})
	lab.NoError("sent SIGTERM to a container that is dead", sayable(r.Signal(lab.Context(), id, "SIGTERM")), "Docker answers with a conflict, which is none for us: cerrdefs.IsConflict")
	lab.NoError("sent SIGKILL to a container that never was", sayable(r.Signal(lab.Context(), "0123456789abcdef", "SIGKILL")), "Docker does not find it, which is well for us: cerrdefs.IsNotFound")
}

func TestTask4RemovedPodLeavesNothingAndNoOtherIsTouched(t *testing.T) {
	lab, r := onDocker(t, 4)
	pod, other := aPod("web-1"), aPod("web-1")
	sandbox := r.sandbox(pod)
	r.run(sandbox, pod, "app", 0)
	r.run(sandbox, pod, "log", 0, "exit", "0")
	r.sandbox(other)
	for _, time := range []string{"once", "again"} {
		lab.NoError("removed a pod "+time, sayable(r.RemovePod(lab.Context(), pod.UID)), "removing what is not there is no failure: RemoveContainer sees to that")
		lab.Equal("removed a pod "+time+", of which one container still ran, and counted what is left", r.kinds(pod.UID), "sandboxes: 0, containers: 0", "all that d.list(ctx, uid) finds is removed, running or not, and the sandbox too")
	}
	lab.Equal("counted what there is of another pod of the same name", r.kinds(other.UID), "sandboxes: 1, containers: 0", "a pod is its UID, not its name: list by the UID")
}

func TestTask4SandboxStaysAsLongAsAContainerDoes(t *testing.T) {
	lab, r := onDocker(t, 4)
	pod := aPod("web-1")
	sandbox := r.sandbox(pod)
	r.run(sandbox, pod, "app", 0, "exit", "0")
	stuck := r.run(sandbox, pod, "stuck", 0, "exit", "0") // the newest: Docker lists it first
	r.meet("DELETE", stuck, func(*http.Request, func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		return broken(), nil
	})
	err := r.RemovePod(lab.Context(), pod.UID)
	lab.Check(err != nil && strings.Contains(err.Error(), "out of luck"), labtest.Report{Did: "removed a pod of two containers, of which Docker does not remove one (500, out of luck)", Want: "that error, wrapped", Got: told(err),
		Cause: "the failures are collected and returned, joined"})
	lab.Equal("counted what is left of the pod then", r.kinds(pod.UID), "sandboxes: 1, containers: 1",
		"a failure is no reason to leave the other containers; the sandbox comes last, and only if no container could stay")
	r.wire.by.Store(nil)
	lab.NoError("removed the pod again, with nothing in the way", sayable(r.RemovePod(lab.Context(), pod.UID)), "the second time removes what the first one left")
	lab.Equal("counted what is left", r.kinds(pod.UID), "sandboxes: 0, containers: 0", "the second time removes what the first one left")
}

// Task 5

func TestTask5LogHasBothStreamsAndNoHeaders(t *testing.T) {
	lab, r := onDocker(t, 5)
	pod := aPod("web-1")
	id := r.run(r.sandbox(pod), pod, "app", 0, "log", "2")
	r.ends(id)
	var closed, opened atomic.Int32
	r.meet("GET", "/logs", func(request *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
		response, err := send(request)
		if err == nil {
			opened.Add(1)
			response.Body = &countsClosing{ReadCloser: response.Body, closed: &closed}
		}
		return response, err
	})
	var out bytes.Buffer
	lab.NoError("read the log of a container", sayable(r.Logs(lab.Context(), id, LogOptions{}, &out)), "inspect it, open the stream, copy it")
	text := out.String()
	lab.Must(!strings.ContainsAny(text, "\x00\x01\x02"), labtest.Report{Did: "read the log of a container that has no terminal", Want: "what it wrote", Got: "eight bytes more before each piece: 1 or 2, three zeros, and a length",
		Cause: "the bytes between are Docker's headers, which say where each piece was written; stdcopy.StdCopy takes them off"})
	lines := strings.Fields(strings.NewReplacer("error line ", "error-", "line ", "line-").Replace(text))
	slices.Sort(lines)
	lab.Equal("sorted the lines of a program that writes two to standard output and two to standard error", strings.Join(lines, ", "), "error-1, error-2, line-1, line-2", "both streams go to out: stdcopy.StdCopy(out, out, stream)")
	out.Reset()
	one := int64(1)
	lab.NoError("read the last line", sayable(r.Logs(lab.Context(), id, LogOptions{Tail: &one}, &out)), "the options go to ContainerLogs as they are")
	lab.Equal("counted the lines when asked for the last one", strings.Count(out.String(), "\n"), 1, "the options go to ContainerLogs as they are")
	lab.Equal("counted the streams that were opened and not closed", opened.Load()-closed.Load(), int32(0), "defer stream.Close() once it is open: each one that stays is a connection to Docker and a goroutine")
}

type countsClosing struct {
	io.ReadCloser
	closed *atomic.Int32
	once   sync.Once
}

func (c *countsClosing) Close() error {
	c.once.Do(func() { c.closed.Add(1) })
	return c.ReadCloser.Close()
}

func TestTask5LogOfATerminalIsTakenAsItIs(t *testing.T) {
	lab, r := onDocker(t, 5)
	pod := aPod("web-1")
	id, err := r.StartContainer(lab.Context(), r.sandbox(pod), pod, ContainerSpec{Name: "app", Image: images.HelloV1.Name, Args: []string{"log", "1"}, TTY: true})
	lab.NoError("started a container with a terminal", sayable(err), "see the tests of StartContainer, in task 2")
	r.ends(id)
	var out bytes.Buffer
	err = r.Logs(lab.Context(), id, LogOptions{}, &out)
	lab.Check(err == nil && strings.HasPrefix(out.String(), "line 1\r\n"), labtest.Report{Did: "read the log of a container with a terminal", Want: `"line 1\r\n" and more`, Got: fmt.Sprintf("%q, %s", out.String(), told(err)),
		Cause: "a terminal has one stream, and Docker puts no headers into it: inspected.Config.Tty tells, io.Copy copies"})
}

func TestTask5FollowedLogGoesOnUntilTheContainerOrTheReaderEnds(t *testing.T) {
	labtest.Begun(t, "01")
	for _, row := range []struct {
		what string
		end  func(r *rig, id string, cancel func())
	}{
		{"the container", func(r *rig, id string, _ func()) { r.plain.ContainerKill(r.lab.Context(), id, "SIGKILL") }},
		{"the reader's context", func(_ *rig, _ string, cancel func()) { cancel() }},
	} {
		t.Run(row.what, func(t *testing.T) {
			lab, r := onDocker(t, 5)
			pod := aPod("web-1")
			id := r.run(r.sandbox(pod), pod, "app", 0)
			ctx, cancel := context.WithCancel(lab.Context())
			defer cancel()
			read, write := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := r.Logs(ctx, id, LogOptions{Follow: true}, write)
				write.Close()
				done <- err
			}()
			within := time.AfterFunc(10*time.Second, func() { read.CloseWithError(errors.New("nothing for ten seconds")) })
			_, err := read.Read(make([]byte, 1))
			within.Stop()
			lab.NoError("followed the log of a container that runs and has written a line", sayable(err), "what comes is copied as it comes: not first read to its end and then written")
			go io.Copy(io.Discard, read)
			select {
			case <-done:
				lab.Must(false, labtest.Report{Did: "followed a log", Want: "that it goes on while the container runs", Got: "it ended", Cause: "the options go to ContainerLogs as they are: Follow is one of them"})
			default:
			}
			row.end(r, id, cancel)
			select {
			case err := <-done:
				lab.NoError("followed a log until the end of "+row.what, sayable(err), "the copy ends without an error when the stream does")
			case <-time.After(10 * time.Second):
				lab.Check(false, labtest.Report{Did: "followed a log, and ended " + row.what, Want: "that Logs returns", Got: "it goes on ten seconds later", Cause: "ask Docker with the context that you got: its end closes the stream"})
			}
		})
	}
}
