package dns

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// coreDNS is the version that is measured against, built with the plug-ins that serving a zone takes.
const coreDNS = "v1.14.5"

// BenchmarkQueries asks our server and CoreDNS, each in a process of its own, the same questions of the same zone, in turns:
// services, ports, a headless service, and names that do not exist, as search lists make them.
func BenchmarkQueries(b *testing.B) {
	ours := startOurs(b)
	theirs := startCoreDNS(b, zoneOf(b, ours))
	var rates [2][]float64
	for b.Loop() {
		for i, address := range []string{ours, theirs} {
			rates[i] = append(rates[i], queriesPerSecond(b, address))
		}
	}
	for i := range rates {
		slices.Sort(rates[i])
	}
	mine, core := rates[0][len(rates[0])/2], rates[1][len(rates[1])/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(mine, "queries/s")
	b.ReportMetric(core, "CoreDNS-queries/s")
	b.ReportMetric(mine/core, "ratio")
}

// The questions, each with whether there is an answer.
var questions = []struct {
	name   string
	qtype  uint16
	exists bool
}{
	{"web.default.svc.cluster.local.", dns.TypeA, true},
	{"web.default.svc.cluster.local.", dns.TypeAAAA, true},
	{"db.default.svc.cluster.local.", dns.TypeA, true},
	{"first.db.default.svc.cluster.local.", dns.TypeA, true},
	{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, true},
	{"_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV, true},
	{"example.com.default.svc.cluster.local.", dns.TypeA, false},
	{"example.com.svc.cluster.local.", dns.TypeA, false},
}

// queriesPerSecond asks from as many sockets as a few pods have, for a while.
func queriesPerSecond(b *testing.B, address string) float64 {
	const sockets, length = 16, time.Second
	var packets [][]byte
	for _, q := range questions {
		packet, err := new(dns.Msg).SetQuestion(q.name, q.qtype).SetEdns0(1232, false).Pack()
		if err != nil {
			b.Fatal(err)
		}
		packets = append(packets, packet)
	}
	var group sync.WaitGroup
	var answers atomic.Int64
	start := time.Now()
	for range sockets {
		group.Go(func() {
			c, err := net.Dial("udp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(start.Add(length + 5*time.Second))
			buffer := make([]byte, dns.MaxMsgSize)
			for i := 0; time.Since(start) < length; i++ {
				question := i % len(packets)
				c.Write(packets[question])
				n, err := c.Read(buffer)
				if err != nil || n < 12 || buffer[0] != packets[question][0] || buffer[1] != packets[question][1] ||
					(buffer[3]&0xf == dns.RcodeSuccess) != questions[question].exists {
					b.Errorf("%s: %x, %v", questions[question].name, buffer[:n], err)
					return
				}
				answers.Add(1)
			}
		})
	}
	group.Wait()
	return float64(answers.Load()) / time.Since(start).Seconds()
}

const serveForTheBenchmark = "MINI_K8S_SERVE_DNS"

// startOurs runs this test's program once more, as a server.
func startOurs(b *testing.B) string {
	b.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^TestServeForTheBenchmark$")
	command.Env = append(os.Environ(), serveForTheBenchmark+"=1")
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start(b, command)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, is := strings.CutPrefix(lines.Text(), "serving at "); is {
			return address
		}
	}
	b.Fatal("our server does not start")
	return ""
}

func TestServeForTheBenchmark(t *testing.T) {
	if os.Getenv(serveForTheBenchmark) == "" {
		t.Skip("it is for the benchmark, which starts it")
	}
	s, _ := newServer(t)
	fmt.Println("\nserving at", s.Address())
	io.Copy(io.Discard, os.Stdin)
}

// start starts a server that ends when the benchmark does.
func start(b *testing.B, command *exec.Cmd) {
	b.Helper()
	stdin, err := command.StdinPipe() // which closes with this process
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		command.Process.Kill()
		command.Wait()
	})
}

// zoneOf returns the file of a zone with the answers of our server.
func zoneOf(b *testing.B, address string) string {
	b.Helper()
	records := map[string]bool{}
	ask := func(name string, qtype uint16) {
		m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(name, qtype), address)
		if err != nil {
			b.Fatal(err)
		}
		for _, record := range slices.Concat(m.Answer, m.Extra) {
			records[record.String()] = true
		}
	}
	ask("cluster.local.", dns.TypeNS)
	ask("ns.dns.cluster.local.", dns.TypeA)
	for _, q := range questions {
		ask(q.name, q.qtype)
	}
	m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("cluster.local.", dns.TypeSOA), address)
	if err != nil {
		b.Fatal(err)
	}
	text := m.Answer[0].String() + "\n"
	for record := range records {
		text += record + "\n"
	}
	return text
}

func startCoreDNS(b *testing.B, zone string) string {
	b.Helper()
	dir := b.TempDir()
	address := again(b, func() (string, error) {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.LocalAddr().String(), nil
	})
	host, port, _ := net.SplitHostPort(address)
	for name, text := range map[string]string{
		"go.mod": "module peer\ngo 1.26\n",
		"main.go": `package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/file"
)

func main() { dnsserver.Directives = []string{"bind", "file"}; coremain.Run() }
`,
		"zone":     zone,
		"Corefile": fmt.Sprintf("cluster.local:%s {\n  bind %s\n  file %s\n}\n", port, host, filepath.Join(dir, "zone")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, args := range [][]string{{"get", "github.com/coredns/coredns@" + coreDNS}, {"mod", "tidy"}, {"build", "-o", "coredns", "."}} {
		command := exec.Command("go", args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			b.Skipf("CoreDNS %s is not to be had: go %s: %v\n%s", coreDNS, args[0], err, out)
		}
	}
	start(b, exec.Command(filepath.Join(dir, "coredns"), "-conf", filepath.Join(dir, "Corefile")))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(questions[0].name, questions[0].qtype), address)
		if err == nil && len(m.Answer) == 1 {
			return address
		}
		if time.Now().After(deadline) {
			b.Fatalf("CoreDNS does not answer: %v %v", m, err)
		}
	}
}
