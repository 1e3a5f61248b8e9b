// Package client talks to the API server: typed access to every kind of the table in package api. It is all that
// a component of the cluster knows of the rest of it.
//
// Invariants:
//  1. An error that the server answered is a *errors.StatusError of k8s.io/apimachinery: ask it with
//     errors.IsNotFound, errors.IsConflict and the like.
//  2. No call outlives its context.
//
// In Kubernetes: client-go, whose typed clients are generated, one for each kind. Generics do that job here.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	gonet "net"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/net"
)

// Client is a connection to the API server. It is safe for concurrent use.
type Client struct {
	server string
	http   *http.Client
	name   string
}

// Config says where the API server is and who calls.
type Config struct {
	Server string // "https://127.0.0.1:6443"
	// Name is the program that calls; the server keeps it with every change, as the field manager.
	Name string
	TLS  *tls.Config
	// Transport replaces the network, for a server in the same process: see InMemory.
	Transport http.RoundTripper
}

// New returns a client. It makes no call.
func New(config Config) *Client {
	if config.Transport == nil {
		config.Transport = &http.Transport{
			TLSClientConfig:     config.TLS,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second,
			DialContext:         (&gonet.Dialer{Timeout: 5 * time.Second}).DialContext,
			// A cable that was cut breaks no connection: without asking, a watch would wait on it for a quarter of an hour.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		}
	}
	return &Client{server: strings.TrimSuffix(config.Server, "/"), http: &http.Client{Transport: config.Transport}, name: config.Name}
}

// Named returns the same client under another name.
func (c *Client) Named(name string) *Client {
	return &Client{server: c.server, http: c.http, name: name}
}

// Request is one call. Path begins with a slash.
type Request struct {
	Method      string
	Path        string
	Query       url.Values
	Body        []byte
	ContentType string // of the body; JSON if empty
	Accept      string // JSON if empty
}

// Do calls the server and returns the answer's body and warnings, or the Status it answered as an error.
func (c *Client) Do(ctx context.Context, request Request) (body []byte, warnings []string, err error) {
	response, err := c.Stream(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: read the answer: %w", request.Method, request.Path, err)
	}
	headers, _ := net.ParseWarningHeaders(response.Header.Values("Warning"))
	for _, header := range headers {
		warnings = append(warnings, header.Text)
	}
	return body, warnings, nil
}

// call is Do for JSON: it sends what is not nil, and reads the answer into what is not nil.
func (c *Client) call(ctx context.Context, request Request, send, into any) (err error) {
	if send != nil {
		if request.Body, err = json.Marshal(send); err != nil {
			return fmt.Errorf("%s %s: encode %T: %w", request.Method, request.Path, send, err)
		}
	}
	answer, _, err := c.Do(ctx, request)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: unreadable answer: %w", request.Method, request.Path, err)
	}
	return nil
}

// Stream is Do for an answer that comes bit by bit. The caller closes the body.
func (c *Client) Stream(ctx context.Context, request Request) (*http.Response, error) {
	target := c.server + request.Path
	if len(request.Query) > 0 {
		target += "?" + request.Query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, request.Method, target, bytes.NewReader(request.Body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", request.Method, request.Path, err)
	}
	r.Header.Set("User-Agent", c.name)
	r.Header.Set("Accept", cmp.Or(request.Accept, "application/json"))
	if request.Body != nil {
		r.Header.Set("Content-Type", cmp.Or(request.ContentType, "application/json"))
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call the API server: %w", err)
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		return nil, statusError(response)
	}
	return response, nil
}

// statusError reads the Status that came with an error, or makes one of an answer that is none.
func statusError(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" {
		status = metav1.Status{Status: metav1.StatusFailure, Code: int32(response.StatusCode),
			Message: strings.TrimSpace(response.Status + ": " + string(body))}
	}
	return &apierrors.StatusError{ErrStatus: status}
}
