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
	"errors"
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
	// retry is how long to wait when the rules could not be set, and repair how often they are set anew for the case
	// that somebody has spoiled them.
	retry  = 2 * time.Second
	repair = 5 * time.Minute
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
	services *control.Objects[*corev1.Service]
	slices   *control.Objects[*discoveryv1.EndpointSlice]
	changed  chan struct{}        // holds a token when there may be something to do
	applied  rules                // what was set; nil if nobody knows what is
	claimed  map[string]io.Closer // the node ports of the rules, as their keys; nil if somebody else has it
}

// New returns a proxy that does nothing until Run.
func New(deps control.Deps, config Config) *Proxy {
	return &Proxy{
		config: config, changed: make(chan struct{}, 1), claimed: map[string]io.Closer{},
		services: control.Of[*corev1.Service](deps), slices: control.Of[*discoveryv1.EndpointSlice](deps),
	}
}

// Run sets the rules whenever they change, until the context ends. It begins when all is known that there is: half of it
// would break connections that work.
func (p *Proxy) Run(ctx context.Context) error {
	if err := errors.Join(p.services.WaitSynced(ctx), p.slices.WaitSynced(ctx)); err != nil {
		return err
	}
	p.services.Subscribe(ctx, func(_, _ *corev1.Service) { p.wake() })
	p.slices.Subscribe(ctx, func(_, _ *discoveryv1.EndpointSlice) { p.wake() })
	defer p.claim(nil)
	p.wake() // there may be none of either, and rules of an earlier run
	for again := time.After(repair); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-again:
			p.applied, again = nil, time.After(repair)
			p.wake()
		case <-p.changed:
			control.Sleep(ctx, gather)
			select {
			case <-p.changed: // that one is done with this one
			default:
			}
			p.sync(ctx)
		}
	}
	return ctx.Err()
}

func (p *Proxy) wake() {
	select {
	case p.changed <- struct{}{}:
	default: // it is awake already
	}
}

// sync sets the rules if they are other than those that were set. After a failure all of them are set anew.
func (p *Proxy) sync(ctx context.Context) {
	wanted := rulesOf(p.services.List(), p.slices.List())
	p.claim(wanted)
	script := p.config.update(p.applied, wanted)
	if script == "" {
		return
	}
	start := time.Now()
	if err := p.config.Apply(ctx, script); err != nil {
		if p.applied = nil; ctx.Err() == nil {
			slog.Warn("cannot set the rules of the services", "again", retry, "reason", err)
			time.AfterFunc(retry, p.wake)
		}
		return
	}
	p.forget(p.applied, wanted)
	p.applied = wanted
	slog.Debug("services follow", "ports", len(wanted[services])+len(wanted[nodePorts]), "took", time.Since(start))
}
