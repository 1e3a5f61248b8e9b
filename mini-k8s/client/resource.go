package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"workshop/mini-k8s/api"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Resource is the collection of the objects of one kind, as the API server holds it. Unlike those of client-go, the
// objects that it returns always know their kind.
type Resource[T api.Object] struct {
	client *Client
	kind   *api.Kind
}

// Of returns the collection of a kind: client.Of[*corev1.Pod](c).
func Of[T api.Object](c *Client) Resource[T] { return Resource[T]{c, api.KindOf[T]()} }

// Metadata is of any object what all kinds have in common.
type Metadata = *metav1.PartialObjectMetadata

// MetadataOf returns the collection of a kind that is only known at run time, of which nothing but the metadata
// is of interest. It must not be used to update objects whole.
func MetadataOf(c *Client, kind *api.Kind) Resource[Metadata] { return Resource[Metadata]{c, kind} }

// Kind returns the kind of the collection's objects.
func (r Resource[T]) Kind() *api.Kind { return r.kind }

// Selection says which objects of a kind are meant: all, if it is empty.
type Selection struct {
	Namespace string
	Labels    string // "app=web,tier!=db"
	Fields    string // "spec.nodeName=node-1"
	Bookmarks bool   // a watch yields them as well
}

// List is what a collection held at a revision of the store.
type List[T api.Object] struct {
	metav1.ListMeta `json:"metadata"`
	Items           []T `json:"items"`
}

// Event is one change that a watch saw. A bookmark, which comes only to those who ask, is none: its object carries
// nothing but the revision up to which there are no others.
type Event[T api.Object] struct {
	Type   watch.EventType `json:"type"`
	Object T               `json:"object"`
}

// Get returns one object.
func (r Resource[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	return r.call(ctx, Request{Method: http.MethodGet, Path: r.kind.Path(namespace, name, "")}, nil)
}

// Create returns the object as it was stored: with its UID, its revision and its defaults. So do the other
// writes. The object that was passed in stays as it is.
func (r Resource[T]) Create(ctx context.Context, object T) (T, error) {
	return r.call(ctx, Request{Method: http.MethodPost, Path: r.kind.Path(object.GetNamespace(), "", "")}, object)
}

// Update replaces an object, all but its status. It fails with a conflict if the object has changed since
// object's resourceVersion.
func (r Resource[T]) Update(ctx context.Context, object T) (T, error) {
	return r.UpdateSubresource(ctx, object, "")
}

// UpdateStatus replaces an object's status and nothing else.
func (r Resource[T]) UpdateStatus(ctx context.Context, object T) (T, error) {
	return r.UpdateSubresource(ctx, object, "status")
}

// UpdateSubresource puts the object to one of its subresources ("status", "finalize").
func (r Resource[T]) UpdateSubresource(ctx context.Context, object T, subresource string) (T, error) {
	path := r.kind.Path(object.GetNamespace(), object.GetName(), subresource)
	return r.call(ctx, Request{Method: http.MethodPut, Path: path}, object)
}

// Patch changes parts of an object. patch is marshalled to JSON; an empty subresource means the object itself.
func (r Resource[T]) Patch(ctx context.Context, namespace, name, subresource string, kind types.PatchType, patch any) (T, error) {
	path := r.kind.Path(namespace, name, subresource)
	return r.call(ctx, Request{Method: http.MethodPatch, Path: path, ContentType: string(kind)}, patch)
}

// CreateSubresource posts to a subresource ("binding", "eviction") and ignores what the server answers.
func (r Resource[T]) CreateSubresource(ctx context.Context, namespace, name, subresource string, body any) error {
	return r.client.call(ctx, Request{Method: http.MethodPost, Path: r.kind.Path(namespace, name, subresource)}, body, nil)
}

// Delete asks for the object to go. Whether it is gone when Delete returns depends on its finalizers and, for
// pods, on the grace period. It returns the revision of the write.
func (r Resource[T]) Delete(ctx context.Context, namespace, name string, options metav1.DeleteOptions) (string, error) {
	var answer metav1.PartialObjectMetadata // of the object, or a Status
	err := r.client.call(ctx, Request{Method: http.MethodDelete, Path: r.kind.Path(namespace, name, "")}, options, &answer)
	return answer.ResourceVersion, err
}

// List returns the objects of a selection, and at which revision of the store they were so.
func (r Resource[T]) List(ctx context.Context, selection Selection) (list List[T], err error) {
	request := Request{Method: http.MethodGet, Path: r.kind.Path(selection.Namespace, "", ""), Query: selection.query()}
	err = r.client.call(ctx, request, nil, &list)
	for _, o := range list.Items {
		o.GetObjectKind().SetGroupVersionKind(r.kind.GroupVersionKind)
	}
	return list, err
}

// Watch yields the changes after a revision, as they come. It ends with an error: the context's, a broken
// connection (io.EOF when the server ended it), or the server's, of which "410 Gone" says that the changes after
// the revision are forgotten and the caller must list again.
func (r Resource[T]) Watch(ctx context.Context, selection Selection, revision string) iter.Seq2[Event[T], error] {
	return func(yield func(Event[T], error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the request when the caller breaks off
		query := selection.query()
		query.Set("watch", "true")
		query.Set("allowWatchBookmarks", strconv.FormatBool(selection.Bookmarks))
		query.Set("resourceVersion", revision)
		response, err := r.client.Stream(ctx, Request{Method: http.MethodGet, Path: r.kind.Path(selection.Namespace, "", ""), Query: query})
		if err != nil {
			yield(Event[T]{}, err)
			return
		}
		defer response.Body.Close()
		lines := bufio.NewReaderSize(response.Body, 32<<10)
		for {
			event, err := readEvent[T](lines)
			if err == nil {
				event.Object.GetObjectKind().SetGroupVersionKind(r.kind.GroupVersionKind)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// readEvent reads one line of a watch. Its object is a Status if the type is ERROR.
func readEvent[T api.Object](lines *bufio.Reader) (event Event[T], err error) {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return event, err
	}
	if err := json.Unmarshal(line, &event); err == nil && event.Type != watch.Error {
		return event, nil
	}
	var failure struct{ Object metav1.Status }
	if err := json.Unmarshal(line, &failure); err != nil {
		return event, fmt.Errorf("watch: unreadable event: %w", err)
	}
	return event, &apierrors.StatusError{ErrStatus: failure.Object}
}

func (s Selection) query() url.Values {
	query := url.Values{}
	if s.Labels != "" {
		query.Set("labelSelector", s.Labels)
	}
	if s.Fields != "" {
		query.Set("fieldSelector", s.Fields)
	}
	return query
}

// call sends what is not nil, and reads an object.
func (r Resource[T]) call(ctx context.Context, request Request, body any) (object T, err error) {
	err = r.client.call(ctx, request, body, &object)
	return object, err
}
