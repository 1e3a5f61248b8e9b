package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A cluster of two machines, seen from its pods, from its nodes, and from a third machine that is no node.
func TestMachines(t *testing.T) {
	r := New(t, 2)
	a, b := r.Hosts[0], r.Hosts[1]
	r.Up()
	for _, h := range []*Host{a, b} { // as Docker leaves it from version 27.3 on
		h.Run("sh", "-c", "echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables")
	}
	guest := r.AddHost()
	m := &machines{r, t}
	for _, h := range []*Host{a, b} {
		m.pod("web-"+h.Name, h, nil, map[string]string{"on": h.Name})
	}
	m.service("on-a", "10.96.0.51", 30081, a)
	m.service("on-b", "10.96.0.52", 30082, b)
	webA, webB := m.running("web-"+a.Name), m.running("web-"+b.Name)

	t.Run("pods reach pods on other machines, which see them as they are", func(t *testing.T) {
		m.hears(t, a, webB.Status.PodIP, b)
		m.hears(t, b, webA.Status.PodIP, a)
	})
	t.Run("pods reach services whose pods are on other machines, by name", func(t *testing.T) {
		m.hears(t, a, "on-b", b)
		m.hears(t, b, "on-a.default.svc.cluster.local", a)
		m.hears(t, a, "on-a", a)
	})
	t.Run("node ports are on every machine, for all who reach it", func(t *testing.T) {
		for _, from := range []*Host{a, b, guest} {
			for _, at := range []*Host{a, b} {
				m.getsFrom(from, fmt.Sprintf("http://%s:30081", at.Address), webA.Name)
				m.getsFrom(from, fmt.Sprintf("http://%s:30082", at.Address), webB.Name)
			}
		}
	})
	t.Run("logs come from other machines", func(t *testing.T) {
		for _, program := range []string{"kubectl", "mini-k8s"} {
			if _, err := exec.LookPath(program); err != nil && program == "kubectl" {
				t.Log(err)
			} else if got := a.Run(program, "logs", webB.Name); !strings.Contains(got, "listening on") {
				t.Errorf("%s logs says %q", program, got)
			}
		}
	})
	t.Run("a machine that was cut off is back", func(t *testing.T) {
		b.Cut()
		if got, err := a.Get("http://" + webB.Status.PodIP + ":8080"); err == nil {
			t.Fatalf("through the cut comes %q", got)
		}
		b.Heal()
		m.getsFrom(guest, fmt.Sprintf("http://%s:30082", a.Address), webB.Name)
		m.pod("after", b, nil, nil)
		m.running("after") // its worker speaks with the master
	})
	t.Run("what somebody has deleted is repaired", func(t *testing.T) {
		before := map[*Host]string{a: m.traces(a), b: m.traces(b)}
		for _, h := range []*Host{a, b} {
			for _, route := range m.lines(h, "proto 77", "ip", "route") {
				h.Run("ip", append([]string{"route", "delete"}, strings.Fields(route)...)...)
			}
			h.Run("nft", "delete", "table", "ip", "mini-k8s-mini")
			h.Run("iptables", "-F", "DOCKER-USER")
			h.Run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
		}
		b.Run("nft", "delete", "table", "ip", "mini-k8s-mini-services")
		r.Workers[1].Stop(os.Interrupt)
		r.Workers[1] = r.StartWorker(b) // a restart repairs at once, the timer soon
		for _, h := range []*Host{b, a} {
			r.Eventually(h.Name+" is as it was", func() error {
				if now := m.traces(h); now != before[h] {
					return fmt.Errorf("it was\n%s\nand is\n%s", before[h], now)
				}
				return nil
			})
		}
		m.hears(t, a, "on-b", b)
		m.hears(t, b, "on-a", a)
	})
	t.Run("a node that no cable leads to is told of", func(t *testing.T) {
		m.strayNode("stray", "203.0.113.7")
		r.Eventually("the worker says so", func() error {
			for _, word := range []string{"node stray cannot be reached from here", "203.0.113.7 is not on a network of this machine"} {
				if !strings.Contains(r.Workers[0].Printed(), word) {
					return errors.New(word)
				}
			}
			return nil
		})
		m.hears(t, a, "on-b", b)
	})
	t.Run("down removes what the worker has made, and nothing else", func(t *testing.T) {
		const others = "10.99.0.0/16 via 198.51.100.1 dev eth0 proto 77"
		b.Run("ip", append([]string{"route", "add"}, strings.Fields(others)...)...)
		b.Run("docker", "network", "create", "somebodys")
		b.Run("nft", "add", "table", "ip", "somebodys")
		b.Run("mini-k8s", "down") // stops the worker, too
		if left := m.traces(b); left != others+"\n" {
			t.Errorf("of all there is left\n%s", left)
		}
		b.Run("docker", "network", "inspect", "somebodys")
		b.Run("nft", "list", "table", "ip", "somebodys")
		if _, err := client.Of[*corev1.Node](r.Client).Delete(t.Context(), "", b.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		r.Eventually("no route leads to a node that is gone", func() error {
			if routes := m.lines(a, "proto 77", "ip", "route"); len(routes) > 0 {
				return fmt.Errorf("there are %v", routes)
			}
			return nil
		})
		a.Run("mini-k8s", "down")
		if left := m.traces(a); left != "" {
			t.Errorf("of all there is left\n%s", left)
		}
		m.get("web-" + a.Name) // the master and its state are no worker's
	})
}

// machines is a rig with a cluster on it.
type machines struct {
	*Rig
	t *testing.T
}

func (m *machines) pod(name string, on *Host, args []string, labels map[string]string) {
	m.t.Helper()
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels}, Spec: corev1.PodSpec{
		NodeName: on.Name, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "app", Image: images.HelloV1.Name, Args: args,
			Env: []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: field("metadata.name")}}}}}}
	if _, err := client.Of[*corev1.Pod](m.Client).Create(m.t.Context(), pod); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machines) get(name string) *corev1.Pod {
	m.t.Helper()
	pod, err := client.Of[*corev1.Pod](m.Client).Get(m.t.Context(), "default", name)
	if err != nil {
		m.t.Fatal(err)
	}
	return pod
}

func (m *machines) running(name string) *corev1.Pod {
	m.t.Helper()
	var pod *corev1.Pod
	m.Eventually(name+" runs", func() error {
		if pod = m.get(name); !api.PodReady(pod) {
			return fmt.Errorf("it is %+v", pod.Status)
		}
		return nil
	})
	return pod
}

// service leads to the pods on one host, at an address, and at a node port.
func (m *machines) service(name, address string, nodePort int32, on *Host) {
	m.t.Helper()
	_, err := client.Of[*corev1.Service](m.Client).Create(m.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: address, Selector: map[string]string{"on": on.Name},
			Ports: []corev1.ServicePort{{Port: 8080, NodePort: nodePort}}}})
	if err != nil {
		m.t.Fatal(err)
	}
}

var asked struct {
	sync.Mutex
	count int
}

// hears has a pod on one host ask for a name or an address, until the pod web on another answers; that must have seen the
// first one's own address.
func (m *machines) hears(t *testing.T, from *Host, name string, web *Host) {
	t.Helper()
	m.Eventually(fmt.Sprintf("a pod on %s hears %s", from.Name, name), func() error {
		asked.Lock()
		asked.count++
		ask := fmt.Sprint("ask-", asked.count)
		asked.Unlock()
		m.pod(ask, from, []string{"get", "http://" + name + ":8080/" + ask}, nil)
		var pod *corev1.Pod
		m.Eventually(ask+" has ended", func() error {
			if pod = m.get(ask); pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
				return fmt.Errorf("it is %+v", pod.Status)
			}
			return nil
		})
		if got := m.Hosts[0].Run("mini-k8s", "logs", ask); !strings.Contains(got, "hello from web-"+web.Name) {
			return fmt.Errorf("it hears %q", got)
		}
		seen := fmt.Sprintf("GET /%s from %s:", ask, pod.Status.PodIP)
		if log := m.Hosts[0].Run("mini-k8s", "logs", "web-"+web.Name); pod.Status.PodIP == "" || !strings.Contains(log, seen) {
			t.Errorf("%q is not in the other's log:\n%s", seen, log)
		}
		return nil
	})
}

// getsFrom asks from a host until the pod answers.
func (m *machines) getsFrom(from *Host, url, pod string) {
	m.t.Helper()
	m.Eventually(from.Name+" hears "+url, func() error {
		if got, err := from.Get(url); err != nil || !strings.Contains(got, "hello from "+pod+" ") {
			return fmt.Errorf("it hears %q (%v)", got, err)
		}
		return nil
	})
}

// lines returns those of a command's output that have the words.
func (m *machines) lines(h *Host, words string, name string, args ...string) (found []string) {
	m.t.Helper()
	for line := range strings.Lines(h.Run(name, args...)) {
		if strings.Contains(line, words) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// traces is what a worker has made on a host, in order.
func (m *machines) traces(h *Host) string {
	m.t.Helper()
	var all []string
	for _, command := range []string{"iptables -S DOCKER-USER", "nft list tables", "docker network ls --format {{.Name}}", "find /var/lib/mini-k8s -path */worker-*",
		"docker ps -a --format {{.Labels}}", "nft list ruleset"} {
		words := strings.Fields(command)
		all = append(all, m.lines(h, "mini-k8s", words[0], words[1:]...)...)
	}
	all = append(all, m.lines(h, "proto 77", "ip", "route")...)
	all = append(all, m.lines(h, "mk8s-", "ip", "-br", "link")...)
	slices.Sort(all)
	return strings.Join(append(slices.Compact(all), ""), "\n")
}

// strayNode is one whose machine is not there.
func (m *machines) strayNode(name, address string) {
	m.t.Helper()
	nodes := client.Of[*corev1.Node](m.Client)
	node, err := nodes.Create(m.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err == nil {
		node.ResourceVersion = ""
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		_, err = nodes.UpdateStatus(m.t.Context(), node)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}
