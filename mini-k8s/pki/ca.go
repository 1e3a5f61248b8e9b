// Package pki is the cluster's certificate authority: it says who is who. Whoever shows a certificate that the
// cluster's CA has signed is what its common name says: "admin", "node:node-1", "component:apiserver".
//
// Invariants:
//  1. Private keys and secrets are in files of mode 0600 and nowhere else: not in the log, not in an error.
//  2. A worker speaks to a master only after it has compared the master's CA with the hash in its join token.
//
// In Kubernetes: kubeadm's certificates (several CAs, one for each job), bootstrap tokens, to which the hash of the CA is
// added by hand (kubeadm join --discovery-token-ca-cert-hash), and certificate requests as objects (certificates.k8s.io).
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
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// LoadOrCreate returns the CA that is kept in the directory, and makes it if there is none.
func LoadOrCreate(dir string) (*CA, error) {
	if _, err := os.Stat(filepath.Join(dir, "ca.crt")); errors.Is(err, os.ErrNotExist) {
		if err := create(dir); err != nil {
			return nil, fmt.Errorf("make the cluster's CA: %w", err)
		}
	}
	return Load(dir)
}

// Load returns the CA that is kept in the directory. If a part of it is lost, no other is made: that would lock out
// every member of the cluster.
func Load(dir string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the cluster's CA in %s: its key is not ECDSA", dir)
	}
	return &CA{CertPEM: pemOf("CERTIFICATE", pair.Leaf.Raw), cert: pair.Leaf, key: key}, nil
}

func create(dir string) error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	template := newTemplate("mini-k8s", caLife)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	// The certificate comes last: it says that the key is there.
	if err := WritePrivate(filepath.Join(dir, "ca.key"), keyPEM); err != nil {
		return err
	}
	return WritePrivate(filepath.Join(dir, "ca.crt"), pemOf("CERTIFICATE", der))
}

// Issue makes a key and a certificate for a name. A certificate with hosts (names or addresses) is also good for
// a server that is reached under them.
func (ca *CA) Issue(name string, hosts ...string) (Pair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return Pair{}, fmt.Errorf("make a key for %s: %w", name, err)
	}
	cert, err := ca.Sign(name, key.Public(), hosts...)
	return Pair{Cert: cert, Key: keyPEM}, err
}

// Sign makes a certificate, in PEM, for a key that somebody else has.
func (ca *CA) Sign(name string, publicKey any, hosts ...string) ([]byte, error) {
	template := newTemplate(name, certLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(template.DNSNames)+len(template.IPAddresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, publicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	return pemOf("CERTIFICATE", der), nil
}

// CAHash returns what a join token has of the CA, or "" if that is no certificate in PEM.
func CAHash(caPEM []byte) string {
	block, _ := pem.Decode(caPEM)
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// Token returns a bearer token for a user, for clients that cannot show a certificate: the name, and what only who has the CA's
// key can make of it. No list of tokens is kept: one is good as long as the CA is, and only another CA revokes it.
func (ca *CA) Token(user string) (string, error) {
	key, err := ca.key.Bytes()
	if err != nil {
		return "", fmt.Errorf("make a bearer token for %s: %w", user, err)
	}
	code := hmac.New(sha256.New, key)
	code.Write([]byte("bearer token for " + user))
	return base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + hex.EncodeToString(code.Sum(nil)), nil
}

// TokenUser returns the user that a bearer token is for, or "" if this CA has not made it.
func (ca *CA) TokenUser(token string) string {
	name, _, _ := strings.Cut(token, ".")
	user, _ := base64.RawURLEncoding.DecodeString(name)
	if real, err := ca.Token(string(user)); err != nil || !same(token, real) {
		return ""
	}
	return string(user)
}

// same compares in a time that tells nothing about where the difference is.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func newKey() (key *ecdsa.PrivateKey, keyPEM []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pemOf("PRIVATE KEY", der), err
}

func newTemplate(name string, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-clockSkew), NotAfter: time.Now().Add(life)}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
