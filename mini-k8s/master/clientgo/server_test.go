// Package clientgo_test drives the API server with client-go, the clients that the programs of others are built with:
// over TLS, with a kubeconfig or a token. The packages kubernetes and informers of client-go are left out, and so is all
// that needs them (its leader election): they compile half of Kubernetes.
package clientgo_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	typedapps "k8s.io/client-go/kubernetes/typed/apps/v1"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// patience bounds every wait of these tests: what takes longer has failed.
const patience = 30 * time.Second

// cluster is an API server on a port, and its admin.
type cluster struct {
	t       *testing.T
	ctx     context.Context
	ca      *pki.CA
	store   *store.SQLite
	port    *port
	config  *rest.Config
	core    *typedcore.CoreV1Client
	apps    *typedapps.AppsV1Client
	dynamic dynamic.Interface
}

// port is a listener that can cut the connections that came over it.
type port struct {
	net.Listener
	mu          sync.Mutex // guards connections
	connections []net.Conn
}

func (p *port) Accept() (net.Conn, error) {
	connection, err := p.Listener.Accept()
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.connections = append(p.connections, connection)
	}
	return connection, err
}

func (p *port) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, connection := range p.connections {
		connection.Close()
	}
	p.connections = nil
}

// cut cuts all connections, and returns when there is a new one.
func (c *cluster) cut() {
	c.t.Helper()
	c.port.cut()
	c.eventually("a new connection", func() bool {
		_, err := c.maps().List(c.ctx, metav1.ListOptions{})
		return err == nil
	})
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	c := &cluster{t: t, ctx: ctx}
	var err error
	must := func(what error) {
		t.Helper()
		if what != nil {
			t.Fatal(what)
		}
	}
	c.store, err = store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	must(err)
	c.ca, err = pki.LoadOrCreate(t.TempDir())
	must(err)
	server, err := apiserver.New(ctx, apiserver.Config{Store: c.store, CA: c.ca})
	must(err)
	pair, err := c.ca.Issue("component:apiserver", "127.0.0.1")
	must(err)
	config, err := pki.ServerTLS(c.ca.CertPEM, pair)
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	c.port = &port{Listener: listener}
	served := make(chan error)
	go func() { served <- pki.Serve(ctx, c.port, config, server.Handler()) }()
	t.Cleanup(func() {
		cancel()
		c.port.cut() // the server would give HTTP/2 a second to say good-bye
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		c.store.Close()
	})

	admin, err := c.ca.Issue("admin")
	must(err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(pki.Kubeconfig{Cluster: "test", Server: "https://" + listener.Addr().String(), CAPEM: c.ca.CertPEM, User: "admin", Pair: admin}.Write(path))
	c.config, err = clientcmd.BuildConfigFromFlags("", path)
	must(err)
	c.config.QPS = -1 // as fast as it goes
	c.core, err = typedcore.NewForConfig(c.config)
	must(err)
	c.apps, err = typedapps.NewForConfig(c.config)
	must(err)
	c.dynamic, err = dynamic.NewForConfig(c.config)
	must(err)
	return c
}

// as returns a client of a user who has nothing but a token.
func (c *cluster) as(user string) *typedcore.CoreV1Client {
	c.t.Helper()
	token, err := c.ca.Token(user)
	if err != nil {
		c.t.Fatal(err)
	}
	core, err := typedcore.NewForConfig(&rest.Config{Host: c.config.Host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.CertPEM}})
	if err != nil {
		c.t.Fatal(err)
	}
	return core
}

func (c *cluster) maps() typedcore.ConfigMapInterface { return c.core.ConfigMaps("default") }

// put creates a ConfigMap with the label app and one value, or updates it, and returns it as it was stored.
func (c *cluster) put(name, app, value string) *corev1.ConfigMap {
	c.t.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}}, Data: map[string]string{"value": value}}
	stored, err := c.maps().Update(c.ctx, m, metav1.UpdateOptions{})
	if err != nil {
		stored, err = c.maps().Create(c.ctx, m, metav1.CreateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return stored
}

func (c *cluster) delete(name string) {
	c.t.Helper()
	if err := c.maps().Delete(c.ctx, name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// forget compacts the store up to now.
func (c *cluster) forget() {
	c.t.Helper()
	_, revision, err := c.store.List(c.ctx, "nothing/")
	if err == nil {
		err = c.store.Compact(c.ctx, revision)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "hello:1"}}}
}

func newPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: podSpec()}
}

func newDeployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
	}}
}

// eventually returns when the condition holds, and fails the test if it does not in time.
func (c *cluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("in vain: %s", what)
		}
	}
}
