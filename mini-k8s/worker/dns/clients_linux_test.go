package dns

// The server as programs meet it that know nothing of us: dig, Go's own resolver, and libc's, which getent asks. Each runs
// with the resolv.conf of a pod, laid over this machine's in a mount namespace of its own.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"workshop/mini-k8s/master/mastertest"

	"github.com/miekg/dns"
)

func TestEveryClientResolvesTheNames(t *testing.T) {
	world := newElsewhere(t, func(_ *elsewhere, w dns.ResponseWriter, r *dns.Msg) {
		if q := r.Question[0]; q.Name == "example.com." && q.Qtype == dns.TypeA {
			r = reply(r, "example.com. 60 IN A 192.0.2.1")
		} else {
			r = new(dns.Msg).SetRcode(r, dns.RcodeNameError)
		}
		w.WriteMsg(r)
	})
	p := newPod(t, world.address)
	clients := map[string]func(t *testing.T, qtype, name string) []string{"dig": p.dig, "Go": p.goResolver, "libc": p.libc}
	both := "10.244.1.2 10.244.2.2"
	for _, row := range []struct{ what, qtype, name, want string }{
		{"a service of the same namespace", "A", "web", "10.96.0.10"},
		{"one of another", "A", "web.default", "10.96.0.10"},
		{"a name in full", "A", "web.default.svc.cluster.local.", "10.96.0.10"},
		{"a headless service", "A", "db", both},
		{"a pod by hostname and subdomain", "A", "first.db", "10.244.1.2"},
		{"a pod without hostname", "A", "10-244-2-2.db", "10.244.2.2"},
		{"an alias inside", "A", "alias", "10.96.0.10"},
		{"an alias to elsewhere", "A", "away", "192.0.2.1"},
		{"a name of the world", "A", "example.com", "192.0.2.1"},
		{"what is not there", "A", "none", ""},
		{"what has no address", "A", "empty", ""},
		{"the name of a service's address", "PTR", "10.96.0.10", "web.default.svc.cluster.local"},
		{"the name of a pod's address", "PTR", "10.244.1.2", "first.db.default.svc.cluster.local"},
		{"an address that nobody has", "PTR", "10.96.7.7", ""},
		{"the port of a service", "SRV", "_http._tcp.web", "0 100 80 web.default.svc.cluster.local"},
		{"the ports of pods", "SRV", "_http._tcp.db", "0 100 8080 10-244-2-2.db.default.svc.cluster.local 0 100 8080 first.db.default.svc.cluster.local"},
	} {
		for client, ask := range clients {
			if client == "libc" && row.qtype == "SRV" {
				continue // it has no question for that
			}
			t.Run(row.what+", by "+client, func(t *testing.T) {
				if got := strings.Join(ask(t, row.qtype, row.name), " "); got != row.want {
					t.Errorf("%s %s is %q, want %q", row.qtype, row.name, got, row.want)
				}
			})
		}
	}

	grow(t, p.bench)
	mastertest.Eventually(t, "the service has grown", func() bool {
		m, _, err := (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetQuestion("db.default.svc.cluster.local.", dns.TypeA), p.server.Address())
		return err == nil && len(m.Answer) == 202
	})
	for client, ask := range clients {
		if got := ask(t, "A", "db"); len(got) != 202 {
			t.Errorf("%s hears %d addresses of a service that has too many for a datagram", client, len(got))
		}
	}
}

// What resolvers keep from those who ask them, dig shows.
func TestDigSeesTheFormOfAnswers(t *testing.T) {
	p := newPod(t)
	grow(t, p.bench)
	const no, big = "none.default.svc.cluster.local.", "db.default.svc.cluster.local."
	mastertest.Eventually(t, "the service has grown", func() bool { return strings.Contains(p.run(t, "dig", "+tcp", big), "ANSWER: 202") })
	for _, row := range []struct {
		args string
		want []string
	}{
		{no, []string{"status: NXDOMAIN", "flags: qr aa rd ra;", "AUTHORITY: 1", "SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"}},
		{"web.default.svc.cluster.local. AAAA", []string{"status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "SOA ns.dns.cluster.local."}},
		{"_http._tcp.web.default.svc.cluster.local. SRV", []string{"ANSWER: 1", "ADDITIONAL SECTION: web.default.svc.cluster.local. 5 IN A 10.96.0.10"}},
		{"+bufsize=512 " + big, []string{"Truncated, retrying in TCP mode", "ANSWER: 202"}},
		{"+ignore +bufsize=1232 " + big, []string{"flags: qr aa tc rd ra;", "EDNS: version: 0, flags:; udp: 4096"}},
		{"+ignore +noedns " + big, []string{"flags: qr aa tc rd ra;"}},
		{"+edns=1 +noednsnegotiation " + no, []string{"status: BADVERS", "EDNS: version: 0"}},
	} {
		out := strings.Join(strings.Fields(p.run(t, append([]string{"dig"}, strings.Fields(row.args)...)...)), " ")
		for _, want := range row.want {
			if !strings.Contains(out, want) {
				t.Errorf("dig %s has no %q: %s", row.args, want, out)
			}
		}
		if strings.Contains(row.args, "+noedns ") && strings.Contains(out, "EDNS:") {
			t.Errorf("dig %s has EDNS in the answer to a client without: %s", row.args, out)
		}
	}
}

// pod is where a client runs.
type pod struct {
	server *Server
	bench  *mastertest.Bench
	files  string // where its resolv.conf is
}

// newPod starts a server at port 53 of an address of loopback: there is no other port in a resolv.conf.
func newPod(t *testing.T, upstream ...string) *pod {
	t.Helper()
	var missing error
	for _, program := range []string{"dig", "getent", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = err
		}
	}
	if os.Geteuid() != 0 || missing != nil {
		reason := fmt.Sprint("this takes root on Linux, and dig, getent and unshare: ", missing)
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	pid := os.Getpid()
	address := fmt.Sprintf("127.%d.%d.%d", 64+pid>>16&63, pid>>8&255, pid&255)
	p := &pod{files: t.TempDir()}
	p.server, p.bench = newServerAt(t, net.JoinHostPort(address, "53"), upstream...)
	for name, text := range map[string]string{
		"resolv.conf":   "nameserver " + address + "\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
		"nsswitch.conf": "hosts: dns\n",
	} {
		if err := os.WriteFile(filepath.Join(p.files, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// run returns what a program prints. That it finds nothing is no failure.
func (p *pod) run(t *testing.T, command ...string) string {
	t.Helper()
	const inside = `for name in resolv.conf nsswitch.conf; do mount --bind "$0/$name" "/etc/$name" || exit 99; done; exec "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", inside, p.files}, command...)...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if found := cmd.ProcessState.ExitCode(); err != nil && (found < 0 || found > 2) || errors.Len() > 0 {
		t.Fatalf("%v: %v\n%s%s", command, err, out, errors.String())
	}
	return string(out)
}

// dig returns the records at the end of all aliases, as the others do.
func (p *pod) dig(t *testing.T, qtype, name string) []string {
	t.Helper()
	args := []string{"dig", "+search", "+noall", "+answer", "-t", qtype, name}
	if qtype == "PTR" {
		args = []string{"dig", "+noall", "+answer", "-x", name}
	}
	var found []string
	for line := range strings.Lines(p.run(t, args...)) {
		if fields := strings.Fields(line); fields[0][0] != ';' && fields[3] == qtype {
			found = append(found, strings.TrimSuffix(strings.Join(fields[4:], " "), "."))
		}
	}
	slices.Sort(found)
	return found
}

func (p *pod) libc(t *testing.T, qtype, name string) (found []string) {
	t.Helper()
	database := "ahosts"
	if qtype == "PTR" {
		database = "hosts"
	}
	for line := range strings.Lines(p.run(t, "getent", database, name)) {
		switch fields := strings.Fields(line); {
		case qtype == "PTR":
			found = append(found, fields[1])
		case fields[1] == "STREAM": // each address is there for each kind of socket
			found = append(found, fields[0])
		}
	}
	slices.Sort(found)
	return found
}

const resolveAsAPod = "MINI_K8S_RESOLVE"

func (p *pod) goResolver(t *testing.T, qtype, name string) (found []string) {
	t.Helper()
	out := p.run(t, "env", "GORACE=atexit_sleep_ms=0", resolveAsAPod+"="+qtype+" "+name, os.Args[0], "-test.run", "^TestResolveAsAPod$")
	for line := range strings.Lines(out) {
		if record, is := strings.CutPrefix(line, "record "); is {
			found = append(found, strings.TrimSuffix(strings.TrimSpace(record), "."))
		}
	}
	slices.Sort(found)
	return found
}

// Go reads resolv.conf as it starts: so this test's program runs once more, where that of a pod is.
func TestResolveAsAPod(t *testing.T) {
	qtype, name, asked := strings.Cut(os.Getenv(resolveAsAPod), " ")
	if !asked {
		t.Skip("it is for the test of the clients, which starts it")
	}
	resolver := net.Resolver{PreferGo: true}
	var found []string
	var err error
	switch qtype {
	case "A":
		found, err = resolver.LookupHost(context.Background(), name)
	case "PTR":
		found, err = resolver.LookupAddr(context.Background(), name)
	case "SRV":
		var ports []*net.SRV
		_, ports, err = resolver.LookupSRV(context.Background(), "", "", name)
		for _, port := range ports {
			found = append(found, fmt.Sprint(port.Priority, port.Weight, port.Port, " ", port.Target))
		}
	}
	if failure, is := err.(*net.DNSError); err != nil && !(is && failure.IsNotFound) {
		t.Error(err)
	}
	for _, record := range found {
		fmt.Println("\nrecord", record)
	}
}
