package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/control"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkGrowth is a Deployment on a tenth as many nodes: from its creation until all pods run, and what that takes of
// the master, which is a process of its own. As long as the figures for a pod stay the same from size to size, nothing
// grows faster than the cluster does.
//
// What the nodes ask for is counted on their side; of the master's own loops only the writes are, as revisions.
func BenchmarkGrowth(b *testing.B) {
	for _, pods := range []int{500, 2000, 5000} {
		b.Run(fmt.Sprint(pods), func(b *testing.B) {
			for b.Loop() {
				grow(b, pods)
			}
		})
	}
}

func grow(b *testing.B, pods int) {
	c, process, kubeconfig := startMaster(b)
	nodes := &counter{}
	startNodes(b, c, pods/10, nodes.connect(b, kubeconfig))
	time.Sleep(3 * time.Second) // let them come to rest
	before, asked, wrote, used := revision(b, c), nodes.all.Load(), nodes.writes.Load(), cpuTime(b, process.Pid)
	bindings := watchBindings(b, c, before, pods)
	start := time.Now()
	runDeployment(b, c, int32(pods))
	took := time.Since(start)
	cpu := cpuTime(b, process.Pid) - used
	writes := float64(revision(b, c) - before)
	calls := float64(nodes.all.Load()-asked) + writes - float64(nodes.writes.Load()-wrote)
	each := float64(pods)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took.Seconds(), "s")
	b.ReportMetric(took.Seconds()/each*1000, "ms/pod")
	b.ReportMetric(each/bindings().Seconds(), "decisions/s")
	b.ReportMetric(writes/each, "writes/pod")
	b.ReportMetric(calls/each, "calls/pod")
	b.ReportMetric(cpu.Seconds()/each*1000, "cpu-ms/pod")
	b.ReportMetric(float64(memory(b, process.Pid, "VmHWM:"))/1e6, "MB-peak")
}

// revision returns how many writes there have been.
func revision(b *testing.B, c *client.Client) int64 {
	list, err := client.Of[*corev1.Pod](c).List(b.Context(), client.Selection{Fields: "metadata.name=none"})
	if err != nil {
		b.Fatal(err)
	}
	return control.Revision(list.ResourceVersion)
}

// watchBindings counts pods that get a node. What it returns waits for the last and returns after how long that came to
// the first.
func watchBindings(b *testing.B, c *client.Client, after int64, pods int) (wait func() time.Duration) {
	query := url.Values{"watch": {"true"}, "resourceVersion": {strconv.FormatInt(after, 10)}, "fieldSelector": {"spec.nodeName!="}}
	response, err := c.Stream(b.Context(), client.Request{Method: http.MethodGet, Path: "/api/v1/pods", Query: query})
	if err != nil {
		b.Fatal(err)
	}
	took := make(chan time.Duration, 1)
	go func() {
		defer response.Body.Close()
		var first time.Time
		lines := bufio.NewReaderSize(response.Body, 64<<10)
		for bound := 0; bound < pods; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				b.Error(err)
				break
			}
			if bytes.HasPrefix(line, []byte(`{"type":"ADDED"`)) {
				if bound++; bound == 1 {
					first = time.Now()
				}
			}
		}
		took <- time.Since(first)
	}()
	return func() time.Duration { return <-took }
}

// counter counts requests.
type counter struct{ all, writes atomic.Int64 }

// connect returns clients that count, each with the name of its node and connections of its own.
func (c *counter) connect(b *testing.B, kubeconfig string) func(node string) *client.Client {
	b.Helper()
	config, err := pki.ReadKubeconfig(kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	ca, err := pki.LoadOrCreate(filepath.Join(filepath.Dir(kubeconfig), "pki"))
	if err != nil {
		b.Fatal(err)
	}
	return func(node string) *client.Client {
		pair, err := ca.Issue(pki.NodePrefix + node)
		if err != nil {
			b.Fatal(err)
		}
		tls, err := pki.ClientTLS(config.CAPEM, pair)
		if err != nil {
			b.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true}
		b.Cleanup(transport.CloseIdleConnections)
		return client.New(client.Config{Server: config.Server, Name: node, Transport: counted{c, transport}})
	}
}

type counted struct {
	*counter
	next http.RoundTripper
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.all.Add(1); r.Method != http.MethodGet {
		c.writes.Add(1)
	}
	return c.next.RoundTrip(r)
}
