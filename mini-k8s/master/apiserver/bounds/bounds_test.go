package bounds

import (
	"net/http/httptest"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestRequestsOfAUserAreBoundedAndWatchesApart(t *testing.T) {
	var flying InFlight
	plain, watch := httptest.NewRequest("GET", "/pods", nil), httptest.NewRequest("GET", "/pods?watch=1", nil)
	for range maxRequests - 1 {
		if _, err := flying.Begin("ann", plain); err != nil {
			t.Fatal(err)
		}
	}
	done, err := flying.Begin("ann", plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flying.Begin("ann", plain); !apierrors.IsTooManyRequests(err) {
		t.Errorf("one more: %v", err)
	}
	if _, err := flying.Begin("ann", watch); err != nil {
		t.Errorf("a watch: %v", err)
	}
	if _, err := flying.Begin("bob", plain); err != nil {
		t.Errorf("another user: %v", err)
	}
	done()
	if _, err := flying.Begin("ann", plain); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}
