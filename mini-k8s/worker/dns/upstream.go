package dns

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
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
	udp     *dns.Client
	tcp     *dns.Client
	asking  singleflight.Group // one question at a time, however many ask it

	mu   sync.Mutex // guards kept
	kept map[string]kept
}

type kept struct {
	answer *dns.Msg // shared: never changed
	at     time.Time
	until  time.Time
}

func newUpstream(servers []string) *upstream {
	return &upstream{servers: servers, udp: &dns.Client{Net: "udp", Timeout: patience, UDPSize: dns.DefaultMsgSize},
		tcp: &dns.Client{Net: "tcp", Timeout: patience}, kept: map[string]kept{}}
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

// answer returns what those further up say to a question, which a client has asked with the flags of m: from memory while
// that is good. The answer is the caller's.
func (u *upstream) answer(q dns.Question, m *dns.Msg) *dns.Msg {
	query := new(dns.Msg).SetQuestion(dns.CanonicalName(q.Name), q.Qtype)
	query.CheckingDisabled = m.CheckingDisabled
	options := m.IsEdns0()
	query.SetEdns0(dns.DefaultMsgSize, options != nil && options.Do())
	key := fmt.Sprint(query.Question[0], query.CheckingDisabled, query.IsEdns0().Do())
	known, ok := u.remember(key)
	if !ok {
		asked, _, _ := u.asking.Do(key, func() (any, error) { return u.keep(key, u.ask(query)), nil })
		known = asked.(kept)
	}
	answer := known.answer.Copy()
	age := uint32(time.Since(known.at) / time.Second)
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns, answer.Extra} {
		for _, record := range section {
			record.Header().Ttl -= min(record.Header().Ttl, age)
		}
	}
	return answer
}

// ask asks one after the other until one answers. A server that fails or refuses counts as one that does not answer. An
// answer that is too long for UDP is asked for again over TCP.
func (u *upstream) ask(query *dns.Msg) *dns.Msg {
	last := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	for _, server := range u.servers {
		answer, _, err := u.udp.Exchange(query, server)
		if err == nil && answer.Truncated {
			answer, _, err = u.tcp.Exchange(query, server)
		}
		if err != nil {
			slog.Debug("a DNS server does not answer", "server", server, "name", query.Question[0].Name, "reason", err)
			continue
		}
		// What two servers tell each other of themselves is nothing for others.
		answer.Extra = slices.DeleteFunc(answer.Extra, func(record dns.RR) bool { return record.Header().Rrtype == dns.TypeOPT })
		if last = answer; answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused {
			break
		}
	}
	return last
}

func (u *upstream) remember(key string) (kept, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.kept[key]
	return known, ok && time.Now().Before(known.until)
}

// keep remembers an answer. When there is no more room, others go, whichever come first: what is asked for often comes
// back.
func (u *upstream) keep(key string, answer *dns.Msg) kept {
	now := time.Now()
	known := kept{answer: answer, at: now, until: now.Add(goodFor(answer))}
	u.mu.Lock()
	defer u.mu.Unlock()
	for other := range u.kept {
		if len(u.kept) < most {
			break
		}
		delete(u.kept, other)
	}
	u.kept[key] = known
	return known
}

// goodFor returns how long an answer may be kept: as the shortest of its records says; that there is nothing, as the SOA
// says (RFC 2308); that nobody has answered, for a moment.
func goodFor(answer *dns.Msg) time.Duration {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return failed
	}
	good := longest
	for _, record := range append(answer.Answer[:len(answer.Answer):len(answer.Answer)], answer.Ns...) {
		seconds := record.Header().Ttl
		if soa, is := record.(*dns.SOA); is {
			seconds = min(seconds, soa.Minttl)
		}
		good = min(good, time.Duration(seconds)*time.Second)
	}
	if len(answer.Answer)+len(answer.Ns) == 0 {
		return failed
	}
	return good
}
