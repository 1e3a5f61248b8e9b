package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const services = "/api/v1/namespaces/default/services"

// service returns the JSON of one with a port 80.
func service(name, spec string) string {
	if !strings.Contains(spec, "ports:") {
		spec += ", ports: [{port: 80}]"
	}
	return toJSON(fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {%s}}`, name, strings.TrimPrefix(spec, ", ")))
}

// spec reads a service's spec from an answer.
func (a answer) spec() corev1.ServiceSpec {
	a.t.Helper()
	var s corev1.Service
	if err := json.Unmarshal(a.ok().body, &s); err != nil {
		a.t.Fatal(err)
	}
	return s.Spec
}

// claims returns what is claimed in the store: "10.96.0.10 30080".
func (w *world) claims() string {
	w.t.Helper()
	var all []string
	for _, prefix := range []string{"serviceips/", "servicenodeports/"} {
		objects, _, err := w.store.List(w.ctx, prefix)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range objects {
			all = append(all, strings.TrimPrefix(o.Key, prefix))
		}
	}
	return strings.Join(all, " ")
}

// within starts another server over the same store, whose services have addresses of the range.
func (w *world) within(cidr string) {
	w.t.Helper()
	var err error
	if w.server, err = apiserver.New(w.ctx, apiserver.Config{Store: w.store, ServiceCIDR: netip.MustParsePrefix(cidr)}); err != nil {
		w.t.Fatal(err)
	}
}

func TestServiceGetsItsAddressesAndGivesThemBack(t *testing.T) {
	w := newWorld(t)
	s := w.post(services, service("web", "type: NodePort")).spec()
	ip, err := netip.ParseAddr(s.ClusterIP)
	if err != nil || !netip.MustParsePrefix(apiserver.DefaultServiceCIDR).Contains(ip) || len(s.ClusterIPs) != 1 || s.ClusterIPs[0] != s.ClusterIP {
		t.Errorf("addresses %q %v", s.ClusterIP, s.ClusterIPs)
	}
	if *s.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack || !slices.Equal(s.IPFamilies, []corev1.IPFamily{corev1.IPv4Protocol}) {
		t.Errorf("families %v %v", *s.IPFamilyPolicy, s.IPFamilies)
	}
	if port := s.Ports[0].NodePort; port < 30000 || port > 32767 {
		t.Errorf("node port %d", port)
	}
	if got, want := w.claims(), fmt.Sprint(s.ClusterIP, " ", s.Ports[0].NodePort); got != want {
		t.Errorf("claimed is %q, want %q", got, want)
	}
	w.delete(services + "/web").ok()
	if got := w.claims(); got != "" {
		t.Errorf("after its end: %q", got)
	}
	for _, kind := range []string{"clusterIP: None", "type: ExternalName, externalName: example.com"} {
		if s := w.post(services, service("other", kind)).spec(); w.claims() != "" || s.ClusterIP != "" && s.ClusterIP != "None" {
			t.Errorf("%s has %q, claimed is %q", kind, s.ClusterIP, w.claims())
		}
		w.delete(services + "/other").ok()
	}
}

func TestServiceWithAFinalizerKeepsItsAddressesToTheEnd(t *testing.T) {
	w := newWorld(t)
	w.post(services, toJSON(`{metadata: {name: web, finalizers: [test/keep]}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}`)).ok()
	w.delete(services + "/web").ok()
	if got := w.claims(); got != "10.96.0.10" {
		t.Errorf("while it is kept: %q", got)
	}
	w.patch("merge", services+"/web", `{"metadata":{"finalizers":null}}`).ok()
	if got := w.claims(); got != "" {
		t.Errorf("after its end: %q", got)
	}
}

func TestServiceChangesItsAddresses(t *testing.T) {
	const had = "10.96.0.10 30080 30081"
	for _, row := range []struct{ name, patch, want, fails string }{
		{"nothing", `{}`, had, ""},
		{"nothing, though they are left out", `{"clusterIP":null,"clusterIPs":null,"ports":[{"name":"b","port":81},{"name":"a","port":90}]}`, had, ""},
		{"IP to another", `{"clusterIP":"10.96.0.11"}`, had, `spec.clusterIPs[0]: Invalid value: ["10.96.0.11"]: may not change once set`},
		{"IP to none", `{"clusterIP":"None","type":"ClusterIP"}`, had, `spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`},
		{"second of the two fields for it", `{"clusterIPs":["10.96.0.11"]}`, had, "first value must match `clusterIP`"},
		{"one port less", `{"ports":[{"name":"b","port":81}]}`, "10.96.0.10 30081", ""},
		{"another number", `{"ports":[{"name":"a","port":80,"nodePort":30082},{"name":"b","port":81}]}`, "10.96.0.10 30081 30082", ""},
		{"numbers swapped", `{"ports":[{"name":"a","port":80,"nodePort":30081},{"name":"b","port":81,"nodePort":30080}]}`, had, ""},
		{"number of another service", `{"ports":[{"name":"a","port":80,"nodePort":30099}]}`, had, "spec.ports[0].nodePort: Invalid value: 30099: provided port is already allocated"},
		{"to ClusterIP", `{"type":"ClusterIP"}`, "10.96.0.10", ""},
		{"to ExternalName", `{"type":"ExternalName","externalName":"example.com"}`, "", ""},
		{"to ExternalName with an address", `{"type":"ExternalName","externalName":"example.com","clusterIP":"10.96.0.11"}`, had, "spec.clusterIPs: Forbidden: may not be set for ExternalName services"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.post(services, service("web", "type: NodePort, clusterIP: 10.96.0.10, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}]")).ok()
			w.post(services, service("other", "type: NodePort, clusterIP: 10.96.0.99, ports: [{port: 80, nodePort: 30099}]")).ok()
			if a := w.patch("merge", services+"/web", `{"spec":`+row.patch+`}`); row.fails == "" {
				a.ok()
			} else {
				a.fails(422, metav1.StatusReasonInvalid, row.fails)
			}
			got := strings.NewReplacer(" 10.96.0.99", "", "10.96.0.99", "", " 30099", "", "30099", "").Replace(w.claims())
			if got = strings.TrimSpace(got); got != row.want {
				t.Errorf("claimed is %q, want %q", got, row.want)
			}
		})
	}
}

func TestManifestThatIsAppliedAgainKeepsTheAddresses(t *testing.T) {
	w := newWorld(t)
	manifest := service("web", "type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 80, protocol: UDP}, {name: c, port: 81}]")
	before := w.post(services, manifest)
	if s := before.spec(); s.Ports[0].NodePort != s.Ports[1].NodePort || s.Ports[0].NodePort == s.Ports[2].NodePort {
		t.Errorf("TCP and UDP of one port get the same number, others do not: %v", s.Ports)
	}
	if after := w.put(services+"/web", manifest); string(after.ok().body) != string(before.body) {
		t.Errorf("before and after:\n%s\n%s", before.body, after.body)
	}
	last := before.spec().Ports[2].NodePort
	taken := fmt.Sprintf(`{"spec":{"ports":[{"name":"a","port":80,"nodePort":%d},{"name":"c","port":81}]}}`, last)
	if s := w.patch("merge", services+"/web", taken).spec(); s.Ports[0].NodePort != last || s.Ports[1].NodePort == last {
		t.Errorf("the first port has taken the number of the last: %v", s.Ports)
	}
	w.patch("merge", services+"/web", `{"spec":{"type":"ExternalName","externalName":"example.com"}}`).ok()
	if s := w.patch("merge", services+"/web", `{"spec":{"type":"ClusterIP"}}`).spec(); s.ClusterIP == "" || s.ExternalName != "" || w.claims() != s.ClusterIP {
		t.Errorf("a name that became a service: %+v, claimed is %q", s, w.claims())
	}
}

func TestAddressThatCannotBeHadIsRefused(t *testing.T) {
	w := newWorld(t)
	w.post(services, service("there", "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]")).ok()
	for _, row := range []struct{ name, spec, says string }{
		{"IP of another", "clusterIP: 10.96.0.1", `Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated`},
		{"IP outside", "clusterIP: 10.97.0.1", `failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16`},
		{"network", "clusterIP: 10.96.0.0", "not in the valid range"},
		{"broadcast", "clusterIP: 10.96.255.255", "not in the valid range"},
		{"mapped IP", `clusterIP: "::ffff:10.96.0.9"`, "spec.clusterIPs"},
		{"no IP", "clusterIP: here", `spec.clusterIPs[0]: Invalid value: "here": must be a valid IP address`},
		{"two IPs", "clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2, 10.96.0.3]", "not configured for dual-stack services"},
		{"second field only", "clusterIPs: [10.96.0.2]", "must be empty when `clusterIP` is not specified"},
		{"headless with node ports", "type: NodePort, clusterIP: None", "may not be set to 'None' for NodePort services"},
		{"IPv6", "ipFamilies: [IPv6]", `spec.ipFamilies[0]: Unsupported value: "IPv6": supported values: "IPv4"`},
		{"both families", "ipFamilyPolicy: RequireDualStack", `spec.ipFamilyPolicy: Unsupported value: "RequireDualStack": supported values: "SingleStack", "PreferDualStack"`},
		{"port of another", "type: NodePort, ports: [{port: 80, nodePort: 30080}]", "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"},
		{"port outside", "type: NodePort, ports: [{port: 80, nodePort: 32768}]", "spec.ports[0].nodePort: Invalid value: 32768: provided port is not in the valid range. The range of valid ports is 30000-32767"},
		{"one port twice", "type: NodePort, ports: [{name: a, port: 80, nodePort: 30081}, {name: b, port: 81, nodePort: 30081}]", "spec.ports[1].nodePort: Duplicate value: \"30081/TCP\""},
		{"second port of another", "type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81, nodePort: 30080}]", "spec.ports[1].nodePort"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := w.in(t)
			for _, query := range []string{"", "?dryRun=All"} {
				w.post(services+query, service("web", row.spec)).fails(422, metav1.StatusReasonInvalid, row.says)
			}
			if got := w.claims(); got != "10.96.0.1 30080" {
				t.Errorf("claimed is %q", got)
			}
		})
	}
	if s := w.post(services, service("prefers", "ipFamilyPolicy: PreferDualStack")).spec(); len(s.ClusterIPs) != 1 {
		t.Errorf("who prefers two families: %v", s.ClusterIPs)
	}
}

func TestAllAddressesThatCannotBeHadAreNamedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.post(services, service("there", "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]")).ok()
	const ports = "ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}, {name: c, port: 82, nodePort: 7}, {name: d, port: 83}]"
	a := w.post(services, service("web", "type: NodePort, clusterIP: 10.97.0.1, "+ports)).fails(422, metav1.StatusReasonInvalid,
		"10.97.0.1) is not in the valid range", "30080: provided port is already allocated", "7: provided port is not in the valid range")
	var status metav1.Status
	if err := json.Unmarshal(a.body, &status); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, cause := range status.Details.Causes {
		fields = append(fields, cause.Field)
	}
	if want := []string{"spec.clusterIPs", "spec.ports[0].nodePort", "spec.ports[2].nodePort"}; !slices.Equal(fields, want) {
		t.Errorf("the causes are about %q, want %q", fields, want)
	}
	if got := w.claims(); got != "10.96.0.1 30080" {
		t.Errorf("claimed is %q", got)
	}
}

func TestWriteThatFailsOrIsDryClaimsNothing(t *testing.T) {
	w := newWorld(t)
	w.post(services, service("web", "clusterIP: 10.96.0.1")).ok()
	w.post(services, service("web", "type: NodePort")).fails(409, metav1.StatusReasonAlreadyExists)
	if s := w.post(services+"?dryRun=All", service("dry", "")).spec(); s.ClusterIP == "" {
		t.Errorf("a dry run does not show what it would be: %+v", s)
	}
	w.patch("merge", services+"/web?dryRun=All", `{"spec":{"type":"ExternalName","externalName":"example.com"}}`).ok()
	w.delete(services + "/web?dryRun=All").ok()
	var ports []string
	for i := range 250 { // so many that two would meet by chance
		ports = append(ports, fmt.Sprintf("{name: p%d, port: %d}", i, 1+i))
	}
	numbers := map[int32]bool{}
	for _, port := range w.post(services+"?dryRun=All", service("dry", "type: NodePort, ports: ["+strings.Join(ports, ", ")+"]")).spec().Ports {
		numbers[port.NodePort] = true
	}
	if len(numbers) != len(ports) {
		t.Errorf("%d ports have %d numbers", len(ports), len(numbers))
	}
	if got := w.claims(); got != "10.96.0.1" {
		t.Errorf("after dry runs %q is claimed", got)
	}
	w.store.update = func() { // another writer comes first, once
		w.store.update = nil
		w.patch("merge", services+"/web", `{"metadata":{"labels":{"a":"b"}}}`).ok()
	}
	s := w.patch("merge", services+"/web", `{"spec":{"type":"NodePort"}}`).spec()
	if got, want := w.claims(), fmt.Sprint("10.96.0.1 ", s.Ports[0].NodePort); got != want {
		t.Errorf("claimed is %q, want %q", got, want)
	}
}

func TestRangeIsUsedToItsEndAndTheLowNumbersLast(t *testing.T) {
	w := newWorld(t)
	w.within("10.1.0.0/26")
	for i := range 62 {
		ip := netip.MustParseAddr(w.post(services, service(fmt.Sprint("s", i), "")).spec().ClusterIP).As4()
		if low := ip[3] == 1; low != (i == 61) {
			t.Errorf("number %d got %v", i, ip)
		}
	}
	w.post(services, service("more", "")).fails(422, metav1.StatusReasonInvalid, "spec.clusterIPs: Forbidden: failed to allocate one: range is full, all 62 are taken")
	freed := w.get(services + "/s7").spec().ClusterIP
	w.delete(services + "/s7").ok()
	if got := w.post(services, service("more", "")).spec().ClusterIP; got != freed {
		t.Errorf("got %s, and only %s was free", got, freed)
	}
}

func TestAddressesOutliveTheServer(t *testing.T) {
	w := newWorld(t)
	before := w.post(services, service("web", "type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]"))
	w.within(apiserver.DefaultServiceCIDR)
	w.post(services, service("ip", "clusterIP: 10.96.0.10")).fails(422, metav1.StatusReasonInvalid, "already allocated")
	w.post(services, service("port", "type: NodePort, ports: [{port: 80, nodePort: 30080}]")).fails(422, metav1.StatusReasonInvalid, "already allocated")
	w.within("10.1.0.0/24") // the service is out of it now, but lives on
	if after := w.put(services+"/web", string(before.body)); string(after.ok().body) != string(before.body) {
		t.Errorf("before and after:\n%s\n%s", before.body, after.body)
	}
	w.delete(services + "/web").ok()
	if got := w.claims(); got != "" {
		t.Errorf("after its end: %q", got)
	}
}

// stepStore lets a test step in before a key is created or deleted, and after it was updated.
type stepStore struct {
	store.Store
	in func(verb, key string) error // an error is that of the write
}

func (s *stepStore) step(verb, key string) error {
	if s.in == nil {
		return nil
	}
	return s.in(verb, key)
}

func (s *stepStore) Create(ctx context.Context, key string, value []byte, who string) (int64, error) {
	if err := s.step("create", key); err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, key, value, who)
}

func (s *stepStore) Update(ctx context.Context, key string, value []byte, expected int64, who string) (int64, error) {
	revision, err := s.Store.Update(ctx, key, value, expected, who)
	if err == nil {
		err = s.step("updated", key)
	}
	return revision, err
}

func (s *stepStore) Delete(ctx context.Context, key string, expected int64, who string) (int64, error) {
	if err := s.step("delete", key); err != nil {
		return 0, err
	}
	return s.Store.Delete(ctx, key, expected, who)
}

// slow returns a world in a bubble of synctest, with steps, in which no request ends because the test takes long.
func slow(t *testing.T) (*world, *stepStore) {
	w := newWorld(t)
	w.ctx = context.Background()
	steps := &stepStore{Store: w.store.Store}
	w.store.Store = steps
	return w, steps
}

var errCrash = errors.New("the power is off")

func TestClaimThatACrashHasLeftIsTakenOver(t *testing.T) {
	for _, row := range []struct {
		name  string
		crash func(w *world, steps *stepStore) // leaves the claim of 10.96.0.10
	}{
		{"before the service is created", func(w *world, steps *stepStore) {
			steps.in = func(verb, key string) error {
				if key == "services/default/web" {
					return errCrash
				}
				return nil
			}
			w.post(services, service("web", "clusterIP: 10.96.0.10")).fails(500, metav1.StatusReasonInternalError)
		}},
		{"after the service is deleted", func(w *world, steps *stepStore) {
			w.post(services, service("web", "clusterIP: 10.96.0.10")).ok()
			steps.in = func(verb, key string) error {
				if key == "serviceips/10.96.0.10" && verb == "delete" {
					return errCrash
				}
				return nil
			}
			w.delete(services + "/web").ok()
		}},
		{"after the service has let go of it", func(w *world, steps *stepStore) {
			w.post(services, service("web", "clusterIP: 10.96.0.10")).ok()
			steps.in = func(verb, key string) error {
				if key == "serviceips/10.96.0.10" && verb == "delete" {
					return errCrash
				}
				return nil
			}
			w.patch("merge", services+"/web", `{"spec":{"type":"ExternalName","externalName":"example.com"}}`).ok()
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, steps := slow(t)
				row.crash(w, steps)
				steps.in = nil
				if w.claims() != "10.96.0.10" {
					t.Fatalf("claimed is %q", w.claims())
				}
				time.Sleep(59 * time.Second)
				w.post(services, service("next", "clusterIP: 10.96.0.10")).fails(422, metav1.StatusReasonInvalid, "already allocated")
				time.Sleep(time.Second)
				w.post(services, service("next", "clusterIP: 10.96.0.10")).ok()
				time.Sleep(time.Hour)
				w.post(services, service("last", "clusterIP: 10.96.0.10")).fails(422, metav1.StatusReasonInvalid, "already allocated")
				w.delete(services + "/next").ok()
				if got := w.claims(); got != "" {
					t.Errorf("after its end: %q", got)
				}
			})
		})
	}
}

func TestAnotherIsFasterToClaim(t *testing.T) {
	w, steps := slow(t)
	faster := func(name string) {
		steps.in = func(verb, key string) error {
			if ip, ok := strings.CutPrefix(key, "serviceips/"); ok {
				steps.in = nil
				w.post(services, service(name, "clusterIP: "+ip)).ok()
			}
			return nil
		}
	}
	faster("first")
	w.post(services, service("wants-it", "clusterIP: 10.96.0.10")).fails(422, metav1.StatusReasonInvalid, "already allocated")
	faster("second")
	if s := w.post(services, service("wants-any", "")).spec(); len(strings.Fields(w.claims())) != 3 || !strings.Contains(w.claims(), s.ClusterIP) {
		t.Errorf("it has %s, claimed is %s", s.ClusterIP, w.claims())
	}
}

func TestWriterThatIsTooSlowLosesTheAddressAndDoesNotUseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, steps := slow(t)
		steps.in = func(verb, key string) error {
			if key == "services/default/slow" {
				time.Sleep(2 * time.Minute)
			}
			return nil
		}
		var running sync.WaitGroup
		running.Go(func() {
			w.post(services, service("slow", "clusterIP: 10.96.0.10")).fails(504, metav1.StatusReasonTimeout)
		})
		time.Sleep(90 * time.Second)
		w.post(services, service("fast", "clusterIP: 10.96.0.10")).ok()
		running.Wait()
		w.get(services+"/slow").fails(404, metav1.StatusReasonNotFound)
		if got := w.claims(); got != "10.96.0.10" {
			t.Errorf("claimed is %q", got)
		}
	})
}

func TestClaimThatWasTakenOverIsNotGivenBackByTheOldOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, steps := slow(t)
		w.post(services, service("old", "type: NodePort, ports: [{port: 80, nodePort: 30080}]")).ok()
		time.Sleep(time.Hour)
		steps.in = func(verb, key string) error { // before the old owner gets to it
			if verb == "updated" && key == "services/default/old" {
				steps.in = nil
				w.post(services, service("new", "type: NodePort, ports: [{port: 80, nodePort: 30080}]")).ok()
			}
			return nil
		}
		w.patch("merge", services+"/old", `{"spec":{"type":"ClusterIP"}}`).ok()
		if got := w.claims(); !strings.Contains(got, "30080") {
			t.Errorf("claimed is %q", got)
		}
		w.post(services, service("late", "type: NodePort, ports: [{port: 80, nodePort: 30080}]")).fails(422, metav1.StatusReasonInvalid, "already allocated")
	})
}

// TestNoTwoServicesEverHaveOneAddress lets clients create, change and delete over two servers that share a store, all with
// the same few addresses, half of which have claims that a crash has left. Then it goes through the log of the store.
func TestNoTwoServicesEverHaveOneAddress(t *testing.T) {
	w := newWorld(t)
	const cidr, clients, rounds = "10.1.0.0/28", 8, 60
	for i := range 14 {
		stale := fmt.Sprintf(`{"Namespace":"default","Name":"none","UID":"x","At":"%s"}`, time.Now().Add(-time.Hour).Format(time.RFC3339))
		for _, key := range []string{fmt.Sprint("serviceips/10.1.0.", 1+2*i%14), fmt.Sprint("servicenodeports/", 30000+i)} {
			if _, err := w.store.Create(w.ctx, key, []byte(stale), "test"); err != nil && !errors.Is(err, store.ErrExists) {
				t.Fatal(err)
			}
		}
	}
	var users []client.Resource[*corev1.Service]
	for range 2 {
		w.within(cidr)
		users = append(users, client.Of[*corev1.Service](w.as("admin")))
	}
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			random, user := rand.New(rand.NewPCG(1, uint64(i))), users[i%2]
			for range rounds {
				s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", random.IntN(20))}}
				s.Spec.Type = []corev1.ServiceType{"ClusterIP", "NodePort", "ExternalName"}[random.IntN(3)]
				s.Spec.ExternalName = "example.com"
				s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
				if s.Spec.Type == corev1.ServiceTypeNodePort {
					s.Spec.Ports[0].NodePort = 30000 + random.Int32N(10)
				}
				if s.Spec.Type != corev1.ServiceTypeExternalName && random.IntN(2) == 0 {
					s.Spec.ClusterIP = fmt.Sprint("10.1.0.", 1+random.IntN(14))
				}
				var err error
				switch random.IntN(3) {
				case 0:
					_, err = user.Create(w.ctx, s)
				case 1:
					_, err = user.Update(w.ctx, s)
				case 2:
					_, err = user.Delete(w.ctx, s.Namespace, s.Name, metav1.DeleteOptions{})
				}
				if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	most := w.checkLog()
	if most < 5 {
		t.Errorf("never more than %d addresses in use: the test has tested nothing", most)
	}
	for _, s := range w.get(services).object().Items {
		w.delete(services + "/" + s.Name).ok()
	}
	for _, claim := range strings.Fields(w.claims()) {
		for prefix := range map[string]bool{"serviceips/": true, "servicenodeports/": true} {
			if o, err := w.store.Get(w.ctx, prefix+claim); err == nil && !strings.Contains(string(o.Value), `"UID":"x"`) {
				t.Errorf("all services are gone, and %s is claimed by %s", claim, o.Value)
			}
		}
	}
}

// checkLog goes through all changes of services, and fails if two had one address at any time. It returns how many
// addresses were in use at the most.
func (w *world) checkLog() (most int) {
	w.t.Helper()
	_, end, err := w.store.List(w.ctx, "services/")
	if err != nil {
		w.t.Fatal(err)
	}
	watcher, err := w.store.Watch("services/", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	user := map[string]string{} // of an address
	for watcher.Revision() < end {
		changes, err := watcher.Next(w.ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, change := range changes {
			for _, address := range addressesIn(w.t, change.Previous) {
				delete(user, address)
			}
			for _, address := range addressesIn(w.t, change.Value) {
				if other := user[address]; other != "" {
					w.t.Errorf("at revision %d %s gets %s, which %s has", change.Revision, change.Key, address, other)
				}
				user[address] = change.Key
			}
			most = max(most, len(user))
		}
	}
	return most
}

func addressesIn(t *testing.T, value []byte) (all []string) {
	t.Helper()
	var s corev1.Service
	if value == nil {
		return nil
	} else if err := json.Unmarshal(value, &s); err != nil {
		t.Fatal(err)
	}
	if s.Spec.ClusterIP != "" {
		all = append(all, s.Spec.ClusterIP)
	}
	for _, port := range s.Spec.Ports {
		if port.NodePort != 0 {
			all = append(all, fmt.Sprint(port.NodePort))
		}
	}
	return all
}
