package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LoadOrJoin returns what a node needs to call the master and to be called by it. Its certificate is the one that an
// earlier call left in the directory, or else it joins and leaves it there.
func LoadOrJoin(ctx context.Context, dir, master, token, node, address string) (*tls.Config, error) {
	var caPEM []byte
	var pair Pair
	var err error
	files := map[string]*[]byte{"ca.crt": &caPEM, "node.crt": &pair.Cert, "node.key": &pair.Key}
	missing := false
	for name, content := range files {
		*content, err = os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			missing = true
		} else if err != nil {
			return nil, fmt.Errorf("read the node's certificate: %w", err)
		}
	}
	if !missing {
		return ServerTLS(caPEM, pair)
	}
	if token == "" {
		return nil, fmt.Errorf("node %s has no certificate yet: say --token, which `mini-k8s token` prints on the master", node)
	}
	if caPEM, pair, err = Join(ctx, master, token, node, []string{address}); err != nil {
		return nil, err
	}
	for name, content := range files {
		if err := WritePrivate(filepath.Join(dir, name), *content); err != nil {
			return nil, fmt.Errorf("keep the node's certificate: %w", err)
		}
	}
	return ServerTLS(caPEM, pair)
}

// Join makes a key for a node and has the master sign its certificate. The token proves the node to the master,
// and by the hash in it the master to the node.
func Join(ctx context.Context, master, token, node string, addresses []string) (caPEM []byte, pair Pair, err error) {
	secret, hash, ok := strings.Cut(token, ".")
	if !ok {
		return nil, pair, errors.New("the join token is incomplete: it has the form <secret>.<hash>, " +
			"print it with `mini-k8s token` on the master")
	}
	// The first call cannot know whom it speaks to, and says nothing secret. The certificate that comes back is
	// the cluster's CA if it has the hash of the token.
	if caPEM, err = call(ctx, &tls.Config{InsecureSkipVerify: true}, http.MethodGet, master, "", nil); err != nil {
		return nil, pair, fmt.Errorf("join %s: %w", master, err)
	}
	block, _ := pem.Decode(caPEM)
	if block == nil || !same(hash, hashOf(block.Bytes)) {
		return nil, pair, fmt.Errorf("the master at %s is not the one that the join token is from: its CA has another hash", master)
	}
	caPEM = pemOf("CERTIFICATE", block.Bytes) // nothing else that came with it: the hash vouches for this one alone
	request, key, err := newRequest(NodePrefix+node, append(addresses, node))
	if err != nil {
		return nil, pair, err
	}
	cert, err := call(ctx, &tls.Config{RootCAs: pool(caPEM)}, http.MethodPost, master, secret, request)
	if err != nil {
		return nil, pair, fmt.Errorf("join %s: %w", master, err)
	}
	return caPEM, Pair{Cert: cert, Key: key}, nil
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
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, err
}
