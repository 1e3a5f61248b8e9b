package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRoutesFollowTheNodesAndLeaveThoseOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, errors.New("a network of its own takes root"))
	}
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with this goroutine, and its network with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		routesFollow(t)
	})
	done.Wait()
}

func routesFollow(t *testing.T) {
	device := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}
	address, err := netlink.ParseAddr("192.0.2.1/24")
	if err := errors.Join(err, netlink.LinkAdd(device), netlink.AddrAdd(device, address), netlink.LinkSetUp(device)); err != nil {
		t.Error(err)
		return
	}
	to := func(node, podCIDR, via string) Route {
		return Route{node, netip.MustParsePrefix(podCIDR), netip.MustParseAddr(via)}
	}
	if err := SetRoutes("other", []Route{to("theirs", "10.245.1.0/24", "192.0.2.9")}); err != nil {
		t.Error(err)
	}
	for _, step := range []struct {
		what, failure string
		wanted        []Route
		want          []string
	}{
		{"two come", "", []Route{to("a", "10.244.1.0/24", "192.0.2.2"), to("b", "10.244.2.0/24", "192.0.2.3")}, []string{"10.244.1.0/24 192.0.2.2", "10.244.2.0/24 192.0.2.3"}},
		{"one has another address", "", []Route{to("a", "10.244.1.0/24", "192.0.2.4"), to("b", "10.244.2.0/24", "192.0.2.3")}, []string{"10.244.1.0/24 192.0.2.4", "10.244.2.0/24 192.0.2.3"}},
		{"one cannot be reached", "the pods of node a cannot be reached from here: its address 198.51.100.1 ",
			[]Route{to("a", "10.244.1.0/24", "198.51.100.1"), to("b", "10.244.2.0/24", "192.0.2.3")}, []string{"10.244.2.0/24 192.0.2.3"}},
		{"all go", "", nil, nil},
	} {
		if err := SetRoutes("ours", step.wanted); (err == nil) != (step.failure == "") || !strings.Contains(fmt.Sprint(err), step.failure) {
			t.Errorf("%s: the error is %v, want %q", step.what, err, step.failure)
		}
		routes, err := listRoutes()
		var got []string
		for _, r := range routes {
			if r.Protocol == protocol {
				got = append(got, r.Dst.String()+" "+r.Gw.String())
			}
		}
		slices.Sort(got)
		if want := append(step.want, "10.245.1.0/24 192.0.2.9"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: there are %v (%v), want %v", step.what, got, err, want)
		}
	}
}
