package apiserver_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// overTLS serves the world on a port, under a CA of its own.
func (w *world) overTLS() (*httptest.Server, *pki.CA) {
	w.t.Helper()
	ca, err := pki.LoadOrCreate(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	if w.server, err = apiserver.New(w.ctx, apiserver.Config{Store: w.store, CA: ca, Kubelet: w.server.Kubelet}); err != nil {
		w.t.Fatal(err)
	}
	pair, err := ca.Issue("component:apiserver", "127.0.0.1")
	if err != nil {
		w.t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(w.server.Handler())
	if web.TLS, err = pki.ServerTLS(ca.CertPEM, pair); err != nil {
		w.t.Fatal(err)
	}
	web.StartTLS()
	w.t.Cleanup(web.Close)
	return web, ca
}

func TestCertificateSaysWhoCalls(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	as := func(name string) client.Resource[*corev1.Secret] {
		t.Helper()
		pair, err := ca.Issue(name)
		if err != nil {
			t.Fatal(err)
		}
		config, err := pki.ClientTLS(ca.CertPEM, pair)
		if err != nil {
			t.Fatal(err)
		}
		return client.Of[*corev1.Secret](client.New(client.Config{Server: web.URL, Name: "test", TLS: config}))
	}
	if _, err := as("admin").List(w.ctx, client.Selection{}); err != nil {
		t.Errorf("admin: %v", err)
	}
	for _, name := range []string{"viewer", "node:node-1", "nobody"} {
		if _, err := as(name).List(w.ctx, client.Selection{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutACertificateOnlyTheDoorIsOpen(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	stranger := web.Client()
	stranger.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/version": 200, "/join": 200,
		"/api": 401, "/apis": 401, "/api/v1/namespaces": 401, "/openapi/v3": 401, "/join/": 401, "/nowhere": 401,
	} {
		response, err := stranger.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
	other, err := pki.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	forged, err := other.Issue("admin")
	if err != nil {
		t.Fatal(err)
	}
	config, err := pki.ClientTLS(ca.CertPEM, forged)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*corev1.Node](client.New(client.Config{Server: web.URL, TLS: config})).List(w.ctx, client.Selection{}); err == nil {
		t.Error("a certificate of another CA is accepted")
	}
}

// joinToken has the server know a join token, which never expires.
func (w *world) joinToken() string {
	w.t.Helper()
	w.post("/api/v1/namespaces/kube-system/secrets", toJSON(`{metadata: {name: bootstrap-token-abcdef}, type: bootstrap.kubernetes.io/token,
		stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "true"}}`)).ok()
	return "abcdef.0123456789abcdef"
}

func TestWorkerJoinsWithTheTokenAndIsThatNode(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	caPEM, pair, err := pki.Join(w.ctx, web.URL, w.joinToken()+"."+pki.CAHash(ca.CertPEM), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := pki.ClientTLS(caPEM, pair)
	if err != nil {
		t.Fatal(err)
	}
	nodes := client.Of[*corev1.Node](client.New(client.Config{Server: web.URL, Name: "kubelet", TLS: config}))
	node := &corev1.Node{}
	node.Name = "node-2"
	if _, err := nodes.Create(w.ctx, node); !apierrors.IsForbidden(err) {
		t.Errorf("as another node: %v", err)
	}
	node.Name = "node-1"
	if _, err := nodes.Create(w.ctx, node); err != nil {
		t.Errorf("as itself: %v", err)
	}
	response, err := web.Client().Post(web.URL+"/join", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", response.StatusCode)
	}
}

func TestBearerTokenSaysWhoCalls(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	other, err := pki.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token := func(ca *pki.CA, user string) string {
		t.Helper()
		token, err := ca.Token(user)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	viewer := token(ca, "viewer")
	for name, row := range map[string]struct {
		token string
		path  string
		want  int
	}{
		"admin reads secrets":        {token(ca, "admin"), "/api/v1/secrets", 200},
		"viewer reads pods":          {viewer, "/api/v1/pods", 200},
		"viewer reads no secrets":    {viewer, "/api/v1/secrets", 403},
		"a stranger's token":         {token(other, "admin"), "/api/v1/pods", 401},
		"another name, same code":    {token(ca, "admin")[:len("YWRtaW4")] + viewer[len("dmlld2Vy"):], "/api/v1/pods", 401},
		"a code that is cut":         {viewer[:len(viewer)-1], "/api/v1/pods", 401},
		"the join token is for none": {w.joinToken(), "/api/v1/pods", 401},
		"empty":                      {"", "/api/v1/pods", 401},
	} {
		r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, web.URL+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+row.token)
		response, err := web.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != row.want {
			t.Errorf("%s: %d, want %d", name, response.StatusCode, row.want)
		}
	}
}

func TestBearerTokenCountsMoreThanACertificate(t *testing.T) {
	w := newWorld(t)
	web, ca := w.overTLS()
	pair, err := ca.Issue("admin")
	if err != nil {
		t.Fatal(err)
	}
	config, err := pki.ClientTLS(ca.CertPEM, pair)
	if err != nil {
		t.Fatal(err)
	}
	asAdmin := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	t.Cleanup(asAdmin.CloseIdleConnections)
	viewer, err := ca.Token("viewer")
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{"": 200, "Bearer " + viewer: 403, "Bearer nonsense": 401} {
		r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, web.URL+"/api/v1/secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		response, err := asAdmin.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("with the admin's certificate and %q: %d, want %d", header, response.StatusCode, want)
		}
	}
}
