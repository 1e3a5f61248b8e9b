// Package pki is the cluster's certificate authority: it says who is who. Whoever shows a certificate that the
// cluster's CA has signed is what its common name says: "admin", "node:node-1", "component:apiserver".
//
// Invariants:
//  1. Private keys and secrets are in files of mode 0600 and nowhere else: not in the log, not in an error.
//  2. A worker speaks to a master only after it has compared the master's CA with the hash in its join token.
//
// In Kubernetes: kubeadm's certificates (several CAs, one for each job), bootstrap tokens with the hash of the CA
// (kubeadm join --discovery-token-ca-cert-hash), and certificate requests as objects (certificates.k8s.io).
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 365 * 24 * time.Hour
	// clockSkew is by how much a new certificate is dated back, for machines whose clocks differ.
	clockSkew = time.Hour
	// NodePrefix begins the common name of every worker.
	NodePrefix = "node:"
)

// CA signs certificates. It is safe for concurrent use.
type CA struct {
	CertPEM []byte
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	secret  string // of the join token
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// LoadOrCreate returns the CA that is kept in the directory, and makes it if there is none.
func LoadOrCreate(dir string) (*CA, error) {
	files := map[string][]byte{}
	for _, name := range []string{"ca.crt", "ca.key", "join-secret"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if name == "ca.crt" && errors.Is(err, os.ErrNotExist) {
			return create(dir)
		} else if err != nil { // also if a file is lost: a new CA would lock out every member of the cluster
			return nil, fmt.Errorf("read the cluster's CA: %w", err)
		}
		files[name] = data
	}
	pair, err := tls.X509KeyPair(files["ca.crt"], files["ca.key"])
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the cluster's CA in %s: its key is not ECDSA", dir)
	}
	return &CA{CertPEM: files["ca.crt"], cert: pair.Leaf, key: key, secret: strings.TrimSpace(string(files["join-secret"]))}, nil
}

func create(dir string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	template := newTemplate("mini-k8s", caLife)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &CA{CertPEM: pemOf("CERTIFICATE", der), cert: cert, key: key, secret: rand.Text()}
	keyPEM, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The certificate comes last: it says that the others are there.
	for _, file := range []struct {
		name string
		data []byte
	}{{"ca.key", keyPEM}, {"join-secret", []byte(ca.secret + "\n")}, {"ca.crt", ca.CertPEM}} {
		if err := writePrivate(filepath.Join(dir, file.name), file.data); err != nil {
			return nil, fmt.Errorf("keep the cluster's CA: %w", err)
		}
	}
	return ca, nil
}

// Issue makes a key and a certificate for a name. A certificate with hosts (names or addresses) is also good for
// a server that is reached under them.
func (ca *CA) Issue(name string, hosts ...string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make a key for %s: %w", name, err)
	}
	cert, err := ca.sign(name, hosts, key.Public())
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := keyPEM(key)
	return Pair{Cert: cert, Key: keyPEM}, err
}

// SignRequest signs a certificate request in PEM, if the name that it asks for begins with the prefix.
func (ca *CA) SignRequest(requestPEM []byte, prefix string) ([]byte, error) {
	block, _ := pem.Decode(requestPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("the body is not a certificate request in PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check the certificate request: %w", err)
	}
	name := request.Subject.CommonName
	if len(name) <= len(prefix) || !strings.HasPrefix(name, prefix) {
		return nil, fmt.Errorf("a certificate for %q is not to be had by joining", name)
	}
	hosts := request.DNSNames
	for _, ip := range request.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return ca.sign(name, hosts, request.PublicKey)
}

func (ca *CA) sign(name string, hosts []string, public any) ([]byte, error) {
	template := newTemplate(name, certLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	return pemOf("CERTIFICATE", der), nil
}

func newTemplate(name string, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-clockSkew), NotAfter: time.Now().Add(life)}
}

// Hash identifies the CA in a join token.
func (ca *CA) Hash() string { return hashOf(ca.cert.Raw) }

func hashOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// CheckJoinSecret reports whether the secret is that of the cluster's join token.
func (ca *CA) CheckJoinSecret(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(ca.secret)) == 1
}

// JoinToken returns what a worker needs to join: the secret, and the CA's hash by which it knows the master.
func (ca *CA) JoinToken() string { return ca.secret + "." + ca.Hash() }

// Token returns a bearer token for a user, for clients that cannot show a certificate. It says who it is for, and a
// code that only who has the CA's key can make: no list of tokens is kept, and all are good as long as the CA is.
func (ca *CA) Token(user string) (string, error) {
	key, err := ca.key.Bytes()
	if err != nil {
		return "", fmt.Errorf("make a token for %s: %w", user, err)
	}
	code := hmac.New(sha256.New, key)
	code.Write([]byte("bearer token for " + user))
	return base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + hex.EncodeToString(code.Sum(nil)), nil
}

// TokenUser returns the user that a bearer token is for, or "" if this CA has not made it.
func (ca *CA) TokenUser(token string) string {
	name, _, _ := strings.Cut(token, ".")
	user, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil {
		return ""
	}
	if real, err := ca.Token(string(user)); err != nil || subtle.ConstantTimeCompare([]byte(real), []byte(token)) != 1 {
		return ""
	}
	return string(user)
}

// pool returns the CA as what certificates are checked against.
func pool(caPEM []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(caPEM)
	return p
}

// ServerTLS is for a server of the cluster. Clients may show a certificate; one that the CA has not signed is refused.
func ServerTLS(caPEM []byte, pair Pair) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("use the server's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool(caPEM)}, nil
}

// ClientTLS is for a client that speaks to a server of the cluster.
func ClientTLS(caPEM []byte, pair Pair) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("use the client's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: pool(caPEM)}, nil
}

// writePrivate writes a file that only its owner can read, all of it or nothing, also in the place of one that
// others could read.
func writePrivate(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pemOf("PRIVATE KEY", der), nil
}
