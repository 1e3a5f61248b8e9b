package network

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/vishvananda/netlink"

	"workshop/mini-k8s/images"
)

func TestPodsReachEachOtherAcrossNodesAndRemoveLeavesTheHostAsItWas(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	before := hostState(t, docker, cluster, all)

	var pods []string
	for i, node := range []string{"node-1", "node-2"} {
		config := Config{Cluster: cluster, Node: node, PodCIDR: nodeCIDR(all, i+1), ClusterCIDR: all.String()}
		name := mustEnsure(t, docker, config)
		pods = append(pods, address(t, docker, start(t, docker, name), name))
		if !netip.MustParsePrefix(config.PodCIDR).Contains(netip.MustParseAddr(pods[i])) {
			t.Errorf("the pod on %s has address %s, not of %s", node, pods[i], config.PodCIDR)
		}
	}
	if during := hostState(t, docker, cluster, all); before != "" || strings.Count(during, "ACCEPT") < 2 || !strings.Contains(during, "masquerade") {
		t.Errorf("the host's state before:\n%s\nwith two nodes:\n%s", before, during)
	}
	for _, pod := range pods {
		url := "http://" + pod + ":8080/"
		eventually(t, "the host reaches "+pod, func() bool {
			response, err := http.Get(url)
			if err == nil {
				response.Body.Close()
			}
			return err == nil
		})
	}
	// From inside a pod on each node to the pod on the other, which must see the caller's own address.
	for i, node := range []string{"node-1", "node-2"} {
		name := fmt.Sprintf("mini-k8s-%s-%s", cluster, node)
		if got := output(t, docker, start(t, docker, name, "get", "http://"+pods[1-i]+":8080/from-"+node)); !strings.HasPrefix(got, "hello from") {
			t.Errorf("a pod on %s, asking the pod on the other node, got %q", node, got)
		}
		if from := logged(t, docker, "/from-"+node); !netip.MustParsePrefix(nodeCIDR(all, i+1)).Contains(from) {
			t.Errorf("the pod on the other node saw the caller from %s as %s", node, from)
		}
	}

	removeContainers(t, docker)
	for range 2 { // the second time there is nothing to do
		if err := Remove(t.Context(), docker, cluster); err != nil {
			t.Fatal(err)
		}
	}
	if after := hostState(t, docker, cluster, all); after != before {
		t.Errorf("Remove left the host other than it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func TestAnotherMachineReachesPodsAndSeesThemAsTheirHost(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	name := mustEnsure(t, docker, Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()})
	pod := address(t, docker, start(t, docker, name), name)

	// The other machine is a network namespace with a cable to this one.
	machine, cable := "m"+cluster[len(cluster)-8:], "c"+cluster[len(cluster)-8:]
	must := func(command ...string) {
		t.Helper()
		if _, err := run(context.WithoutCancel(t.Context()), "", command[0], command[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	must("ip", "netns", "add", machine)
	t.Cleanup(func() { must("ip", "netns", "delete", machine) })
	must("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine)
	must("ip", "address", "add", "198.51.100.1/30", "dev", cable)
	must("ip", "link", "set", cable, "up")
	must("ip", "-n", machine, "address", "add", "198.51.100.2/30", "dev", "eth0")
	must("ip", "-n", machine, "link", "set", "eth0", "up")
	must("ip", "-n", machine, "route", "add", all.String(), "via", "198.51.100.1")

	hello := filepath.Join(t.TempDir(), "hello")
	must("go", "build", "-o", hello, "workshop/mini-k8s/images/hello")
	inside := func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "ip", append([]string{"netns", "exec", machine, hello}, args...)...)
	}
	eventually(t, "the other machine reaches the pod", func() bool {
		out, err := inside("get", "http://"+pod+":8080/from-afar").CombinedOutput()
		return err == nil && strings.HasPrefix(string(out), "hello from")
	})
	if from := logged(t, docker, "/from-afar"); from != netip.MustParseAddr("198.51.100.2") {
		t.Errorf("the pod saw the other machine as %s", from)
	}

	server := inside()
	log, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	lines.Scan() // it listens
	if got := output(t, docker, start(t, docker, name, "get", "http://198.51.100.2:8080/from-a-pod")); !strings.HasPrefix(got, "hello from") {
		t.Errorf("a pod, asking another machine, got %q", got)
	}
	if lines.Scan(); !strings.Contains(lines.Text(), "/from-a-pod from 198.51.100.1:") {
		t.Errorf("the other machine saw %q, want the host's address 198.51.100.1", lines.Text())
	}
	server.Process.Kill()
	server.Wait()
}

func TestEnsureAgainWritesNothing(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	config := Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()}
	mustEnsure(t, docker, config)
	before, written := hostState(t, docker, cluster, all), handles(t, cluster, all)
	mustEnsure(t, docker, config)
	if after := hostState(t, docker, cluster, all); after != before {
		t.Errorf("the second Ensure changed the host.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	if after := handles(t, cluster, all); after != written {
		t.Errorf("the second Ensure wrote rules that were there.\nbefore:\n%s\nafter:\n%s", written, after)
	}
}

// handles returns the cluster's rules and its table with the numbers that the kernel gives to all that is written.
func handles(t *testing.T, cluster string, all netip.Prefix) string {
	t.Helper()
	rules, err := run(t.Context(), "", "nft", "--handle", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	var found strings.Builder
	for line := range strings.Lines(volatile.ReplaceAllString(rules, "")) {
		if strings.Contains(line, cluster) || strings.Contains(line, all.String()) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func TestEnsureRepairsATableThatSomebodyHasSpoiled(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	config := Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()}
	mustEnsure(t, docker, config)
	for _, spoil := range []string{"delete table ip %s", "flush chain ip %s postrouting", "delete chain ip %s prerouting", "add rule ip %s postrouting accept"} {
		if err := Apply(t.Context(), fmt.Sprintf(spoil, table(cluster))); err != nil {
			t.Fatal(err)
		}
		mustEnsure(t, docker, config)
		now, err := run(t.Context(), "", "nft", "list", "table", "ip", table(cluster))
		if want := masquerade(cluster, all.String()); err != nil || now != want {
			t.Errorf("after %q there is\n%s(%v), want\n%s", spoil, now, err, want)
		}
	}
}

func TestEnsureRepairsTheBridgeAndTheRules(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	config := Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()}
	mustEnsure(t, docker, config)
	before := hostState(t, docker, cluster, all)
	if err := removeRules(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), "", "ip", "link", "delete", Bridge(cluster, "node-1")); err != nil {
		t.Fatal(err)
	}
	name := mustEnsure(t, docker, config)
	if after := hostState(t, docker, cluster, all); after != before {
		t.Errorf("not all is repaired.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	start(t, docker, name)
}

func TestEnsureWithAnotherRangeReplacesOnlyAnEmptyNetwork(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	config := Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()}
	mustEnsure(t, docker, config)
	config.PodCIDR = nodeCIDR(all, 2)
	name := mustEnsure(t, docker, config)
	start(t, docker, name)
	config.PodCIDR = nodeCIDR(all, 3)
	if _, err := Ensure(t.Context(), docker, config); err == nil || !strings.Contains(err.Error(), "delete the pods of node node-1 first") {
		t.Errorf("Ensure took away the range of a container that runs; its error is %v", err)
	}
	if found, err := docker.NetworkInspect(t.Context(), name, network.InspectOptions{}); err != nil || found.IPAM.Config[0].Subnet != nodeCIDR(all, 2) {
		t.Errorf("the network is %+v (%v)", found.IPAM, err)
	}
}

func TestFreeCIDRNamesTheConflict(t *testing.T) {
	docker := dockerOrSkip(t)
	cluster, all := newCluster(t, docker)
	config := Config{Cluster: cluster, Node: "node-1", PodCIDR: nodeCIDR(all, 1), ClusterCIDR: all.String()}
	mustEnsure(t, docker, config)

	if got, err := FreeCIDR(t.Context(), docker, cluster, all.String()); err != nil || got != all.String() {
		t.Errorf("a cluster is in its own way: %q, %v", got, err)
	}
	if _, err := FreeCIDR(t.Context(), docker, "other", all.String()); err == nil || !strings.Contains(err.Error(), "mini-k8s-"+cluster+"-node-1") {
		t.Errorf("the conflict's error is %v, want the network named", err)
	}
	if got, err := FreeCIDR(t.Context(), docker, "other", ""); err != nil || got == all.String() {
		t.Errorf("the free range for another cluster is %q, %v; %s is taken", got, err, all)
	}
}

func TestTheDefaultRouteAndTheClustersOwnDoNotCount(t *testing.T) {
	names := []string{"", "eth0", "tun0", "mk8s-1"}
	through := func(index int, to string, marks ...int) netlink.Route {
		r := netlink.Route{LinkIndex: index}
		_, r.Dst, _ = net.ParseCIDR(to)
		if marks != nil {
			r.Protocol, r.Priority = protocol, marks[0]
		}
		return r
	}
	all := []netlink.Route{through(1, "0.0.0.0/0"), through(1, ""), through(2, "10.244.0.0/15"), through(1, "10.9.9.9/32"), through(3, "10.250.1.0/24"),
		through(1, "10.250.2.0/24", metric("x")), through(1, "10.251.2.0/24", metric("y"))}
	want := []use{{netip.MustParsePrefix("10.244.0.0/15"), "a route through tun0"},
		{netip.MustParsePrefix("10.9.9.9/32"), "a route through eth0"}, {netip.MustParsePrefix("10.251.2.0/24"), "a route through eth0"}}
	if got := usedRanges("x", nil, all, func(index int) string { return names[index] }); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOnlyTheClustersRulesAreOurs(t *testing.T) {
	got := oursAmong(`-P FORWARD DROP
-A DOCKER-USER -s 10.244.0.0/16 -m comment --comment "mini-k8s/demo" -j ACCEPT
-A DOCKER-USER -d 10.245.0.0/16 -m comment --comment "mini-k8s/demo-2" -j ACCEPT
-A FORWARD -d 10.244.0.0/16 -m comment --comment "mini-k8s/demo" -j ACCEPT
-A DOCKER-USER -d 10.244.0.0/16 -m comment --comment mini-k8s/demo -j ACCEPT
-A DOCKER-USER -j RETURN
`, "demo")
	want := "[[DOCKER-USER -s 10.244.0.0/16 -m comment --comment mini-k8s/demo -j ACCEPT] " +
		"[DOCKER-USER -d 10.244.0.0/16 -m comment --comment mini-k8s/demo -j ACCEPT]]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// newCluster returns a name of its own and a free range. All that it has is removed at the end of the test.
func newCluster(t *testing.T, docker *client.Client) (string, netip.Prefix) {
	t.Helper()
	cluster := fmt.Sprintf("test-%d", time.Now().UnixNano())
	// A random range: tests of other packages may look for one at the same time. (Some of theirs are fixed, from 10.230 on.)
	var cidr string
	for range 10 {
		var err error
		if cidr, err = FreeCIDR(t.Context(), docker, cluster, fmt.Sprintf("10.%d.0.0/16", 100+rand.IntN(130))); err == nil {
			break
		}
		t.Log(err)
	}
	t.Cleanup(func() {
		if err := Remove(context.WithoutCancel(t.Context()), docker, cluster); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { removeContainers(t, docker) })
	return cluster, netip.MustParsePrefix(cidr)
}

func nodeCIDR(all netip.Prefix, node int) string {
	bytes := all.Addr().As4()
	bytes[2] = byte(node)
	return netip.PrefixFrom(netip.AddrFrom4(bytes), 24).String()
}

func mustEnsure(t *testing.T, docker *client.Client, config Config) string {
	t.Helper()
	if _, err := Ensure(t.Context(), docker, config); err != nil {
		t.Fatal(err)
	}
	return Name(config.Cluster, config.Node)
}

// started are the containers of the test, by its name.
func started(t *testing.T) string { return "mini-k8s-test-" + strings.ReplaceAll(t.Name(), "/", "-") }

func start(t *testing.T, docker *client.Client, network string, args ...string) string {
	t.Helper()
	created, err := docker.ContainerCreate(t.Context(), &container.Config{Image: images.HelloV1.Name, Cmd: args},
		&container.HostConfig{NetworkMode: container.NetworkMode(network)}, nil, nil, fmt.Sprintf("%s-%d", started(t), time.Now().UnixNano()))
	if err == nil {
		err = docker.ContainerStart(t.Context(), created.ID, container.StartOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return created.ID
}

func own(t *testing.T, docker *client.Client) []string {
	t.Helper()
	found, err := docker.ContainerList(context.WithoutCancel(t.Context()), container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range found {
		if slices.ContainsFunc(c.Names, func(name string) bool { return strings.HasPrefix(name, "/"+started(t)+"-") }) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func removeContainers(t *testing.T, docker *client.Client) {
	t.Helper()
	for _, id := range own(t, docker) {
		if err := docker.ContainerRemove(context.WithoutCancel(t.Context()), id, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

func address(t *testing.T, docker *client.Client, id, network string) string {
	t.Helper()
	inspected, err := docker.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return inspected.NetworkSettings.Networks[network].IPAddress
}

// output waits for the container's end and returns what it wrote.
func output(t *testing.T, docker *client.Client, id string) string {
	t.Helper()
	logs, err := docker.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, logs); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// logged finds who asked for the path, in the log of whichever container was asked.
func logged(t *testing.T, docker *client.Client, path string) netip.Addr {
	t.Helper()
	request := regexp.MustCompile("GET " + path + ` from ([0-9.]+):`)
	for _, id := range own(t, docker) {
		logs, err := docker.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		stdcopy.StdCopy(&out, &out, logs)
		logs.Close()
		if found := request.FindStringSubmatch(out.String()); found != nil {
			return netip.MustParseAddr(found[1])
		}
	}
	t.Fatalf("no container was asked for %s", path)
	return netip.Addr{}
}

// hostState is what the host has of a cluster: rules, routes and networks, sorted and without packet counters. Other
// tests may change the rest at the same time.
func hostState(t *testing.T, docker *client.Client, cluster string, all netip.Prefix) string {
	t.Helper()
	marks := []string{cluster, Bridge(cluster, "node-1"), Bridge(cluster, "node-2"), strings.TrimSuffix(all.Addr().String(), "0.0")}
	var text strings.Builder
	for _, command := range [][]string{{"iptables-save"}, {"nft", "list", "ruleset"}, {"ip", "-4", "route"}, {"ip", "-o", "link"}} {
		out, err := run(t.Context(), "", command[0], command[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(out)
	}
	networks, err := list(t.Context(), docker)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		fmt.Fprintln(&text, n.Name, n.IPAM.Config, n.Options)
	}
	var lines []string
	for line := range strings.Lines(volatile.ReplaceAllString(text.String(), "")) {
		if slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(line, mark) }) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// volatile is what changes by itself: packet counters, whether a link has a peer, the number and address of a device.
var volatile = regexp.MustCompile(`\[\d+:\d+\]|packets \d+ bytes \d+| linkdown|(?m)^\d+: |<.*|link/ether .*`)

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// dockerOrSkip returns a client and sees to the image, or skips the test where the rules cannot be set.
func dockerOrSkip(t *testing.T) *client.Client {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	if _, err := docker.Ping(t.Context()); err != nil {
		missing(t, fmt.Errorf("no Docker daemon answers: %w", err))
	}
	if !CanSetRules(docker) {
		missing(t, ErrSameNodeOnly)
	}
	for _, tool := range []string{"iptables", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, err)
		}
	}
	if err := images.Ensure(t.Context(), docker, images.HelloV1); err != nil {
		t.Fatal(err)
	}
	return docker
}

func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}
