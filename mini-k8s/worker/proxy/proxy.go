// Package proxy makes the addresses of services lead to their pods. It reads services and EndpointSlices, and writes
// packet rules: the kernel does the rest, and no packet ever passes through here.
//
// Invariants:
//  1. The rules are a pure function of what the API server holds: see rulesOf.
//  2. They change in one transaction, all or nothing. When nothing of them changes, nothing is written.
//  3. They stay when the proxy stops: connections are made, and go on, while nobody looks after them.
//  4. What a new connection costs does not grow with the number of services.
//
// In Kubernetes: kube-proxy, in its mode nftables (KEP-3866). It makes chains for each service and each endpoint; here
// all services share the chains, and are elements of maps.
package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"workshop/mini-k8s/control"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	// gather is how long a change waits for others that come with it.
	gather = 10 * time.Millisecond
	// repair is how often the rules are set anew for the case that somebody has spoiled them.
	repair = 5 * time.Minute

	// The keys of the loop.
	changes = "changes"
	anew    = "all rules anew"
)

// Config of a proxy.
type Config struct {
	Table       string       // of nft, for all rules
	ClusterCIDR netip.Prefix // the addresses of all pods
	ServiceCIDR netip.Prefix // the addresses of all services
	// Apply runs a script of nft as one transaction.
	Apply func(ctx context.Context, script string) error
	// Claim takes a port of the machine until it is closed.
	Claim func(protocol string, port int) (io.Closer, error)
	// ForgetUDP makes the kernel forget the flows of which stale says so.
	ForgetUDP func(stale func(sentTo, ledTo netip.AddrPort) bool) error
}

// Proxy keeps the rules of one machine.
type Proxy struct {
	config   Config
	loop     *control.Loop
	services *control.Objects[*corev1.Service]
	slices   *control.Objects[*discoveryv1.EndpointSlice]
	applied  rules               // what was set; nil if nobody knows what is
	claimed  map[entry]io.Closer // the node ports of the rules; nil if somebody else has it
}

// New returns a proxy that does nothing until Run.
func New(deps control.Deps, config Config) *Proxy {
	p := &Proxy{config: config, claimed: map[entry]io.Closer{},
		services: control.Of[*corev1.Service](deps), slices: control.Of[*discoveryv1.EndpointSlice](deps)}
	p.loop = control.NewLoop(deps.As("proxy"), 1, p.sync)
	control.Subscribe(p.loop, p.services, func(_, _ *corev1.Service) { p.loop.AddAfter(changes, gather) })
	control.Subscribe(p.loop, p.slices, func(_, _ *discoveryv1.EndpointSlice) { p.loop.AddAfter(changes, gather) })
	p.loop.Add(anew)
	return p
}

// Run sets the rules whenever they change, until the context ends. It begins when all is known that there is: half of it
// would break connections that work.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.claim(nil)
	return p.loop.Run(ctx)
}

// sync sets the rules if they are other than those that were set. After a failure all of them are set anew.
func (p *Proxy) sync(ctx context.Context, key string) error {
	if key == anew {
		p.applied = nil
		p.loop.AddAfter(anew, repair)
	}
	wanted := rulesOf(p.services.List(), p.slices.List())
	p.claim(wanted)
	script := p.config.update(p.applied, wanted)
	if script == "" {
		return nil
	}
	start := time.Now()
	if err := p.config.Apply(ctx, script); err != nil {
		p.applied = nil
		return fmt.Errorf("set the rules of the services: %w", err)
	}
	p.forget(p.applied, wanted)
	p.applied = wanted
	slog.Debug("services follow", "ports", len(wanted), "took", time.Since(start))
	return nil
}
