package apiserver

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wantsTable reports whether the client asks for columns instead of objects, as kubectl get does (KEP-491).
func (r *request) wantsTable() bool {
	accept, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	return strings.Contains(accept, "as=Table") && strings.Contains(accept, "v=v1;")
}

func (r *request) answerTable(w http.ResponseWriter, objects []store.Object, revision int64) error {
	table, err := r.table(objects, revision)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, table)
}

// table returns the objects as a table.
func (r *request) table(objects []store.Object, revision int64) (*metav1.Table, error) {
	table := &metav1.Table{
		TypeMeta:          metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ListMeta:          metav1.ListMeta{ResourceVersion: strconv.FormatInt(revision, 10)},
		ColumnDefinitions: r.kind.Columns(),
		Rows:              []metav1.TableRow{},
	}
	for _, stored := range objects {
		object, err := decode(r.kind, stored)
		if err != nil {
			return nil, err
		}
		row := metav1.TableRow{Cells: r.kind.Cells(object)}
		if row.Object.Raw, err = r.rowObject(object); err != nil {
			return nil, err
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

// rowObject returns as much of a row's object as the client asked for.
func (r *request) rowObject(o api.Object) ([]byte, error) {
	switch metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject")) {
	case metav1.IncludeNone:
		return nil, nil
	case metav1.IncludeObject:
		return json.Marshal(o)
	}
	metadata := *metadataOf(o)
	metadata.ManagedFields = nil
	partial := metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}
	return json.Marshal(metav1.PartialObjectMetadata{TypeMeta: partial, ObjectMeta: metadata})
}

var metadataOnly = &api.Kind{GroupVersionKind: metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata")}

// wantsMetadata reports whether the client asks for metadata instead of objects, as client-go's metadata client does.
func (r *request) wantsMetadata() bool {
	return strings.Contains(r.Header.Get("Accept"), "json;as=PartialObjectMetadata")
}

// listMetadata is list for such a client.
func (s *Server) listMetadata(w http.ResponseWriter, r *request, selected selection) error {
	objects, revision, err := s.find(r, selected)
	if err != nil {
		return err
	}
	partial := make([]store.Object, len(objects))
	for i, o := range objects {
		partial[i] = withoutContent(o)
	}
	return writeJSON(w, http.StatusOK, listJSON(metadataOnly, partial, revision))
}

// withoutContent returns the metadata of a stored object, as if that was stored.
func withoutContent(o store.Object) store.Object {
	var partial metav1.PartialObjectMetadata
	json.Unmarshal(o.Value, &partial) // encode has written it
	partial.SetGroupVersionKind(metadataOnly.GroupVersionKind)
	o.Value, _ = json.Marshal(partial)
	return o
}
