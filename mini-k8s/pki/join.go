package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeConfig is the file in a node's directory that says who it is, as a kubeconfig does.
const NodeConfig = "kubelet.conf"

// LoadOrJoin returns what a node needs to call the master and to be called by it: as an earlier call left it in the
// directory, or else it joins and leaves it there.
func LoadOrJoin(ctx context.Context, dir, master, token, node string) (*tls.Config, error) {
	path := filepath.Join(dir, NodeConfig)
	config, err := ReadKubeconfig(path)
	if errors.Is(err, os.ErrNotExist) {
		if token == "" {
			return nil, fmt.Errorf("node %s has no certificate yet: say --token; "+newToken, node)
		}
		config = Kubeconfig{Cluster: "mini-k8s", Server: master, User: NodePrefix + node}
		if config.CAPEM, config.Pair, err = Join(ctx, master, token, node); err == nil {
			err = config.Write(path)
		}
	}
	if err != nil {
		return nil, err
	}
	return ServerTLS(config.CAPEM, config.Pair)
}

// newToken says how to come by a join token.
const newToken = "`mini-k8s token create` on the master makes one"

// Join makes a key for a node and has the master sign its certificate, for the address from which the master sees it call.
// The token proves the node to the master, and by the hash in it the master to the node.
func Join(ctx context.Context, master, token, node string) (caPEM []byte, pair Pair, err error) {
	hashAt := strings.LastIndex(token, ".")
	if strings.Count(token, ".") != 2 {
		return nil, pair, errors.New("the join token is incomplete: it has the form <id>.<secret>.<hash>; " + newToken)
	}
	secret, hash := token[:hashAt], token[hashAt+1:]
	// The first call cannot know whom it speaks to, and says nothing secret. The certificate that comes back is
	// the cluster's CA if it has the hash of the token.
	if caPEM, err = call(ctx, &tls.Config{InsecureSkipVerify: true}, http.MethodGet, master, "", nil); err != nil {
		return nil, pair, fmt.Errorf("join %s: %w", master, err)
	}
	block, _ := pem.Decode(caPEM)
	if block == nil || !same(hash, CAHash(caPEM)) {
		return nil, pair, fmt.Errorf("the master at %s is not the one that the join token is from: its CA has another hash", master)
	}
	caPEM = pemOf("CERTIFICATE", block.Bytes) // nothing else that came with it: the hash vouches for this one alone
	var request []byte
	key, keyPEM, err := newKey()
	if err == nil {
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: NodePrefix + node}}
		request, err = x509.CreateCertificateRequest(rand.Reader, template, key)
	}
	if err != nil {
		return nil, pair, fmt.Errorf("make the certificate request of node %s: %w", node, err)
	}
	cert, err := call(ctx, &tls.Config{RootCAs: pool(caPEM)}, http.MethodPost, master, secret, pemOf("CERTIFICATE REQUEST", request))
	if err != nil {
		return nil, pair, fmt.Errorf("join %s: %w", master, err)
	}
	return caPEM, Pair{Cert: cert, Key: keyPEM}, nil
}

// ReadRequest returns what Join asks for: a certificate for this name and this key. Whoever asks has the key; whether they may
// have the name is for the caller to say.
func ReadRequest(requestPEM []byte) (name string, publicKey any, err error) {
	block, _ := pem.Decode(requestPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return "", nil, errors.New("the body is not a certificate request in PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", nil, fmt.Errorf("read the certificate request: %w", err)
	}
	return request.Subject.CommonName, request.PublicKey, request.CheckSignature()
}

func call(ctx context.Context, config *tls.Config, method, master, secret string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(master, "/")+"/join", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	once := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	response, err := once.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		status := metav1.Status{Message: string(answer)}
		json.Unmarshal(answer, &status) // or it was not our API server that answered
		err = fmt.Errorf("%s: %s", response.Status, status.Message)
	}
	return answer, err
}
