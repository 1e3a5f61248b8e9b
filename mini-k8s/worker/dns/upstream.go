package dns

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	// patience is how long one of those further up has for an answer before the next is asked.
	patience = 2 * time.Second
	// longest is for how long an answer is kept at most, and failed for how long it is that nobody answered.
	longest = 30 * time.Second
	failed  = time.Second
	// most is how many answers are kept.
	most = 4096
)

// upstream asks others, and keeps what they say for as long as they say that it is good.
type upstream struct {
	servers []string
	kept    *cache.LRUExpireCache // by question
}

type kept struct {
	answer *dns.Msg // shared: never changed
	at     time.Time
}

// Upstreams returns the servers that a resolv.conf names, but for those in not: a server must not ask itself.
func Upstreams(resolvConf string, not ...string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("find the DNS servers of this machine: %w", err)
	}
	var servers []string
	for _, server := range config.Servers {
		if !slices.Contains(not, server) {
			servers = append(servers, net.JoinHostPort(server, config.Port))
		}
	}
	return servers, nil
}

// answer returns what those further up say: from memory while that is good. The answer is the caller's.
func (u *upstream) answer(q dns.Question) *dns.Msg {
	q.Name = dns.CanonicalName(q.Name)
	known, ok := u.kept.Get(q)
	if !ok {
		answer := u.ask(q)
		known = kept{answer, time.Now()}
		u.kept.Add(q, known, goodFor(answer))
	}
	answer, age := known.(kept).answer.Copy(), uint32(time.Since(known.(kept).at)/time.Second)
	for _, record := range slices.Concat(answer.Answer, answer.Ns, answer.Extra) {
		record.Header().Ttl -= min(record.Header().Ttl, age)
	}
	return answer
}

// ask asks one after the other until one answers. A server that fails or refuses counts as one that does not answer. An
// answer that is too long for UDP is asked for again over TCP.
func (u *upstream) ask(q dns.Question) *dns.Msg {
	query := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(dns.DefaultMsgSize, false)
	for _, server := range u.servers {
		answer, _, err := (&dns.Client{Net: "udp", Timeout: patience}).Exchange(query, server)
		if err == nil && answer.Truncated {
			answer, _, err = (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(query, server)
		}
		if err != nil || answer.Rcode == dns.RcodeServerFailure || answer.Rcode == dns.RcodeRefused {
			slog.Debug("a DNS server does not answer", "server", server, "name", q.Name, "reason", err)
			continue
		}
		// What two servers tell each other of themselves is nothing for others.
		answer.Extra = slices.DeleteFunc(answer.Extra, func(record dns.RR) bool { return record.Header().Rrtype == dns.TypeOPT })
		return answer
	}
	return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
}

// goodFor returns how long an answer may be kept: as the shortest of its records says; that there is nothing, as the SOA says
// (RFC 2308, section 5); that nobody has answered, for a moment.
func goodFor(answer *dns.Msg) time.Duration {
	records := slices.Concat(answer.Answer, answer.Ns)
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError || len(records) == 0 {
		return failed
	}
	good := longest
	for _, record := range records {
		seconds := record.Header().Ttl
		if soa, is := record.(*dns.SOA); is {
			seconds = min(seconds, soa.Minttl)
		}
		good = min(good, time.Duration(seconds)*time.Second)
	}
	return good
}
