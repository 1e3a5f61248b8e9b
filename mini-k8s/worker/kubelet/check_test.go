package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/worker/runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// scripted is a runtime in which programs end as a test says.
type scripted struct {
	*runtime.Hollow
	code   int
	output string
	err    error
}

func (s scripted) Exec(ctx context.Context, id string, command []string, streams runtime.Streams) (int, error) {
	if s.err == nil && command[0] == "hang" {
		<-ctx.Done()
		return 0, fmt.Errorf("run %q: %w", command, ctx.Err())
	}
	io.WriteString(streams.Stdout, s.output)
	return s.code, s.err
}

func TestContainersAreAskedAsTheirProbesSay(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/code/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/to/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/code/503", http.StatusFound) })
	mux.HandleFunc("/to/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusMovedPermanently)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/picky", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "web.example" || r.Header.Get("X-Key") != "a" || r.Header.Get("Accept") != "*/*" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") || r.URL.RawQuery != "full=1" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	port := func(server *httptest.Server) intstr.IntOrString {
		at, _ := url.Parse(server.URL)
		return intstr.Parse(at.Port())
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := intstr.FromInt(closed.Addr().(*net.TCPAddr).Port)
	closed.Close()

	get := func(path string, changes ...func(*corev1.HTTPGetAction)) corev1.ProbeHandler {
		action := &corev1.HTTPGetAction{Path: path, Port: port(plain), Scheme: corev1.URISchemeHTTP}
		for _, change := range changes {
			change(action)
		}
		return corev1.ProbeHandler{HTTPGet: action}
	}
	at := func(port intstr.IntOrString) func(*corev1.HTTPGetAction) {
		return func(action *corev1.HTTPGetAction) { action.Port = port }
	}
	connect := func(port intstr.IntOrString) corev1.ProbeHandler {
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}
	}
	about := Container{Container: &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: port(plain).IntVal}}}, ID: "app-0", PodIP: "127.0.0.1"}
	for _, test := range []struct {
		name    string
		handler corev1.ProbeHandler
		runtime scripted
		failure string // a part of it; "" for none
		err     string
	}{
		{"200", get("/code/200"), scripted{}, "", ""},
		{"no slash", get("code/204"), scripted{}, "", ""},
		{"404", get("/code/404"), scripted{}, "HTTP probe failed with statuscode: 404", ""},
		{"500", get("/code/500"), scripted{}, "HTTP probe failed with statuscode: 500", ""},
		{"redirected on the same host", get("/to/here"), scripted{}, "statuscode: 503", ""},
		{"redirected to another host", get("/to/elsewhere"), scripted{}, "", ""},
		{"redirected for ever", get("/round"), scripted{}, "stopped after 10 redirects", ""},
		{"headers and query", get("/picky?full=1", func(a *corev1.HTTPGetAction) {
			a.HTTPHeaders = []corev1.HTTPHeader{{Name: "host", Value: "web.example"}, {Name: "X-Key", Value: "a"}}
		}), scripted{}, "", ""},
		{"by the name of the port", get("/code/200", at(intstr.FromString("web"))), scripted{}, "", ""},
		{"by a name that is none", get("/code/200", at(intstr.FromString("wbe"))), scripted{}, "", `container app has no port "wbe"`},
		{"with a certificate that nobody knows", get("/code/200", at(port(secure)), func(a *corev1.HTTPGetAction) { a.Scheme = corev1.URISchemeHTTPS }), scripted{}, "", ""},
		{"another host", get("/code/200", func(a *corev1.HTTPGetAction) { a.Host = "localhost" }), scripted{}, "", ""},
		{"no answer in time", get("/slow"), scripted{}, "context deadline exceeded", ""},
		{"nobody listens", get("/", at(nobody)), scripted{}, "connection refused", ""},
		{"a socket", connect(port(plain)), scripted{}, "", ""},
		{"a socket by name", connect(intstr.FromString("web")), scripted{}, "", ""},
		{"no socket", connect(nobody), scripted{}, "connection refused", ""},
		{"a program that succeeds", command("true"), scripted{output: "fine"}, "", ""},
		{"a program that fails", command("false"), scripted{code: 2, output: "disk full\n"}, "disk full", ""},
		{"a program that fails in silence", command("false"), scripted{code: 2}, "command ended with exit code 2", ""},
		{"a program that has much to say", command("false"), scripted{code: 2, output: strings.Repeat("x", 2*maxOutput)}, strings.Repeat("x", maxOutput), ""},
		{"a program that hangs", command("hang"), scripted{}, "command timed out: hang", ""},
		{"a program that cannot be run", command("true"), scripted{err: errors.New("Docker is away")}, "", "Docker is away"},
		{"no way to ask", corev1.ProbeHandler{}, scripted{}, "", "no way"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			failure, err := (&Kubelet{Config: Config{Runtime: test.runtime}}).askContainer(ctx, test.handler, about)
			if !strings.Contains(failure, test.failure) || test.failure == "" && failure != "" {
				t.Errorf("the failure is %q, want %q", failure, test.failure)
			}
			if said := fmt.Sprint(err); test.err == "" && err != nil || !strings.Contains(said, test.err) {
				t.Errorf("the error is %q, want %q", said, test.err)
			}
		})
	}
}
