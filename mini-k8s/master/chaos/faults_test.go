package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/mastertest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// faults are a bad connection between the loops and the API server, while on: requests are refused, or done with no
// answer; watches are late, break, or have lost their place.
type faults struct {
	mu     sync.Mutex // guards all below
	on     bool
	random *rand.Rand
}

func (f *faults) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// chance is true so many times in a hundred, while the faults are on.
func (f *faults) chance(percent int) bool { return f.number(100) < percent }

// number returns one below n, and the largest of them while the faults are off.
func (f *faults) number(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return n - 1
	}
	return f.random.IntN(n)
}

// carry is what stands between.
func (f *faults) carry(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
	unavailable := apierrors.NewServiceUnavailable("by chance")
	switch watch := r.URL.Query().Get("watch") != ""; {
	case watch && f.chance(10):
		return mastertest.Refusal(apierrors.NewResourceExpired("by chance")), nil
	case watch:
		response, err := do()
		if err == nil {
			mastertest.Lag(response, f.lag)
			response.Body = &breakingBody{response.Body, f}
		}
		return response, err
	case r.Method == http.MethodGet && f.chance(2), r.Method != http.MethodGet && f.chance(2):
		return mastertest.Refusal(unavailable), nil
	case (r.Method == http.MethodPut || r.Method == http.MethodPatch) && !strings.Contains(r.URL.Path, "/leases/") && f.chance(4):
		return mastertest.Refusal(apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "it", errors.New("by chance"))), nil
	case r.Method != http.MethodGet && f.chance(4):
		response, err := do()
		if err == nil {
			response.Body.Close()
		}
		return nil, errors.Join(err, io.ErrUnexpectedEOF) // whoever asked does not know that it was done
	}
	return do()
}

// lag is mostly short.
func (f *faults) lag() time.Duration {
	if f.chance(5) {
		return time.Second
	}
	if f.chance(50) {
		return time.Duration(f.number(100)) * time.Millisecond
	}
	return 0
}

// breakingBody ends at any time.
type breakingBody struct {
	io.ReadCloser
	faults *faults
}

func (b *breakingBody) Read(into []byte) (int, error) {
	if b.faults.chance(2) {
		return 0, io.ErrUnexpectedEOF
	}
	return b.ReadCloser.Read(into)
}

// crash ends a loop at its k-th write: that and what it writes after it reaches nobody, until it is started anew.
type crash struct {
	agent string

	mu     sync.Mutex // guards all below
	at     int        // counts down; 0 is the write that is not done
	writes int
	dead   bool
	met    chan struct{} // closed at that write
}

func (c *crash) carry(r *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
	if r.Method == http.MethodGet || r.UserAgent() != c.agent {
		return do()
	}
	c.mu.Lock()
	c.writes++
	if c.at--; c.at == 0 {
		c.dead = true
		close(c.met)
	}
	dead := c.dead
	c.mu.Unlock()
	if !dead {
		return do()
	}
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// metrics answers for metrics.k8s.io: the pods that are asked for share a load of 30 thousandths of a CPU.
func metrics(r *http.Request, c *client.Client) (*http.Response, error) {
	namespace := strings.Split(r.URL.Path, "/")[5]
	pods, err := client.Of[*corev1.Pod](c).List(r.Context(), client.Selection{Namespace: namespace, Labels: r.URL.Query().Get("labelSelector")})
	if err != nil {
		return nil, err
	}
	running := slices.DeleteFunc(pods.Items, func(p *corev1.Pod) bool { return !isActive(p) || !api.PodReady(p) })
	var list struct {
		Items []api.Metrics `json:"items"`
	}
	for _, p := range running {
		list.Items = append(list.Items, api.Metrics{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Timestamp: metav1.Now(),
			Containers: []api.ContainerMetrics{{Usage: corev1.ResourceList{
				corev1.ResourceCPU: *resource.NewMilliQuantity(int64(30/len(running)), resource.DecimalSI)}}}})
	}
	body, err := json.Marshal(list)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, err
}
