package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/images"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Services of clusters whose pods are containers.

func TestDockerServiceLosesNoRequestWhileItsPodsChange(t *testing.T) {
	u := newDockerUser(t)
	u.up("--nodes", "2")
	u.serving(3)
	address := u.service("hello", nil)
	u.serves("hello", 3)
	eventually(t, "the service answers", func() bool {
		response, err := http.Get("http://" + address)
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	}, u.log)
	load := newLoad(t, "http://"+address)

	u.kubectl("set", "image", "deployment/hello", "hello="+images.HelloV2.Name)
	u.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
	pods := u.serving(3)
	u.serves("hello", 3)
	// A version that cannot start halts by itself, while the old one serves on. Undo takes it back.
	u.kubectl("set", "image", "deployment/hello", "hello=localhost:1/hello:v3")
	eventually(t, "the new version halts", func() bool { return strings.Contains(u.kubectl("get", "pods"), "ErrImagePull") }, u.log)
	u.kubectl("rollout", "undo", "deployment/hello")
	u.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
	pods = u.serving(3)
	u.serves("hello", 3)
	rolled := load.mark()
	for _, replicas := range []int{10, 2} {
		u.kubectl("scale", "deployment/hello", fmt.Sprint("--replicas=", replicas))
		pods = u.serving(replicas)
		u.serves("hello", replicas)
	}
	// A killed container takes with it what comes to it, until the service has heard. The pod stays, and is back.
	kill := load.mark()
	if err := u.docker.ContainerKill(t.Context(), u.containerOf(pods[0].UID, "hello"), "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	u.restarted(pods[0], 1)
	u.serves("hello", 2)
	back := load.mark()
	eventually(t, "both pods answer", func() bool { return len(load.answers(back)) == 2 }, u.log)
	load.stop()

	for number, err := range load.failed {
		// What was on its way when it died may have been asked a moment before.
		onTheKilledPod := number > kill-5 && number <= back && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF))
		if !onTheKilledPod {
			t.Errorf("of %d requests, %d when the rollout was complete, %d when a container was killed and %d when it was back: %d at %v", load.mark(), rolled, kill, back, number, err)
		}
	}
	for answer := range load.answers(rolled) {
		if !strings.Contains(answer, "version v2") {
			t.Errorf("after the rollout it answers %q", answer)
		}
	}
	t.Logf("%d requests, of which %d failed when a container was killed", load.mark(), len(load.failed))
	u.run("down", "--name", u.name)
	u.leavesNothing()
}

// service makes a service of the pods of the demo and returns its address and port.
func (u *user) service(name string, change func(*corev1.Service)) string {
	u.t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "hello"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	if change != nil {
		change(s)
	}
	s, err := client.Of[*corev1.Service](u.client()).Create(u.t.Context(), s)
	if err != nil {
		u.t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(s.Spec.ClusterIP), uint16(s.Spec.Ports[0].Port)).String()
}

// serves waits until the service has so many endpoints.
func (u *user) serves(name string, count int) {
	u.t.Helper()
	eventually(u.t, fmt.Sprintf("service %s has %d endpoints", name, count), func() bool {
		found := 0
		for _, slice := range list[*discoveryv1.EndpointSlice](u.t, u.client()) {
			if slice.Labels[discoveryv1.LabelServiceName] == name {
				found += len(slice.Endpoints)
			}
		}
		return found == count
	}, u.log)
}

// load is a client that makes 50 requests a second, each on a connection of its own.
type load struct {
	end    chan struct{}
	ended  sync.WaitGroup
	mu     sync.Mutex // guards all below
	made   int
	failed map[int]error  // by the number of the request
	said   map[int]string // what was answered
}

func newLoad(t *testing.T, url string) *load {
	l := &load{end: make(chan struct{}), failed: map[int]error{}, said: map[int]string{}}
	asks := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	l.ended.Go(func() {
		ticks := time.NewTicker(time.Second / 50)
		defer ticks.Stop()
		for {
			select {
			case <-l.end:
				return
			case <-ticks.C:
				l.ended.Go(func() { l.request(asks, url) })
			}
		}
	})
	t.Cleanup(l.stop)
	return l
}

func (l *load) request(asks http.Client, url string) {
	l.mu.Lock()
	l.made++
	number := l.made
	l.mu.Unlock()
	response, err := asks.Get(url)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(response.Body)
		response.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed[number] = fmt.Errorf("%s: %w", time.Now().Format("05.000"), err)
		return
	}
	l.said[number] = string(text)
}

// stop returns when all requests have ended.
func (l *load) stop() {
	select {
	case <-l.end:
	default:
		close(l.end)
	}
	l.ended.Wait()
}

// mark returns the number of the newest request.
func (l *load) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

// answers returns what was said to the requests after the mark, and how often.
func (l *load) answers(mark int) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := map[string]int{}
	for number, answer := range l.said {
		if number > mark {
			count[answer]++
		}
	}
	return count
}
