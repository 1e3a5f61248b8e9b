package apiserver

// Which service has which cluster IP and node ports. That no two have the same is for the store to say: for an address
// there is a claim, a key of its own ("serviceips/10.96.0.10") with the service in it. Who creates it has the address;
// then the service is written with it. When a service has been written without it, the claim is deleted. A crash in
// between leaves a claim for nothing, and whoever wants the address next takes that over.
//
// Why no two services ever have one address, however many servers write to the store:
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

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// DefaultServiceCIDR is the range of the cluster IPs.
	DefaultServiceCIDR          = "10.96.0.0/16"
	firstNodePort, lastNodePort = 30000, 32767
	// claimLife is for how long a claim holds whose service does not have the address yet.
	claimLife  = time.Minute
	writeLimit = claimLife / 2
)

// claim is what stands in a claim.
type claim struct {
	Namespace, Name string
	UID             types.UID
	At              time.Time
}

func ipKey(ip string) string      { return "serviceips/" + ip }
func portKey(number int32) string { return fmt.Sprint("servicenodeports/", number) }

// claimKeys returns the keys of the claims for the addresses that a service has.
func claimKeys(s *corev1.Service) (keys []string) {
	if api.HasClusterIP(&s.Spec) && s.Spec.ClusterIP != "" {
		keys = append(keys, ipKey(s.Spec.ClusterIP))
	}
	for _, port := range s.Spec.Ports {
		if api.HasNodePorts(&s.Spec) && port.NodePort != 0 {
			keys = append(keys, portKey(port.NodePort))
		}
	}
	return keys
}

// claims are those of a service that is about to be written.
type claims struct {
	*Server
	*request
	ctx        context.Context
	value      []byte                  // of those that are made
	mine, made map[string]store.Object // by key: all, and those that were made for this write
}

// claimAddresses gives a service the addresses that it lacks, and claims all that it has. Whoever calls it writes the
// service before ctx ends, and then calls settle with what became of that.
func (s *Server) claimAddresses(ctx context.Context, r *request, service *corev1.Service, old store.Object) (settle func(error), err error) {
	c := &claims{Server: s, request: r, ctx: ctx, mine: map[string]store.Object{}, made: map[string]store.Object{}}
	if c.value, err = json.Marshal(claim{service.Namespace, service.Name, service.UID, time.Now()}); err != nil {
		return nil, err
	}
	var before corev1.Service
	if err := json.Unmarshal(old.Value, &before); err != nil && old.Revision != 0 {
		return nil, fmt.Errorf("decode stored Service: %w", err)
	}
	for _, key := range claimKeys(&before) {
		var by claim
		if held, err := s.Store.Get(ctx, key); err == nil && json.Unmarshal(held.Value, &by) == nil && by.UID == service.UID {
			c.mine[key] = held
		}
	}
	needless := maps.Clone(c.mine)
	if !deletable(service) {
		err = c.clusterIP(&service.Spec)
		if err == nil {
			err = c.nodePorts(&service.Spec)
		}
		for _, key := range claimKeys(service) {
			delete(needless, key)
		}
	}
	var wrong *field.Error
	if errors.As(err, &wrong) {
		err = apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), service.Name, field.ErrorList{wrong})
	}
	if err != nil {
		c.giveBack(c.made)
	}
	return func(err error) {
		switch {
		case r.dryRun:
		case err == nil:
			c.giveBack(needless)
		case refused(err):
			c.giveBack(c.made)
		}
	}, err
}

// refused reports whether the store has refused a write: then it was not done.
func refused(err error) bool {
	return errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound)
}

// clusterIP claims the IP that the service has, or gives it one.
func (c *claims) clusterIP(s *corev1.ServiceSpec) error {
	if !api.HasClusterIP(s) {
		return nil
	}
	path, size := field.NewPath("spec", "clusterIPs"), 1<<(32-c.ServiceCIDR.Bits())-2 // the network and the broadcast are none
	nth := func(i int) string {
		network := binary.BigEndian.Uint32(c.ServiceCIDR.Addr().AsSlice())
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, network+1+uint32(i)))).String()
	}
	if s.ClusterIP == "" {
		i, err := c.next(size, path, func(i int) string { return ipKey(nth(i)) })
		s.ClusterIP, s.ClusterIPs = nth(i), []string{nth(i)}
		return err
	}
	key, why := ipKey(s.ClusterIP), "provided IP is already allocated"
	ip, err := netip.ParseAddr(s.ClusterIP)
	if inRange := err == nil && c.ServiceCIDR.Contains(ip) && s.ClusterIP != nth(-1) && s.ClusterIP != nth(size); !inRange && !c.has(key) {
		why = fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", s.ClusterIP, c.ServiceCIDR)
	} else if free, err := c.take(key); free || err != nil {
		return err
	}
	return field.Invalid(path, s.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %s", s.ClusterIP, why))
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
		return field.Invalid(path.Index(i).Child("nodePort"), port.NodePort, why)
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		if port.NodePort = cmp.Or(port.NodePort, same[port.Port]); port.NodePort != 0 {
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
	return 0, field.Forbidden(path, fmt.Sprintf("failed to allocate one: range is full, all %d are taken", size))
}

func (c *claims) has(key string) bool {
	_, has := c.mine[key]
	return has
}

// take claims an address, or tells that another service has it.
func (c *claims) take(key string) (free bool, err error) {
	if c.has(key) {
		return true, nil
	}
	held, err := c.Store.Get(c.ctx, key)
	if err == nil {
		free, err = c.void(held)
	} else if errors.Is(err, store.ErrNotFound) {
		free, err = true, nil
	}
	if !free || err != nil {
		return false, err
	}
	made := store.Object{Key: key}
	switch {
	case c.dryRun:
	case held.Revision == 0:
		made.Revision, err = c.Store.Create(c.ctx, key, c.value, c.manager())
	default:
		made.Revision, err = c.Store.Update(c.ctx, key, c.value, held.Revision, c.manager())
	}
	if refused(err) { // another was faster
		return false, nil
	} else if err != nil {
		return false, err
	}
	if c.mine[key] = made; !c.dryRun {
		c.made[key] = made
	}
	return true, nil
}

// void reports whether a claim is for nothing.
func (c *claims) void(held store.Object) (bool, error) {
	var by claim
	if err := json.Unmarshal(held.Value, &by); err != nil {
		return false, fmt.Errorf("decode the claim of %s: %w", held.Key, err)
	}
	if time.Since(by.At) < claimLife {
		return false, nil
	}
	service, err := read[*corev1.Service](c.ctx, c.Server, by.Namespace, by.Name)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && !slices.Contains(claimKeys(service), held.Key), err
}

// giveBack deletes claims, unless others have taken them over. One that stays after a failure will be found to be void.
func (c *claims) giveBack(claims map[string]store.Object) {
	for key, one := range claims {
		c.Store.Delete(context.WithoutCancel(c.ctx), key, one.Revision, c.manager())
	}
}
