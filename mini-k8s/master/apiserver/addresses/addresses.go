// Package addresses gives services their cluster IPs and node ports. That no two services have the same is for the store
// to say: for each address there is a claim, a key of its own ("serviceips/10.96.0.10") with the service in it. Who creates
// it has the address; then the service is written with it. When a service has been written without it, the claim is deleted.
// A crash in between leaves a claim for nothing, and whoever wants the address next takes that over.
//
// Invariants, by which no two services ever have one address, however many servers write to the store:
//  1. Claims are made, taken over and given back by compare-and-swap: of several who try, one succeeds.
//  2. A claim is void only if its service, read after it, does not have the address, and if it is older than claimLife.
//     By then whoever made it has written the service, and that has been read, or will not: no write begins later than
//     writeLimit after the claim. The rest of its life is for a slow store, and for clocks that differ.
//  3. A service that has an address loses it only by a write to the service; a write that keeps it fails if there was
//     another meanwhile.
//  4. Claims that a write makes needless are deleted after it, at the revision that was read before it: one that was
//     taken over stays. Claims made for a write that was refused go back. A write that failed in another way may have
//     been done: they stay.
//
// In Kubernetes: IPAddress objects with a loop that repairs them (KEP-1880), and a bitmap of the node ports.
package addresses

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	firstNodePort, lastNodePort = 30000, 32767
	// claimLife is for how long a claim holds whose service does not have the address yet.
	claimLife  = time.Minute
	writeLimit = claimLife / 2
)

// Allocator gives services addresses. It keeps nothing itself.
type Allocator struct {
	Store store.Store
	Range netip.Prefix // of the cluster IPs
	// Read reads a service from the store. It fails with a NotFound if it is not there.
	Read func(ctx context.Context, namespace, name string) (*corev1.Service, error)
}

// Change is a write to a service.
type Change struct {
	Service *corev1.Service // as it is to be written
	Old     store.Object    // what is stored; of revision 0 if nothing is
	Deletes bool            // the service has no addresses after it
	DryRun  bool            // nothing is claimed
	Who     string          // writes
}

// Write gives a service the addresses that it lacks, claims all that it has, and calls write, which writes the service
// as long as its context lasts. It returns the error of write, or before that an Invalid with all addresses that the service
// cannot have.
func (a *Allocator) Write(ctx context.Context, change Change, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	c := &claims{Allocator: a, Change: change, ctx: ctx, mine: map[string]store.Object{}, made: map[string]store.Object{}}
	needless, err := c.claimAll()
	if err != nil {
		c.giveBack(c.made)
		return err
	}
	switch err = write(ctx); {
	case c.DryRun:
	case err == nil:
		c.giveBack(needless)
	case refused(err):
		c.giveBack(c.made)
	}
	return err
}

// claimAll claims what the service is to have, and returns the claims that it will not need any longer.
func (c *claims) claimAll() (needless map[string]store.Object, err error) {
	if err := c.find(); err != nil {
		return nil, err
	}
	needless = maps.Clone(c.mine)
	if c.Deletes {
		return needless, nil
	}
	if err := c.clusterIP(&c.Service.Spec); err != nil {
		return nil, err
	}
	if err := c.nodePorts(&c.Service.Spec); err != nil {
		return nil, err
	}
	if len(c.wrong) > 0 {
		return nil, apierrors.NewInvalid(c.Service.GroupVersionKind().GroupKind(), c.Service.Name, c.wrong)
	}
	for _, key := range claimKeys(c.Service) {
		delete(needless, key)
	}
	return needless, nil
}

// clusterIP claims the IP that the service has, or gives it one.
func (c *claims) clusterIP(s *corev1.ServiceSpec) error {
	if !api.HasClusterIP(s) {
		return nil
	}
	path, size := field.NewPath("spec", "clusterIPs"), 1<<(32-c.Range.Bits())-2 // the network and the broadcast are none
	nth := func(i int) string {
		network := binary.BigEndian.Uint32(c.Range.Addr().AsSlice())
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, network+1+uint32(i)))).String()
	}
	if s.ClusterIP == "" {
		i, err := c.next(size, path, func(i int) string { return ipKey(nth(i)) })
		s.ClusterIP, s.ClusterIPs = nth(i), []string{nth(i)}
		return err
	}
	key, why := ipKey(s.ClusterIP), "provided IP is already allocated"
	ip, err := netip.ParseAddr(s.ClusterIP)
	if inRange := err == nil && c.Range.Contains(ip) && s.ClusterIP != nth(-1) && s.ClusterIP != nth(size); !inRange && !c.has(key) {
		why = fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", s.ClusterIP, c.Range)
	} else if free, err := c.take(key); free || err != nil {
		return err
	}
	c.wrong = append(c.wrong, field.Invalid(path, s.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %s", s.ClusterIP, why)))
	return nil
}

// nodePorts claims the numbers that the service's ports have, and gives one to each that has none. TCP and UDP of one
// port get the same.
func (c *claims) nodePorts(s *corev1.ServiceSpec) error {
	if !api.HasNodePorts(s) {
		return nil
	}
	path, same := field.NewPath("spec", "ports"), map[int32]int32{}
	for i, port := range s.Ports {
		if port.NodePort == 0 {
			continue
		}
		same[port.Port] = port.NodePort
		why := "provided port is already allocated"
		if port.NodePort < firstNodePort || port.NodePort > lastNodePort {
			why = fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", firstNodePort, lastNodePort)
		} else if free, err := c.take(portKey(port.NodePort)); err != nil {
			return err
		} else if free {
			continue
		}
		c.wrong = append(c.wrong, field.Invalid(path.Index(i).Child("nodePort"), port.NodePort, why))
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		if port.NodePort = cmp.Or(port.NodePort, same[port.Port]); port.NodePort != 0 || len(c.wrong) > 0 {
			continue
		}
		n, err := c.next(lastNodePort-firstNodePort+1, path.Index(i).Child("nodePort"), func(i int) string { return portKey(firstNodePort + int32(i)) })
		if err != nil {
			return err
		}
		port.NodePort = firstNodePort + int32(n)
		same[port.Port] = port.NodePort
	}
	return nil
}

// next claims one of so many addresses: the next free one from a random one on. The low numbers come last, for they are
// left to those who choose theirs (KEP-3070).
func (c *claims) next(size int, path *field.Path, key func(int) string) (int, error) {
	low := min(size/32, 256)
	start := rand.IntN(size - low)
	for i := range size {
		at := low + (start+i)%(size-low)
		if i >= size-low {
			at = size - 1 - i
		}
		if c.has(key(at)) {
			continue
		}
		if free, err := c.take(key(at)); free || err != nil {
			return at, err
		}
	}
	c.wrong = append(c.wrong, field.Forbidden(path, fmt.Sprintf("failed to allocate one: range is full, all %d are taken", size)))
	return 0, nil
}
