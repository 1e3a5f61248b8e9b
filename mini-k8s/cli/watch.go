package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"workshop/mini-k8s/client"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watch calls show with every change of a target after a revision, until show fails or the context ends, which is no
// error: that is how a user ends it. A watch that the server ends, as it does after a while, goes on with another.
func (s *session) watch(t target, accept, revision string, show func(object []byte) error) error {
	query := s.query()
	if len(t.names) == 1 {
		query.Set("fieldSelector", "metadata.name="+t.names[0])
	}
	query.Set("watch", "true")
	for s.ctx.Err() == nil {
		query.Set("resourceVersion", revision)
		response, err := s.client.Stream(s.ctx, client.Request{Method: http.MethodGet, Path: t.kind.Path(s.namespaceOf(t.kind), "", ""), Query: query, Accept: accept})
		if err == nil {
			revision, err = readChanges(response.Body, revision, show)
			response.Body.Close()
		}
		if err != nil && s.ctx.Err() == nil {
			return fmt.Errorf("watch %s: %w", t.kind.Resource, s.explain(err))
		}
	}
	return nil
}

// readChanges reads a watch to its end and returns the last revision that it saw.
func readChanges(body io.Reader, revision string, show func(object []byte) error) (string, error) {
	for changes := json.NewDecoder(body); ; {
		var change struct {
			Type   watch.EventType
			Object json.RawMessage
		}
		if err := changes.Decode(&change); err == io.EOF {
			return revision, nil
		} else if err != nil {
			return revision, err
		}
		if change.Type == watch.Error {
			var status metav1.Status
			_ = json.Unmarshal(change.Object, &status) // a Status that cannot be read is still an error
			return revision, &errors.StatusError{ErrStatus: status}
		}
		var object metav1.PartialObjectMetadata
		if err := json.Unmarshal(change.Object, &object); err != nil {
			return revision, fmt.Errorf("unreadable event: %w", err)
		}
		revision = object.ResourceVersion
		if err := show(change.Object); err != nil {
			return revision, err
		}
	}
}
