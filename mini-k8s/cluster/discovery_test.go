package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/worker/network"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Services of every kind, by their names, as pods that are containers see them; also while who looks after them is away.

// kinds are two pods that have two ports each, of which the numbers differ and the names do not, and services of them.
const kinds = `
{apiVersion: v1, kind: Pod, metadata: {name: one, labels: {app: web}}, spec: {nodeName: node-1, hostname: first, subdomain: db, containers: [
  {name: app, image: "mini-k8s/hello:v1", ports: [{name: http, containerPort: 8080}], env: [{name: POD_NAME, value: one}]},
  {name: admin, image: "mini-k8s/hello:v1", ports: [{name: admin, containerPort: 9000}], env: [{name: POD_NAME, value: one-admin}, {name: PORT, value: "9000"}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: two, labels: {app: web}}, spec: {nodeName: node-2, hostname: second, subdomain: db, containers: [
  {name: app, image: "mini-k8s/hello:v1", ports: [{name: http, containerPort: 8081}], env: [{name: POD_NAME, value: two}, {name: PORT, value: "8081"}]},
  {name: admin, image: "mini-k8s/hello:v1", ports: [{name: admin, containerPort: 9001}], env: [{name: POD_NAME, value: two-admin}, {name: PORT, value: "9001"}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: admin}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: sticky}, spec: {sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: alias}, spec: {type: ExternalName, externalName: web.default.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: names}, spec: {ports: [{name: dns, protocol: UDP, port: 5353}, {name: dns-tcp, port: 5353}]}}
`

func TestDockerServicesOfEveryKind(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("this takes dig:", err)
	}
	u := newDockerUser(t)
	u.up("--nodes", "2", "--demo=false")
	u.apply(kinds)
	one, two := u.running(u.client(), "one"), u.running(u.client(), "two")
	u.serves("db", 2)
	// The service without a selector leads to the DNS server of the first node.
	range1 := netip.MustParsePrefix(u.kubectl("get", "node", "node-1", "-o", "jsonpath={.spec.podCIDR}"))
	u.apply(fmt.Sprintf(`{apiVersion: v1, kind: Endpoints, metadata: {name: names}, subsets: [{addresses: [{ip: %s}],
		ports: [{name: dns, protocol: UDP, port: 53}, {name: dns-tcp, port: 53}]}]}`, range1.Addr().Next()))
	u.serves("names", 1)

	for _, row := range []struct {
		what, url string
		pods      []string // of which each must answer, and no other
	}{
		{"a named target port that has another number in each pod", "http://web/", []string{"one", "two"}},
		{"the second port of a service", "http://web.default:81/", []string{"one-admin", "two-admin"}},
		{"a headless service", "http://first.db:8080/", []string{"one"}},
		{"its pod on another node", "http://second.db.default.svc.cluster.local:8081/", []string{"two"}},
		{"an ExternalName", "http://alias/", []string{"one", "two"}},
	} {
		t.Run(row.what, func(t *testing.T) {
			for _, from := range []*corev1.Pod{one, two} {
				eventually(t, row.url+" is known on "+from.Spec.NodeName, func() bool { _, err := u.get(from, row.url); return err == nil }, u.log)
				heard := map[string]bool{}
				// That one of two does not answer in 40 tries has a probability of 2e-12.
				for range 40 {
					if heard[u.hears(from, row.url)] = true; len(heard) == len(row.pods) {
						break
					}
				}
				for _, pod := range row.pods {
					if !heard[pod] || len(heard) != len(row.pods) {
						t.Errorf("from pod %s %s is served by %v, want %v", from.Name, row.url, heard, row.pods)
					}
				}
			}
		})
	}
	t.Run("no selector, endpoints written by hand, by UDP and TCP", func(t *testing.T) {
		eventually(t, "the rules have both ports", func() bool {
			return strings.Contains(u.rules(), "udp . 5353") && strings.Contains(u.rules(), "tcp . 5353")
		}, u.rules)
		at := "@" + u.kubectl("get", "service", "names", "-o", "jsonpath={.spec.clusterIP}")
		for _, from := range []*corev1.Pod{one, two} {
			for _, by := range []string{"+notcp", "+tcp"} {
				if got := u.inside(from, "dig", "+short", by, at, "-p", "5353", "first.db.default.svc.cluster.local"); got != one.Status.PodIP {
					t.Errorf("from pod %s dig %s hears %q, want %s", from.Name, by, got, one.Status.PodIP)
				}
			}
		}
	})
	t.Run("other resolvers in a pod", func(t *testing.T) {
		both := []string{one.Status.PodIP, two.Status.PodIP}
		slices.Sort(both)
		for _, row := range []struct{ command, want string }{
			{"dig +search +short db", strings.Join(both, "\n")},
			{"dig +search +short _http._tcp.db SRV", "0 100 8080 first.db.default.svc.cluster.local.\n0 100 8081 second.db.default.svc.cluster.local."},
			// (Docker itself names the addresses of the node's own network.)
			{"dig +short -x " + one.Status.PodIP, "first.db.default.svc.cluster.local."},
			{"dig +search +short alias CNAME", "web.default.svc.cluster.local."},
			{"dig +search +short none", ""},
			{"getent hosts second.db", two.Status.PodIP + " second.db.default.svc.cluster.local"},
			{"getent hosts " + one.Status.PodIP, one.Status.PodIP + " first.db.default.svc.cluster.local"},
		} {
			if got := u.inside(two, strings.Fields(row.command)...); got != row.want {
				t.Errorf("%s prints\n%s\nwant\n%s", row.command, got, row.want)
			}
		}
	})
	t.Run("session affinity leads a client to one pod, until that is gone", func(t *testing.T) {
		always := u.hears(one, "http://sticky/")
		for range 20 {
			if got := u.hears(one, "http://sticky/"); got != always {
				t.Fatalf("pod one was served by %s, then by %s", always, got)
			}
		}
		u.kubectl("label", "pod", always, "app=other", "--overwrite")
		eventually(t, "the other pod serves", func() bool { return u.hears(one, "http://sticky/") != always }, u.log)
	})
}

// Workers and master may end and come back: connections go on, names resolve, and what changes meanwhile is followed by
// whoever is left.
func TestDockerServicesOutliveWorkersAndTheMaster(t *testing.T) {
	u := newDockerUser(t)
	m := startMaster(u, "--cluster-cidr", "10.233.0.0/16", "--service-cidr", "10.234.0.0/16")
	token := strings.TrimSpace(u.run("token", "--dir", m.dir))
	join := func(node string) *process {
		p := u.start("worker", "--master", m.url, "--node", node, "--token", token)
		p.says("works for")
		return p
	}
	workers := []*process{join("node-1"), join("node-2")}
	log := func() string { return workers[0].printed() + workers[1].printed() + m.printed() }
	var pods []*corev1.Pod
	for _, node := range []string{"node-1", "node-2"} {
		create(t, m.client(), "on-"+node, func(pod *corev1.Pod) { pod.Spec.NodeName, pod.Labels = node, map[string]string{"app": "web"} })
		pods = append(pods, u.running(m.client(), "on-"+node))
	}
	service := func(name string) (address string) {
		s, err := client.Of[*corev1.Service](m.client()).Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}})
		if err != nil {
			t.Fatal(err)
		}
		return net.JoinHostPort(s.Spec.ClusterIP, "80")
	}
	serves := func(address string) {
		t.Helper()
		eventually(t, address+" serves", func() bool {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		}, log)
	}
	web := service("web")
	serves(web)
	open := openConnection(t, web)
	goesOn := func(when string) {
		t.Helper()
		if err := open.ask(); err != nil {
			t.Fatalf("%s: the connection through the service: %v", when, err)
		}
		if err := openConnection(t, web).ask(); err != nil {
			t.Fatalf("%s: a new connection through the service: %v", when, err)
		}
	}
	goesOn("at first")

	// One of the two looks after the rules of both. Each is away once: so once at least it is the other's turn.
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		before := u.rules()
		workers[i].stop(signal)
		if now := u.rules(); now != before {
			t.Errorf("with the worker gone the rules are\n%s\nand were\n%s", now, before)
		}
		goesOn("with a worker gone")
		serves(service(fmt.Sprint("late-", i)))
		workers[i] = join(pods[i].Spec.NodeName)
		goesOn("with the worker back")
	}

	for _, p := range pods {
		eventually(t, "names resolve on "+p.Spec.NodeName, func() bool { _, err := u.get(p, "http://web/"); return err == nil }, log)
	}
	if code := m.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the master ended with %d:\n%s", code, m.printed())
	}
	for range 10 {
		goesOn("without a master")
		for _, from := range pods {
			for _, name := range []string{"web", "late-1.default.svc.cluster.local"} {
				if got, err := u.get(from, "http://"+name+"/"); err != nil {
					t.Errorf("without a master pod %s, asking %s, hears %q (%v)", from.Name, name, got, err)
				}
			}
		}
	}
	if got, err := u.get(pods[0], "http://none/"); err == nil || !strings.Contains(got, "no such host") {
		t.Errorf("without a master a name that does not exist is %q (%v)", got, err)
	}
}

// connection is one that stays open.
type connection struct {
	net.Conn
	answers *bufio.Reader
}

func openConnection(t *testing.T, address string) *connection {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &connection{c, bufio.NewReader(c)}
}

// ask makes a request and reads the answer.
func (c *connection) ask() error {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	request, err := http.NewRequest("GET", "http://web/healthz", nil)
	if err != nil {
		return err
	}
	if err := request.Write(c); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.answers, request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}

// apply hands a manifest to kubectl.
func (u *user) apply(manifest string) {
	u.t.Helper()
	file := filepath.Join(u.t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		u.t.Fatal(err)
	}
	u.kubectl("apply", "-f", file)
}

// running waits until the pod is ready.
func (u *user) running(c *client.Client, name string) (pod *corev1.Pod) {
	u.t.Helper()
	eventually(u.t, "pod "+name+" is ready", func() bool { pod = get(u.t, c, name); return api.PodReady(pod) }, u.log)
	return pod
}

// rules returns those of the cluster's services.
func (u *user) rules() string {
	u.t.Helper()
	out, err := exec.Command("nft", "list", "table", "ip", network.Services(u.name)).Output()
	if err != nil {
		u.t.Fatal(err)
	}
	return string(out)
}

// pid returns the process of a pod's container, through which its namespaces can be entered.
func (u *user) pid(pod *corev1.Pod, name string) string {
	u.t.Helper()
	c, err := u.docker.ContainerInspect(u.t.Context(), u.containerOf(pod.UID, name))
	if err != nil {
		u.t.Fatal(err)
	}
	return strconv.Itoa(c.State.Pid)
}

// get returns what the URL answers to the program of the pod's first container.
func (u *user) get(from *corev1.Pod, url string) (string, error) {
	u.t.Helper()
	out, err := exec.CommandContext(u.t.Context(), "nsenter", "--net", "--mount", "--target", u.pid(from, from.Spec.Containers[0].Name), "/hello", "get", url).CombinedOutput()
	return string(out), err
}

// hears returns the pod that serves the URL.
func (u *user) hears(from *corev1.Pod, url string) (pod string) {
	u.t.Helper()
	got, err := u.get(from, url)
	if _, scan := fmt.Sscanf(got, "hello from %s on", &pod); err != nil || scan != nil {
		u.t.Fatalf("pod %s, asking %s, hears %q (%v)\n%s", from.Name, url, got, err, u.log())
	}
	return pod
}

// inside returns what a program of this machine prints in the network of a pod, and with its resolv.conf: sorted lines.
func (u *user) inside(pod *corev1.Pod, command ...string) string {
	u.t.Helper()
	dir, pid := u.t.TempDir(), u.pid(pod, pod.Spec.Containers[0].Name)
	resolv, err1 := os.ReadFile("/proc/" + pid + "/root/etc/resolv.conf")
	err2 := os.WriteFile(filepath.Join(dir, "resolv.conf"), resolv, 0o644)
	err3 := os.WriteFile(filepath.Join(dir, "nsswitch.conf"), []byte("hosts: dns\n"), 0o644)
	if err := errors.Join(err1, err2, err3); err != nil {
		u.t.Fatal(err)
	}
	const script = `for name in resolv.conf nsswitch.conf; do mount --bind "$0/$name" "/etc/$name" || exit; done; exec "$@"`
	cmd := exec.CommandContext(u.t.Context(), "nsenter", append([]string{"--net", "--target", pid, "unshare", "--mount", "sh", "-c", script, dir}, command...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Errorf("%v: %v", command, err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
