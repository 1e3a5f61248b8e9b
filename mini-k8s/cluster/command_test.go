package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
)

// What a user sees of a cluster of hollow pods: the program's commands, their exit codes, and kubectl.

func TestADetachedClusterFromUpToDown(t *testing.T) {
	u := newUser(t)
	told := u.run("up", "--detach", "--name", u.name, "--runtime", "hollow")
	for _, words := range []string{"Starting cluster " + u.name, "Starting 3 workers", "3/3 pods run", "The cluster is ready", "down --name " + u.name} {
		if !strings.Contains(told, words) {
			t.Errorf("up does not say %q:\n%s", words, told)
		}
	}
	if got := u.run("env", "--name", u.name); got != "export KUBECONFIG="+strconv.Quote(u.kubeconfig())+"\n" {
		t.Errorf("env says %q", got)
	}
	u.fails(1, "runs already", "up", "--detach", "--name", u.name, "--runtime", "hollow")

	if got := strings.Count(u.kubectl("get", "nodes", "--no-headers"), " Ready "); got != 3 {
		t.Errorf("kubectl sees %d nodes that are ready", got)
	}
	if got := u.kubectl("logs", "deployment/hello"); !strings.Contains(got, "hollow") {
		t.Errorf("kubectl logs says %q", got)
	}
	u.kubectl("scale", "deployment", "hello", "--replicas", "12")
	u.kubectl("rollout", "status", "deployment/hello", "--timeout", "30s")
	perNode := map[string]int{}
	for _, pod := range list[*corev1.Pod](t, u.client()) {
		perNode[pod.Spec.NodeName]++
	}
	if len(perNode) != 3 || perNode["node-1"] != 4 || perNode["node-2"] != 4 {
		t.Errorf("of 12 pods the nodes have %v", perNode)
	}
	if got := strings.Count(u.run("get", "pods"), " Running "); got != 12 {
		t.Errorf("mini-k8s get pods shows %d that run", got)
	}
	u.kubectl("scale", "deployment", "hello", "--replicas", "0")
	eventually(t, "there are no pods", func() bool { return len(list[*corev1.Pod](t, u.client())) == 0 }, u.log)

	if got := u.run("down", "--name", u.name); !strings.Contains(got, "nothing is left") {
		t.Errorf("down says %q", got)
	}
	u.leavesNothing()
	if got := u.run("down", "--name", u.name); !strings.Contains(got, "There is no cluster") {
		t.Errorf("the second down says %q", got)
	}
	u.fails(1, "no cluster", "env")
}

func TestUpThatFailsExitsWithOneAndLeavesNothing(t *testing.T) {
	u := newUser(t)
	for _, test := range []struct {
		name, words string
		args        []string
	}{
		{"in the foreground", "--nodes 0", []string{"--nodes", "0", "--runtime", "hollow"}},
		{"in the background", "--nodes 0", []string{"--nodes", "0", "--runtime", "hollow", "--detach"}},
		{"no such runtime", "use docker or hollow", []string{"--runtime", "podman"}},
		{"an unknown flag", "up --help", []string{"--nods", "3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u.fails(1, test.words, append([]string{"up", "--name", u.name}, test.args...)...)
			u.leavesNothing()
		})
	}
}

func TestUpWithoutDockerSaysWhatToDo(t *testing.T) {
	u := newUser(t)
	u.env = append(u.env, "DOCKER_HOST=unix:///nowhere")
	for _, args := range [][]string{{"up", "--name", u.name}, {"up", "--name", u.name, "--detach"}} {
		u.fails(1, "Docker does not answer: start it (`make docker` installs and starts one on Debian and Ubuntu), or run simulated pods with --runtime hollow", args...)
		u.leavesNothing()
	}
}

func TestCtrlCInTheForegroundLeavesNothing(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		u := newUser(t)
		p := u.start("up", "--name", u.name, "--runtime", "hollow")
		p.says("The cluster is ready")
		u.kubectl("scale", "deployment", "hello", "--replicas", "5")
		p.says("container started") // the story goes on in the terminal
		if code := p.stop(signal); code != 0 || !strings.Contains(p.printed(), "nothing is left") {
			t.Errorf("after %v: exit code %d\n%s", signal, code, p.printed())
		}
		u.leavesNothing()
	}
}

func TestCtrlCWhileItStartsLeavesNothing(t *testing.T) {
	for _, at := range []string{"Starting the master", "Starting 3 workers", "Deploying"} {
		u := newUser(t)
		p := u.start("up", "--name", u.name, "--runtime", "hollow")
		p.says(at)
		if code := p.stop(os.Interrupt); code != 0 {
			t.Errorf("interrupted at %q: exit code %d\n%s", at, code, p.printed())
		}
		u.leavesNothing()
	}
}

func TestDownStopsAClusterInTheForeground(t *testing.T) {
	u := newUser(t)
	p := u.start("up", "--name", u.name, "--runtime", "hollow")
	p.says("The cluster is ready")
	u.run("down", "--name", u.name)
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, p.printed())
	}
	u.leavesNothing()
}

func TestDownAndUpAgainAtOnce(t *testing.T) {
	u := newUser(t)
	for range 3 {
		u.up("--runtime", "hollow")
		u.run("down", "--name", u.name)
	}
	u.leavesNothing()
}

func TestDownCleansUpAfterAClusterThatWasKilled(t *testing.T) {
	u := newUser(t)
	u.up("--runtime", "hollow")
	u.killAll()
	u.fails(1, "no cluster", "env")
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func TestTwoClustersOfAUserSideBySide(t *testing.T) {
	u := newUser(t)
	u.up("--runtime", "hollow", "--nodes", "1")
	second := uniqueName()
	u.run("up", "--detach", "--name", second, "--runtime", "hollow", "--nodes", "2")
	u.fails(1, "several clusters run here", "env")
	if got := u.run("env", "--name", second); !strings.Contains(got, filepath.Join(u.home, second, "kubeconfig")) {
		t.Errorf("env says %q", got)
	}
	u.run("down", "--name", second)
	if got := ready(t, u.client()); got != 1 {
		t.Errorf("after the second went down the first has %d nodes", got)
	}
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

func TestWorkersJoinAMaster(t *testing.T) {
	u := newUser(t)
	m := startMaster(u)
	token := strings.TrimSpace(u.run("token", "--dir", m.dir))
	printed := regexp.MustCompile(`--token (\S+)`).FindStringSubmatch(m.printed())
	if printed == nil || printed[1] == token {
		t.Fatalf("the master does not tell a token of its own:\n%s", m.printed())
	}
	join := func(node, token string, more ...string) *process {
		return u.start(append([]string{"worker", "--master", m.url, "--node", node, "--runtime", "hollow", "--token", token}, more...)...)
	}
	revoked := strings.TrimSpace(u.run("token", "create", "--dir", m.dir, "--ttl", "1h"))
	id, _, _ := strings.Cut(revoked, ".")
	if got := u.run("token", "list", "--dir", m.dir); strings.Count(got, "\n") != 4 || !strings.Contains(got, id) {
		t.Errorf("of three tokens token list shows\n%s", got)
	}
	u.run("token", "delete", id, "--dir", m.dir)
	secret, hash := token[:strings.LastIndex(token, ".")], token[strings.LastIndex(token, ".")+1:]
	for name, wrong := range map[string]struct{ token, words string }{
		"another secret":  {"abcdef.0123456789abcdef." + hash, "not one of this cluster"},
		"revoked":         {revoked, "not one of this cluster, or was deleted; `mini-k8s token create` on the master makes another"},
		"another cluster": {secret + ".0123456789abcdef", "not the one that the join token is from"},
		"half a token":    {secret, "incomplete"},
		"none":            {"", "has no certificate yet"},
	} {
		p := join("stranger", wrong.token)
		if <-p.ended; p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(p.printed(), wrong.words) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", name, p.cmd.ProcessState.ExitCode(), wrong.words, p.printed())
		}
	}
	one, two := join("one", token, "--label", "disk=fast"), join("two", printed[1])
	eventually(t, "two nodes are ready", func() bool { return ready(t, m.client()) == 2 }, func() string { return one.printed() + two.printed() + m.printed() })
	for _, node := range list[*corev1.Node](t, m.client()) {
		if node.Name == "stranger" || (node.Name == "one") != (node.Labels["disk"] == "fast") {
			t.Errorf("there is the node %s with the labels %v", node.Name, node.Labels)
		}
	}
	m.run(t, "busy")
	if code := one.stop(os.Interrupt); code != 0 {
		t.Errorf("the worker ended with %d:\n%s", code, one.printed())
	}
	one = join("one", "") // it has its certificate now
	one.says("works for")
	// It is not ready for a moment: until it knows its range and has its network.
	eventually(t, "both nodes are ready after the restart of one", func() bool { return ready(t, m.client()) == 2 }, one.printed)
	p := join("two", token, "--dir", t.TempDir())
	if <-p.ended; !strings.Contains(p.printed(), "node two is there and Ready") {
		t.Errorf("a second machine that says it is two:\n%s", p.printed())
	}
	if code := m.stop(os.Interrupt); code != 0 {
		t.Errorf("the master ended with %d:\n%s", code, m.printed())
	}
	if secret := strings.Split(token, ".")[1]; strings.Contains(m.printed()+one.printed()+two.printed(), secret) {
		t.Error("the secret of a token is in a log")
	}
	m = startMaster(u, "--dir", m.dir, "--listen", strings.TrimPrefix(m.url, "https://"))
	m.run(t, "busy-again")
	for _, p := range []*process{one, two, m.process} {
		if code := p.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%v ended with %d:\n%s", p.cmd.Args, code, p.printed())
		}
	}
}

// masterProcess is a master that runs alone.
type masterProcess struct {
	*process
	dir, url string
}

func startMaster(u *user, args ...string) *masterProcess {
	u.t.Helper()
	m := &masterProcess{dir: filepath.Join(u.home, "the master's"), url: "https://" + freeAddress(u.t)}
	for i, arg := range args {
		if arg == "--listen" {
			m.url = "https://" + args[i+1]
		}
	}
	m.process = u.start(append([]string{"master", "--name", u.name, "--dir", m.dir, "--listen", strings.TrimPrefix(m.url, "https://")}, args...)...)
	m.says("The master is at " + m.url)
	return m
}

func (m *masterProcess) client() *client.Client {
	return connect(m.u.t, filepath.Join(m.dir, "kubeconfig"))
}

// run creates a pod and waits until it runs.
func (m *masterProcess) run(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	create(t, m.client(), name, nil)
	eventually(t, "the pod "+name+" runs", func() bool {
		pod = get(t, m.client(), name)
		return pod.Status.Phase == corev1.PodRunning
	}, func() string { text, _ := json.Marshal(pod.Status); return string(text) + m.printed() })
	return pod
}
