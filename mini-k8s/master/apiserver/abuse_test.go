package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/pki"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// site is a world that is served over the network, as the master serves it.
type site struct {
	*world
	address string
	tls     *tls.Config // of the admin
	active  atomic.Int64
}

func (w *world) serve() *site {
	w.t.Helper()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.serveOn(port)
}

func (w *world) serveOn(port net.Listener) *site {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	ca, err := pki.LoadOrCreate(w.t.TempDir())
	must(err)
	w.server, err = apiserver.New(w.ctx, apiserver.Config{Store: w.store, CA: ca})
	must(err)
	pair, err := ca.Issue("component:apiserver", "127.0.0.1")
	must(err)
	config, err := pki.ServerTLS(ca.CertPEM, pair)
	must(err)
	admin, err := ca.Issue("admin")
	must(err)
	s := &site{world: w}
	s.tls, err = pki.ClientTLS(ca.CertPEM, admin)
	must(err)
	s.address = port.Addr().String()
	handler := w.server.Handler()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- pki.Serve(ctx, port, config, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			s.active.Add(1)
			defer s.active.Add(-1)
			handler.ServeHTTP(rw, r)
		}))
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("serve: %v", err)
		}
	})
	return s
}

// browser returns a client of the HTTP version.
func (s *site) browser(version int) *http.Client {
	transport := &http.Transport{TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: version == 2, DisableKeepAlives: version == 1}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send sends a request; a body of unknown length goes in chunks.
func (s *site) send(browser *http.Client, method, path, contentType string, body io.Reader) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.ctx, method, "https://"+s.address+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	response, err := browser.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{s.t, response.StatusCode, response.Header.Values("Warning"), data}
}

// many repeats what can stand in a JSON list until the body is nearly as large as it may be.
func many(before, element, after string) string {
	return before + strings.Repeat(element+",", (3<<20-1000)/(len(element)+1)) + element + after
}

// numbered repeats a format with growing numbers.
func numbered(before, format string, count int, after string) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, format, i)
	}
	return before + strings.TrimSuffix(b.String(), ",") + after
}

func deep(levels int, leaf string) string {
	return strings.Repeat(`{"a":`, levels) + leaf + strings.Repeat("}", levels)
}

// TestBodyThatWouldCostTooMuchIsRefusedInWords: each row is refused with a Status, for little memory, and harms no other.
// Every other goes over HTTP/2.
func TestBodyThatWouldCostTooMuchIsRefusedInWords(t *testing.T) {
	const (
		asJSON, asYAML, asProtobuf = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
		jsonPatch, mergePatch      = "application/json-patch+json", "application/merge-patch+json"
		strategicPatch             = "application/strategic-merge-patch+json"
		complex                    = "limit is 10000 values, in no more than 64 levels"
		digits                     = "a quantity has too many digits"
	)
	podWith := func(spec string) string { return `{"metadata":{"name":"x"},"spec":{` + spec + `}}` }
	cpu := func(quantity string) string {
		return podWith(`"containers":[{"name":"c","image":"i:1","resources":{"requests":{"cpu":` + quantity + `}}}]`)
	}
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	// field is one of protobuf, whose value is text, bytes, or what is in a message.
	field := func(number protowire.Number, values ...string) string {
		tag := protowire.AppendTag(nil, number, protowire.BytesType)
		return string(protowire.AppendString(tag, strings.Join(values, "")))
	}
	protobufPod := func(containers string) string {
		return "k8s\x00" + field(1, field(1, "v1"), field(2, "Pod")) + field(2, field(2, containers))
	}
	requests := field(2, field(8, field(2, field(1, "cpu"), field(2, field(1, "1e-999999999")))))

	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "k: v")).ok()
	w.post(deployments, deployment("web", "")).ok()
	s := w.serve()
	browsers := []*http.Client{s.browser(1), s.browser(2)}
	for i, row := range []struct {
		name, method, path, contentType, body string
		code                                  int
		says                                  string
	}{
		{"over 3 MB", "POST", configMaps, asJSON, configMap("x", "", "k: "+strings.Repeat("x", 4<<20)), 413, "limit is 3145728 bytes"},
		{"a patch over 3 MB", "PATCH", configMaps + "/a", mergePatch, `{"data":{"k":"` + strings.Repeat("x", 4<<20) + `"}}`, 413, "limit is 3145728 bytes"},
		{"a million containers", "POST", pods, asJSON, podWith(many(`"containers":[`, `{}`, `]`)), 413, complex},
		{"a million of null", "POST", pods, asJSON, podWith(many(`"containers":[`, `null`, `]`)), 413, complex},
		{"a million containers in protobuf", "POST", pods, asProtobuf, protobufPod(strings.Repeat("\x12\x00", 1<<20)), 413, complex},
		{"a tiny quantity in protobuf", "POST", pods, asProtobuf, protobufPod(requests), 400, digits},
		{"a JSON patch that multiplies a list", "PATCH", configMaps + "/a", jsonPatch,
			numbered(`[{"op":"add","path":"/x","value":[0`+strings.Repeat(",0", 4000)+`]},`, `{"op":"copy","from":"/x","path":"/y%d"},`, 4, `]`), 413, complex},
		{"10,000 errors", "POST", configMaps, asJSON, numbered(`{"metadata":{"name":"x","finalizers":[`, `"_%d",`, 9_900, `]}}`), 422, "metadata.finalizers"},
		{"JSON of 100,000 levels", "POST", configMaps, asJSON, deep(100_000, "1"), 413, complex},
		{"lists of 100,000 levels that never end", "POST", configMaps, asJSON, strings.Repeat("[", 100_000), 413, complex},
		{"a merge patch of 9,000 levels", "PATCH", configMaps + "/a", mergePatch, deep(9_000, `"`+strings.Repeat("x", 1<<20)+`"`), 413, complex},
		{"a strategic patch of 9,000 levels", "PATCH", configMaps + "/a", strategicPatch, deep(9_000, "1"), 413, complex},
		{"a strategic patch of 60,000 elements", "PATCH", deployments + "/web", strategicPatch,
			numbered(`{"spec":{"template":{"spec":{"containers":[`, `{"name":"c%d"},`, 60_000, `]}}}}`), 413, complex},
		{"a JSON patch of many steps", "PATCH", deployments + "/web", jsonPatch, many(`[`, `{"op":"add","path":"/spec/template/spec/containers/0","value":{}}`, `]`), 413, complex},
		{"a JSON patch that copies a megabyte 2,000 times", "PATCH", configMaps + "/a", jsonPatch,
			numbered(`[{"op":"add","path":"/data/x","value":"`+strings.Repeat("x", 1<<20)+`"},`, `{"op":"copy","from":"/data/x","path":"/data/y%d"},`, 2_000, `]`), 400, "copy"},
		{"a JSON patch that doubles itself 30 times", "PATCH", configMaps + "/a", jsonPatch,
			numbered(`[`, `{"op":"copy","from":"/data","path":"/data/y%d"},`, 30, `]`), 400, "patch cannot be applied"},
		{"a patch that is no list", "PATCH", configMaps + "/a", jsonPatch, `{"op":"add"}`, 400, "patch cannot be applied"},
		{"YAML with a billion laughs", "POST", configMaps, asYAML, laughs, 400, "excessive aliasing"},
		{"YAML of a million levels", "POST", configMaps, asYAML, strings.Repeat("- ", 1<<20), 400, "not YAML"},
		{"a tiny quantity", "POST", pods, asJSON, cpu(`"1e-999999999"`), 400, digits},
		{"a tiny quantity that is a number", "POST", pods, asJSON, cpu(`1e-999999999`), 400, digits},
		{"a tiny quantity in escapes, in a doubled field", "POST", pods, asJSON,
			podWith(`"containers":[{"name":"c","image":"i:1","resources":{"\u0072equests":{"cpu":"1e-999\u003999\u003999\u003999"},"requests":{}}}]`), 400, digits},
		{"a tiny quantity by a patch", "PATCH", deployments + "/web", strategicPatch,
			`{"spec":{"template":{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1e-999999999"}}}]}}}}`, 400, digits},
		{"a quantity of a million digits", "POST", pods, asJSON, cpu(`"` + strings.Repeat("9", 1<<20) + `Ki"`), 400, digits},
		{"replicas that overflow", "PATCH", deployments + "/web", mergePatch, `{"spec":{"replicas":2147483648}}`, 400, "spec.replicas of type int32"},
		{"a port that overflows", "POST", "/api/v1/namespaces/default/services", asJSON,
			`{"metadata":{"name":"x"},"spec":{"ports":[{"port":80,"targetPort":99999999999999999999}]}}`, 400, "cannot"},
		{"a date that is none", "POST", "/api/v1/namespaces/default/events", asJSON, `{"metadata":{"name":"x"},"involvedObject":{"namespace":"default"},"firstTimestamp":"2026-13-45T00:00:00Z"}`, 400, "parsing time"},
		{"a date that no year has in UTC", "POST", "/api/v1/namespaces/default/events", asJSON,
			`{"metadata":{"name":"x"},"involvedObject":{"namespace":"default"},"firstTimestamp":"9999-12-31T23:59:59-23:59"}`, 400, "parsing time"},
		{"a date before all years in UTC", "POST", "/api/v1/namespaces/default/events", asJSON,
			`{"metadata":{"name":"x"},"involvedObject":{"namespace":"default"},"firstTimestamp":"0000-01-01T00:00:00+23:59"}`, 400, "parsing time"},
		{"such a date in small parts of a second", "POST", "/api/v1/namespaces/default/events", asJSON,
			`{"metadata":{"name":"x"},"involvedObject":{"namespace":"default"},"eventTime":"9999-12-31T23:59:59.999999-00:01"}`, 400, "parsing time"},
		{"annotations of 300 KB", "POST", configMaps, asJSON, configMap("x", `annotations: {a: `+strings.Repeat("x", 300<<10)+`}`, ""), 422, "metadata.annotations: Too long"},
		{"a label in letters that look like others", "POST", configMaps, asJSON, configMap("x", `labels: {a: "аpp"}`, ""), 422, "metadata.labels"},
		{"a name with a zero", "POST", configMaps, asJSON, `{"metadata":{"name":"a\u0000b"}}`, 422, "metadata.name"},
		{"a name that is no UTF-8", "POST", configMaps, asJSON, "{\"metadata\":{\"name\":\"a\xff\"}}", 422, "metadata.name"},
		{"a name of another namespace", "POST", configMaps, asJSON, `{"metadata":{"name":"../kube-system/a"}}`, 422, "metadata.name"},
		{"a name of 10,000 letters", "POST", configMaps, asJSON, configMap(strings.Repeat("x", 10_000), "", ""), 422, "no more than 253"},
		{"a doubled field", "POST", configMaps + "?fieldValidation=Strict", asJSON, `{"metadata":{"name":"x","name":"y"}}`, 400, "duplicate field"},
		{"no object", "POST", configMaps, asJSON, `[]`, 400, "cannot unmarshal array"},
		{"gzip", "POST", configMaps, "application/gzip", "\x1f\x8b\x08\x00", 415, "application/gzip"},
		{"half an object", "POST", configMaps, asJSON, `{"metadata":`, 400, "unexpected end"},
	} {
		t.Run(row.name, func(t *testing.T) {
			browser := browsers[i%2]
			if len(row.body) > 3<<20 {
				browser = browsers[1] // over HTTP/1.1 the server hangs up, and the client may not get to read why
			}
			s := &site{world: s.in(t), address: s.address}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			// In chunks: the server does not know how much will come.
			a := s.send(browser, row.method, row.path, row.contentType, io.MultiReader(strings.NewReader(row.body)))
			runtime.ReadMemStats(&after)
			a.fails(row.code, reasonOf(row.code), row.says)
			// This counts both sides, and all that was ever in use.
			if used, most := after.TotalAlloc-before.TotalAlloc, uint64(30*len(row.body)+160<<20); used > most {
				t.Errorf("%d KB of memory for %d KB", used>>10, len(row.body)>>10)
			}
			if len(a.body) > 64<<10 {
				t.Errorf("%d bytes to say so: %.200s", len(a.body), a.body)
			}
			s.send(browser, "GET", configMaps+"/a", "", nil).ok()
		})
	}
}

func reasonOf(code int) metav1.StatusReason {
	return map[int]metav1.StatusReason{400: metav1.StatusReasonBadRequest, 413: metav1.StatusReasonRequestEntityTooLarge,
		415: metav1.StatusReasonUnsupportedMediaType, 422: metav1.StatusReasonInvalid}[code]
}

// TestNoQuantityIsReadThatWouldTakeHours: one that is makes this test wait in vain.
func TestNoQuantityIsReadThatWouldTakeHours(t *testing.T) {
	w := newWorld(t)
	for _, kind := range api.Kinds {
		for _, body := range quantitiesOf(reflect.TypeOf(kind.New()), nil) {
			w.post(kind.Path("default", "", ""), body).fails(400, metav1.StatusReasonBadRequest, "too many digits")
		}
	}
	if found := quantitiesOf(reflect.TypeOf(api.Lookup("hpa").New()), nil); len(found) < 8 {
		t.Errorf("an autoscaler has more quantities: %v", found)
	}
}

// quantitiesOf returns JSON of values of the type, each with a quantity in another field. A type that is in itself is not
// looked at again.
func quantitiesOf(of reflect.Type, in []reflect.Type) (all []string) {
	inside := func(before string, of reflect.Type, after string, in []reflect.Type) {
		for _, text := range quantitiesOf(of, in) {
			all = append(all, before+text+after)
		}
	}
	switch {
	case of == reflect.TypeFor[resource.Quantity]():
		return []string{`"1e-999999999"`}
	case slices.Contains(in, of):
	case of.Kind() == reflect.Pointer:
		inside("", of.Elem(), "", in)
	case of.Kind() == reflect.Slice:
		inside("[", of.Elem(), "]", in)
	case of.Kind() == reflect.Map:
		inside(`{"x":`, of.Elem(), "}", in)
	case of.Kind() == reflect.Struct:
		for i := range of.NumField() {
			field := of.Field(i)
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
				inside(`{"`+name+`":`, field.Type, "}", append(in, of))
			} else if field.Anonymous {
				inside("", field.Type, "", append(in, of))
			}
		}
	}
	return all
}

func TestPathAndQueryTricksFindNothing(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "k: v")).ok()
	s := w.serve()
	for _, row := range []struct {
		path  string
		codes []int // redirects are to what the path means
	}{
		{configMaps + "/../secrets", []int{301, 307}},
		{"/api/v1//namespaces/default/configmaps", []int{301, 307}},
		{"/api/v1/namespaces/kube-system%2f..%2fdefault/configmaps/a", []int{404}},
		{"/api/v1/namespaces/kube-system/configmaps/..%2fdefault%2fa", []int{404}},
		{configMaps + "/%2e%2e", []int{404}},
		{configMaps + "/a%00", []int{404}},
		{configMaps + "/%ff", []int{404}},
		{configMaps + "/%zz", []int{400}},
		{configMaps + "/A", []int{404}},
		{configMaps + "/a/", []int{405}},
		{configMaps + "/" + strings.Repeat("x", 10_000), []int{404}},
		{configMaps + "?labelSelector=" + strings.Repeat("x", 1<<20), []int{431}},
		{configMaps + "?labelSelector=a+in+(" + strings.Repeat("b,", 20_000) + "c)", []int{200}},
		{configMaps + "?labelSelector=a+in+(", []int{400}},
		{configMaps + `?fieldSelector=metadata.name%3D\`, []int{400}},
		{configMaps + `?fieldSelector=data.k%3Dv`, []int{400}},
		{configMaps + "?watch=true&timeoutSeconds=99999999999999999999", []int{400}},
		{configMaps + "?watch=true&resourceVersion=99999999999999999999", []int{400}},
		{"/api/v1/namespaces/default/pods/a/log?follow=maybe&tailLines=x", []int{400, 404}},
	} {
		t.Run(fmt.Sprintf("%.80s", row.path), func(t *testing.T) {
			connection := s.in(t).dial(s)
			fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nAccept: */*;q=0,\xff\r\n\r\n", row.path)
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			found := false
			for _, code := range row.codes {
				found = found || code == response.StatusCode
			}
			if !found {
				body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
				t.Errorf("got %d, want one of %v: %s", response.StatusCode, row.codes, body)
			}
		})
	}
	for name, header := range map[string]string{"one header of 1 MB": "X: " + strings.Repeat("x", 1<<20), "100,000 headers": strings.Repeat("X: y\r\n", 100_000) + "Z: z"} {
		t.Run(name, func(t *testing.T) {
			connection := s.in(t).dial(s)
			go fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", header)
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("got %d", response.StatusCode)
			}
		})
	}
}

// dial opens a connection for HTTP/1.1 by hand.
func (w *world) dial(s *site) net.Conn {
	w.t.Helper()
	connection, err := tls.Dial("tcp", s.address, s.tls)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { connection.Close() })
	connection.SetDeadline(time.Now().Add(patience))
	return connection
}

func TestObjectDoesNotGrowLargerThanABody(t *testing.T) {
	w := newWorld(t)
	w.post(deployments, deployment("web", "")).ok()
	add := func() answer {
		return w.patch("json", deployments+"/web", `[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"`+strings.Repeat("x", 2<<20)+`"}]`)
	}
	w.patch("merge", deployments+"/web", `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:1","args":["x"]}]}}}}`).ok()
	add().ok()
	add().fails(413, metav1.StatusReasonRequestEntityTooLarge, "limit is 3145728 bytes")
	w.patch("merge", deployments+"/web", `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:1"}]}}}}`).ok()
}

func TestWatchMayAskForALongTime(t *testing.T) {
	w := newWorld(t)
	watch := w.watch(configMaps, "resourceVersion=0&timeoutSeconds=9223372036854775807")
	w.post(configMaps, configMap("a", "", "")).ok()
	watch.expect("ADDED a")
}

func TestManagersAndWarningsOfOneObjectHaveAnEnd(t *testing.T) {
	w := newWorld(t)
	w.post(configMaps, configMap("a", "", "")).ok()
	for i := range 30 {
		w.call("admin", "PUT", configMaps+"/a", configMap("a", "", fmt.Sprintf(`n: "%d"`, i)), fmt.Sprintf("User-Agent: \xff%d%s", i, strings.Repeat("x", 1000))).ok()
	}
	for i := range 3 {
		w.call("admin", "PUT", configMaps+"/a", configMap("a", "", fmt.Sprintf(`n: "%d"`, -i)), "User-Agent: last\xff").ok()
	}
	managers := w.get(configMaps + "/a").object().ManagedFields
	if last := managers[len(managers)-1]; len(managers) != 10 || last.Manager != "last" || len(managers[0].Manager) > 128 || managers[8].Manager == "last" {
		t.Errorf("%d managers, the last is %q", len(managers), last.Manager)
	}
	a := w.post(configMaps, numbered(`{"metadata":{"name":"b"}`, `,"unknown%d`+strings.Repeat("x", 2000)+`":1`, 1000, `}`)).ok()
	if size := len(strings.Join(a.warnings, "")); len(a.warnings) == 0 || size > 20_000 {
		t.Errorf("%d warnings, of %d bytes", len(a.warnings), size)
	}
}
