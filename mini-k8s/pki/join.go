package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Join makes a key for a node and has the master sign its certificate. The token proves the node to the master,
// and by the hash in it the master to the node.
func Join(ctx context.Context, master, token, node string, addresses []string) (caPEM []byte, pair Pair, err error) {
	secret, hash, ok := strings.Cut(token, ".")
	if !ok {
		return nil, pair, fmt.Errorf("the join token is incomplete: it has the form <secret>.<hash>, print it with `mini-k8s token` on the master")
	}
	// The first call cannot know whom it speaks to, and says nothing secret. The certificate that comes back is
	// the cluster's CA if it has the hash of the token.
	stranger := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if caPEM, err = call(ctx, stranger, http.MethodGet, master, "", nil); err != nil {
		return nil, pair, err
	}
	block, _ := pem.Decode(caPEM)
	if block == nil || subtle.ConstantTimeCompare([]byte(hashOf(block.Bytes)), []byte(hash)) != 1 {
		return nil, pair, fmt.Errorf("the master at %s is not the one that the join token is from: its CA has another hash", master)
	}
	caPEM = pemOf("CERTIFICATE", block.Bytes) // nothing else that came with it: the hash vouches for this one alone
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, pair, fmt.Errorf("make the node's key: %w", err)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: NodePrefix + node}, DNSNames: []string{node}}
	for _, address := range addresses {
		if ip := net.ParseIP(address); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		return nil, pair, fmt.Errorf("make the node's certificate request: %w", err)
	}
	known := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(caPEM), MinVersion: tls.VersionTLS12}}}
	if pair.Cert, err = call(ctx, known, http.MethodPost, master, secret, pemOf("CERTIFICATE REQUEST", der)); err != nil {
		return nil, pair, err
	}
	pair.Key, err = keyPEM(key)
	return caPEM, pair, err
}

func call(ctx context.Context, client *http.Client, method, master, secret string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(master, "/")+"/join", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", master, err)
	}
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", master, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", master, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("join %s: %s: %s", master, response.Status, answer)
	}
	return answer, nil
}

// LoadOrJoin returns the CA and the certificate that an earlier call left in the directory, or joins and leaves
// them there.
func LoadOrJoin(ctx context.Context, dir, master, token, node, address string) (caPEM []byte, pair Pair, err error) {
	files := map[string]*[]byte{"ca.crt": &caPEM, "node.crt": &pair.Cert, "node.key": &pair.Key}
	missing := false
	for name, content := range files {
		*content, err = os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			missing = true
		} else if err != nil {
			return nil, pair, fmt.Errorf("read the node's certificate: %w", err)
		}
	}
	if !missing {
		return caPEM, pair, nil
	}
	if token == "" {
		return nil, pair, fmt.Errorf("node %s has no certificate yet: say --token, which `mini-k8s token` prints on the master", node)
	}
	if caPEM, pair, err = Join(ctx, master, token, node, []string{address}); err != nil {
		return nil, pair, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, pair, err
	}
	for name, content := range files {
		if err := writePrivate(filepath.Join(dir, name), *content); err != nil {
			return nil, pair, fmt.Errorf("keep the node's certificate: %w", err)
		}
	}
	return caPEM, pair, nil
}
