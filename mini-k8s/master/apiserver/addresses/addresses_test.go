package addresses_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

	"workshop/mini-k8s/master/apiserver/addresses"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// allocator returns one over an empty store, and what is claimed in that.
func allocator(t *testing.T) (a *addresses.Allocator, claimed func() int) {
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &addresses.Allocator{Store: s, Range: netip.MustParsePrefix("10.1.0.0/24")}, func() int {
		claims, _, err := s.List(t.Context(), "service")
		if err != nil {
			t.Fatal(err)
		}
		return len(claims)
	}
}

func nodePort(name, ip string) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
	s.Name, s.UID = name, types.UID(name)
	return s
}

func TestAddressesAreClaimedWhenTheServiceIsWritten(t *testing.T) {
	a, claimed := allocator(t)
	s := nodePort("web", "")
	err := a.Write(t.Context(), addresses.Change{Service: s, Who: "test"}, func(ctx context.Context) error {
		if _, ends := ctx.Deadline(); !ends || claimed() != 2 || s.Spec.ClusterIP == "" || s.Spec.Ports[0].NodePort == 0 {
			t.Errorf("when it is written: %+v, %d claims", s.Spec, claimed())
		}
		return nil
	})
	if err != nil || claimed() != 2 {
		t.Errorf("%v, %d claims", err, claimed())
	}
}

func TestClaimsGoBackOnlyIfTheServiceWasNotWrittenForSure(t *testing.T) {
	failure := errors.New("the store does not answer")
	for _, row := range []struct {
		is   error
		left int
	}{{store.ErrConflict, 0}, {store.ErrExists, 0}, {failure, 2}} {
		a, claimed := allocator(t)
		err := a.Write(t.Context(), addresses.Change{Service: nodePort("web", ""), Who: "test"}, func(context.Context) error { return row.is })
		if !errors.Is(err, row.is) || claimed() != row.left {
			t.Errorf("%v: %v, %d claims", row.is, err, claimed())
		}
	}
}

func TestServiceIsNotWrittenWithoutItsAddresses(t *testing.T) {
	a, claimed := allocator(t)
	err := a.Write(t.Context(), addresses.Change{Service: nodePort("web", "10.2.0.1"), Who: "test"}, func(context.Context) error {
		t.Error("it is written")
		return nil
	})
	if !apierrors.IsInvalid(err) || claimed() != 0 {
		t.Errorf("%v, %d claims", err, claimed())
	}
}
