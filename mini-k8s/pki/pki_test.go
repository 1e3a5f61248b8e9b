package pki_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/master/apiserver"
	"workshop/mini-k8s/master/store"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// leaf reads the certificate of a pair.
func leaf(t *testing.T, cert []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(cert)
	if block == nil {
		t.Fatal("no PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestCAIsTheSameAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	first, err := pki.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pki.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CertPEM, second.CertPEM) {
		t.Error("another CA")
	}
	pair, err := second.Issue("admin")
	if err != nil {
		t.Fatal(err)
	}
	verify(t, first, pair.Cert, x509.ExtKeyUsageClientAuth, "")
	if hash := pki.CAHash(first.CertPEM); len(hash) != 64 || hash == pki.CAHash(newCA(t).CertPEM) {
		t.Errorf("two clusters have the hash %q", hash)
	}
	checkPrivate(t, dir, 2)
}

// checkPrivate checks that only their owner can read the files of a directory.
func checkPrivate(t *testing.T, dir string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			files--
		}
		if info.Mode().Perm()&0o077 != 0 && (!entry.IsDir() || path == dir) {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files != 0 {
		t.Errorf("%d files are missing; %v", files, err)
	}
}

func TestCAThatIsDamagedIsNotReplaced(t *testing.T) {
	for _, row := range []struct {
		name, file string
		content    []byte // nil: the file is gone
		says       string
	}{
		{"lost key", "ca.key", nil, "read the cluster's CA: open"},
		{"broken key", "ca.key", []byte("nonsense"), "failed to find any PEM data in key input"},
		{"broken certificate", "ca.crt", []byte("nonsense"), "failed to find any PEM data in certificate input"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := pki.LoadOrCreate(dir); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, row.file)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if row.content != nil {
				if err := os.WriteFile(path, row.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := pki.LoadOrCreate(dir); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func verify(t *testing.T, ca *pki.CA, cert []byte, usage x509.ExtKeyUsage, host string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM)
	if _, err := leaf(t, cert).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: host}); err != nil {
		t.Error(err)
	}
}

func TestIssuedCertificateIsGoodForItsNameAndHosts(t *testing.T) {
	ca := newCA(t)
	server, err := ca.Issue("component:apiserver", "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		verify(t, ca, server.Cert, x509.ExtKeyUsageServerAuth, host)
	}
	user, err := ca.Issue("admin")
	if err != nil {
		t.Fatal(err)
	}
	verify(t, ca, user.Cert, x509.ExtKeyUsageClientAuth, "")
	cert := leaf(t, user.Cert)
	if cert.Subject.CommonName != "admin" || cert.IsCA {
		t.Errorf("name %s, a CA: %v", cert.Subject.CommonName, cert.IsCA)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); err == nil { // a server's usage is what is asked by default
		t.Error("a user's certificate is good for a server")
	}
	if _, err := tls.X509KeyPair(user.Cert, server.Key); err == nil {
		t.Error("two certificates have one key")
	}
}

func TestCertificateRequestIsSignedForNodesOnly(t *testing.T) {
	m := newMaster(t)
	secret := m.newToken(t)
	secret = secret[:strings.LastIndex(secret, ".")]
	for _, row := range []struct{ name, body, says string }{
		{"node", request(t, "node:node-1"), ""},
		{"component", request(t, "component:apiserver"), `a certificate for "component:apiserver" is not to be had by joining`},
		{"admin", request(t, "admin"), `a certificate for "admin" is not to be had by joining`},
		{"prefix alone", request(t, "node:"), `a certificate for "node:" is not to be had by joining`},
		{"prefix elsewhere", request(t, "my-node:a"), `is not to be had by joining`},
		{"no PEM", "nonsense", "not a certificate request in PEM"},
		{"a certificate", string(m.ca.CertPEM), "not a certificate request in PEM"},
		{"broken", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")})), "read the certificate request"},
		{"forged", forged(t), "ECDSA verification failure"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.URL+"/join", strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+secret)
			response, err := m.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if row.says != "" {
				var status metav1.Status
				if err := json.Unmarshal(answer, &status); err != nil || status.Code != 400 || !strings.Contains(status.Message, row.says) {
					t.Errorf("got %s", answer)
				}
				return
			}
			verify(t, m.ca, answer, x509.ExtKeyUsageClientAuth, "")
			if cert := leaf(t, answer); len(cert.DNSNames) != 0 || len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != "127.0.0.1" {
				t.Errorf("it is good for %v %v, but the node calls from 127.0.0.1", cert.DNSNames, cert.IPAddresses)
			}
		})
	}
}

// request makes a certificate request, signed by a key of its own.
func request(t *testing.T, name string) string {
	t.Helper()
	pair, err := newCA(t).Issue("somebody")
	if err != nil {
		t.Fatal(err)
	}
	key, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// forged is a request whose name was changed after it was signed.
func forged(t *testing.T) string {
	t.Helper()
	block, _ := pem.Decode([]byte(request(t, "node:node-1")))
	block.Bytes = bytes.Replace(block.Bytes, []byte("node:node-1"), []byte("node:node-2"), 1)
	return string(pem.EncodeToMemory(block))
}

// master is an API server on a port, which keeps what it was told on /join.
type master struct {
	*httptest.Server
	ca     *pki.CA
	admin  *client.Client
	mu     sync.Mutex // guards heard
	heard  []string   // the Authorization headers
	answer []byte     // to GET /join, in place of the CA
}

func newMaster(t *testing.T) *master {
	t.Helper()
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	m := &master{ca: newCA(t)}
	server, err := apiserver.New(t.Context(), apiserver.Config{Store: s, CA: m.ca})
	if err != nil {
		t.Fatal(err)
	}
	m.admin = client.New(client.Config{Server: "http://in-memory", Transport: client.InMemory(server.As("admin"))})
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.heard = append(m.heard, r.Header.Get("Authorization"))
		m.mu.Unlock()
		if m.answer != nil && r.Method == http.MethodGet {
			w.Write(m.answer)
			return
		}
		server.Handler().ServeHTTP(w, r)
	}))
	m.serveAs(t, m.ca)
	m.Config.ErrorLog = nil
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// newToken has the master know a join token that is good for an hour, but for what changes.
func (m *master) newToken(t *testing.T, changes ...func(*corev1.Secret)) string {
	t.Helper()
	id, secret := strings.ToLower(rand.Text()[:6]), strings.ToLower(rand.Text()[:16])
	kept := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id}, Type: "bootstrap.kubernetes.io/token",
		StringData: map[string]string{"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
			"expiration": time.Now().Add(time.Hour).Format(time.RFC3339)},
	}
	for _, change := range changes {
		change(kept)
	}
	if _, err := client.Of[*corev1.Secret](m.admin).Create(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	return id + "." + secret + "." + pki.CAHash(m.ca.CertPEM)
}

// serveAs has the master show a certificate of a CA.
func (m *master) serveAs(t *testing.T, ca *pki.CA) {
	t.Helper()
	pair, err := ca.Issue("component:apiserver", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if m.TLS, err = pki.ServerTLS(ca.CertPEM, pair); err != nil {
		t.Fatal(err)
	}
}

func TestJoinGivesTheNodeItsCertificate(t *testing.T) {
	m := newMaster(t)
	caPEM, pair, err := pki.Join(t.Context(), m.URL+"/", m.newToken(t), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(caPEM, m.ca.CertPEM) {
		t.Error("the CA is not the master's")
	}
	if name := leaf(t, pair.Cert).Subject.CommonName; name != "node:node-1" {
		t.Errorf("its name is %s", name)
	}
	verify(t, m.ca, pair.Cert, x509.ExtKeyUsageServerAuth, "127.0.0.1")
	if _, err := pki.ClientTLS(caPEM, pair); err != nil {
		t.Error(err)
	}
}

func TestJoinThatFailsTellsWhyAndNoSecret(t *testing.T) {
	cut := func(token string) (id, secret, hash string) {
		parts := strings.Split(token, ".")
		return parts[0], parts[1], parts[2]
	}
	const unknown, another = "401 Unauthorized: the join token is not one of this cluster, or was deleted", "; `mini-k8s token create` on the master makes another"
	set := func(key, value string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.StringData[key] = value }
	}
	for _, row := range []struct {
		name, says string
		token      func(t *testing.T, m *master, other *pki.CA) string
		silent     bool // nothing secret was said to the master
	}{
		{"wrong secret", unknown + another, func(t *testing.T, m *master, other *pki.CA) string {
			id, _, hash := cut(m.newToken(t))
			_, secret, _ := cut(m.newToken(t))
			return id + "." + secret + "." + hash
		}, false},
		{"no secret", unknown + another, func(t *testing.T, m *master, other *pki.CA) string {
			id, _, hash := cut(m.newToken(t, set("token-secret", "")))
			return id + ".." + hash
		}, false},
		{"never made", unknown + another, func(t *testing.T, m *master, other *pki.CA) string {
			return "abcdef.0123456789abcdef." + pki.CAHash(m.ca.CertPEM)
		}, false},
		{"deleted", unknown + another, func(t *testing.T, m *master, other *pki.CA) string {
			token := m.newToken(t)
			id, _, _ := cut(token)
			if _, err := client.Of[*corev1.Secret](m.admin).Delete(t.Context(), "kube-system", "bootstrap-token-"+id, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			return token
		}, false},
		{"expired", "401 Unauthorized: the join token has expired" + another, func(t *testing.T, m *master, other *pki.CA) string {
			return m.newToken(t, set("expiration", time.Now().Add(-time.Second).Format(time.RFC3339)))
		}, false},
		{"expires at no time that one can read", "has expired", func(t *testing.T, m *master, other *pki.CA) string {
			return m.newToken(t, set("expiration", "tomorrow"))
		}, false},
		{"not for joining", unknown, func(t *testing.T, m *master, other *pki.CA) string {
			return m.newToken(t, set("usage-bootstrap-authentication", "false"))
		}, false},
		{"another kind of Secret", unknown, func(t *testing.T, m *master, other *pki.CA) string {
			return m.newToken(t, func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque })
		}, false},
		{"name of a node that is alive", "400 Bad Request: node node-1 is there and Ready: choose another name with --node, or stop it", func(t *testing.T, m *master, other *pki.CA) string {
			m.setReady(t, "node-1", corev1.ConditionTrue)
			return m.newToken(t)
		}, false},
		{"wrong hash", "its CA has another hash", func(t *testing.T, m *master, other *pki.CA) string {
			id, secret, _ := cut(m.newToken(t))
			return id + "." + secret + "." + pki.CAHash(other.CertPEM)
		}, true},
		{"no hash", "the join token is incomplete", func(t *testing.T, m *master, other *pki.CA) string {
			id, secret, _ := cut(m.newToken(t))
			return id + "." + secret
		}, true},
		{"empty hash", "its CA has another hash", func(t *testing.T, m *master, other *pki.CA) string {
			id, secret, _ := cut(m.newToken(t))
			return id + "." + secret + "."
		}, true},
		{"master sends nonsense", "its CA has another hash", func(t *testing.T, m *master, other *pki.CA) string {
			m.answer = []byte("nonsense")
			return m.newToken(t)
		}, true},
		{"master sends nonsense, to a token without a hash", "its CA has another hash", func(t *testing.T, m *master, other *pki.CA) string {
			m.answer = []byte("nonsense")
			id, secret, _ := cut(m.newToken(t))
			return id + "." + secret + "."
		}, true},
		{"impostor shows the right CA without its key", "certificate signed by unknown authority", func(t *testing.T, m *master, other *pki.CA) string {
			m.answer = other.CertPEM
			return "abcdef.0123456789abcdef." + pki.CAHash(other.CertPEM)
		}, true},
		{"impostor shows the right CA and its own", "certificate signed by unknown authority", func(t *testing.T, m *master, other *pki.CA) string {
			m.answer = append(bytes.Clone(other.CertPEM), m.ca.CertPEM...)
			return "abcdef.0123456789abcdef." + pki.CAHash(other.CertPEM)
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, other := newMaster(t), newCA(t)
			token := row.token(t, m, other)
			_, pair, err := pki.Join(t.Context(), m.URL, token, "node-1")
			if err == nil || !strings.Contains(err.Error(), row.says) {
				t.Fatalf("got %v", err)
			}
			if _, secret, _ := cut(token + "."); secret != "" && strings.Contains(err.Error(), secret) {
				t.Errorf("the error has the secret: %v", err)
			}
			if pair.Cert != nil {
				t.Error("there is a certificate")
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, header := range m.heard {
				if row.silent && header != "" {
					t.Errorf("a stranger was told %q", header)
				}
			}
		})
	}
}

// setReady registers a node if it is not there, and sets what its status says of it.
func (m *master) setReady(t *testing.T, name string, ready corev1.ConditionStatus) {
	t.Helper()
	nodes := client.Of[*corev1.Node](m.admin)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := nodes.Create(t.Context(), node); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	if _, err := nodes.UpdateStatus(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralNodesJoinWithOneTokenAndOneThatIsDeadComesBack(t *testing.T) {
	m := newMaster(t)
	forever := m.newToken(t, func(s *corev1.Secret) { delete(s.StringData, "expiration") })
	for _, name := range []string{"node-1", "node-2", "node-1"} {
		if _, _, err := pki.Join(t.Context(), m.URL, forever, name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.setReady(t, name, corev1.ConditionUnknown)
	}
}

func TestJoinToNobodyFailsWithTheAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	ca := newCA(t)
	url := "https://" + listener.Addr().String()
	if _, _, err := pki.Join(t.Context(), url, "abcdef.0123456789abcdef."+pki.CAHash(ca.CertPEM), "node-1"); err == nil || !strings.Contains(err.Error(), "join "+url) {
		t.Errorf("got %v", err)
	}
}

func TestLoadOrJoinJoinsOnce(t *testing.T) {
	m, dir := newMaster(t), filepath.Join(t.TempDir(), "node-1")
	load := func(token string) (*tls.Config, error) {
		return pki.LoadOrJoin(t.Context(), dir, m.URL, token, "node-1")
	}
	if _, err := load(""); err == nil || !strings.Contains(err.Error(), "node node-1 has no certificate yet: say --token") {
		t.Errorf("without a token: %v", err)
	}
	first, err := load(m.newToken(t))
	if err != nil {
		t.Fatal(err)
	}
	checkPrivate(t, dir, 1)
	m.Close()
	again, err := load("")
	if err != nil {
		t.Fatalf("without the master: %v", err)
	}
	if !first.RootCAs.Equal(again.RootCAs) || !reflect.DeepEqual(first.Certificates, again.Certificates) {
		t.Error("something else was loaded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.Remove(filepath.Join(dir, pki.NodeConfig)); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.LoadOrJoin(ctx, dir, m.URL, m.newToken(t), "node-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is lost it joins again, but: %v", err)
	}
}

func TestKubeconfigIsReadAsItWasWritten(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Issue("admin")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new", "kubeconfig")
	wrote := pki.Kubeconfig{Cluster: "test", Server: "https://127.0.0.1:6443", CAPEM: ca.CertPEM, User: "admin", Pair: pair}
	if err := wrote.Write(path); err != nil {
		t.Fatal(err)
	}
	read, err := pki.ReadKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if read.Cluster != "test" || read.Server != wrote.Server || !bytes.Equal(read.CAPEM, wrote.CAPEM) || read.User != "test-admin" ||
		!bytes.Equal(read.Pair.Cert, pair.Cert) || !bytes.Equal(read.Pair.Key, pair.Key) {
		t.Errorf("cluster %s at %s, user %s", read.Cluster, read.Server, read.User)
	}
}

func TestKubeconfigIsPrivateAlsoWhereAnotherWasNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte("old and longer than nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (pki.Kubeconfig{Cluster: "test", Server: "https://127.0.0.1"}).Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("beside it: %v %v", left, err)
	}
}

func TestKubeconfigThatIsNotOursIsRefusedInWords(t *testing.T) {
	const key = "c2VjcmV0LWtleQ==" // "secret-key"
	ours := `{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: "https://x", certificate-authority-data: CA}}],
		users: [{name: u, user: {client-certificate-data: CERT, client-key-data: KEY}}]}`
	fill := func(ca, cert, key string) string {
		return strings.NewReplacer("CA}", ca+"}", "CERT", `"`+cert+`"`, "KEY", `"`+key+`"`).Replace(ours)
	}
	for _, row := range []struct{ name, content, says string }{
		{"no YAML", "a: [", "is not a kubeconfig"},
		{"empty", "", "its current context names no cluster of mini-k8s"},
		{"no certificate", fill("", "", key), "its current context names no cluster of mini-k8s"},
		{"bad base64", fill("", "YQ==", key+"?"), "illegal base64 data"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := pki.ReadKubeconfig(path)
			if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "secret-key") {
				t.Errorf("the error has the key: %v", err)
			}
		})
	}
	if _, err := pki.ReadKubeconfig(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
