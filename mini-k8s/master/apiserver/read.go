package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

func (s *Server) get(w http.ResponseWriter, r *request) error {
	object, stored, err := s.read(r.Context(), r.kind, r.namespace, r.name)
	if err != nil {
		return err
	}
	if r.wantsTable() {
		table := r.table(stored.Revision, true)
		if err := r.addRow(table, object); err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, table)
	}
	return writeJSON(w, http.StatusOK, withRevision(stored.Value, stored.Revision))
}

func (s *Server) list(w http.ResponseWriter, r *request) error {
	if watch, _ := strconv.ParseBool(r.URL.Query().Get("watch")); watch {
		return s.watch(w, r)
	}
	selected, err := r.selector()
	if err != nil {
		return err
	}
	objects, revision, err := s.Store.List(r.Context(), keyOf(r.kind, r.namespace, ""))
	if err != nil {
		return err
	}
	if r.wantsTable() {
		table := r.table(revision, true)
		for _, stored := range objects {
			object, err := decodeStored(r.kind, stored.Value, stored.Revision)
			if err != nil {
				return err
			}
			if selected.matches(attributesOf(r.kind, object)) {
				if err := r.addRow(table, object); err != nil {
					return err
				}
			}
		}
		return writeJSON(w, http.StatusOK, table)
	}
	if !selected.everything() {
		if objects, err = selected.filter(r.kind, objects); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, listJSON(r.kind, objects, revision))
}

// listJSON writes a list out of the stored objects without decoding them.
func listJSON(kind *api.Kind, objects []store.Object, revision int64) []byte {
	size := 256
	for _, o := range objects {
		size += len(o.Value) + 48
	}
	out := bytes.NewBuffer(make([]byte, 0, size))
	out.WriteString(`{"kind":"` + kind.Kind + `List","apiVersion":"` + kind.GroupVersion().String() + `","metadata":{"resourceVersion":"`)
	out.WriteString(strconv.FormatInt(revision, 10))
	out.WriteString(`"},"items":[`)
	for i, o := range objects {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(withRevision(o.Value, o.Revision))
	}
	out.WriteString("]}")
	return out.Bytes()
}

// selection is a label and a field selector.
type selection struct {
	labels labels.Selector
	fields fields.Selector
}

// selector reads the request's selectors. A field that the kind does not offer is refused.
func (r *request) selector() (selection, error) {
	query := r.URL.Query()
	byLabel, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		return selection{}, apierrors.NewBadRequest("labelSelector: " + err.Error())
	}
	byField, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return selection{}, apierrors.NewBadRequest("fieldSelector: " + err.Error())
	}
	known := r.kind.SelectableFields(r.kind.New())
	for _, requirement := range byField.Requirements() {
		if _, ok := known[requirement.Field]; !ok {
			return selection{}, apierrors.NewBadRequest("field label not supported: " + requirement.Field)
		}
	}
	if r.name != "" {
		byField = fields.AndSelectors(byField, fields.OneTermEqualSelector("metadata.name", r.name))
	}
	return selection{byLabel, byField}, nil
}

func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

// attributes are what selectors ask of an object.
type attributes struct {
	labels labels.Set
	fields fields.Set
}

func attributesOf(kind *api.Kind, o api.Object) attributes {
	return attributes{o.GetLabels(), kind.SelectableFields(o)}
}

func (s selection) matches(a attributes) bool {
	return s.labels.Matches(a.labels) && s.fields.Matches(a.fields)
}

func (s selection) filter(kind *api.Kind, objects []store.Object) ([]store.Object, error) {
	var matching []store.Object
	for _, stored := range objects {
		o, err := decodeStored(kind, stored.Value, stored.Revision)
		if err != nil {
			return nil, err
		}
		if s.matches(attributesOf(kind, o)) {
			matching = append(matching, stored)
		}
	}
	return matching, nil
}

// wantsTable reports whether the client asks for columns instead of objects, as kubectl get does (KEP-491).
func (r *request) wantsTable() bool {
	accept, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	return strings.Contains(accept, "as=Table") && strings.Contains(accept, "v=v1;")
}

// table returns an empty table of the kind.
func (r *request) table(revision int64, columns bool) *metav1.Table {
	table := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(revision, 10)},
		Rows:     []metav1.TableRow{},
	}
	if columns {
		table.ColumnDefinitions = r.kind.Columns()
	}
	return table
}

// addRow adds an object to a table, with as much of the object as the client asked for.
func (r *request) addRow(table *metav1.Table, o api.Object) error {
	row := metav1.TableRow{Cells: r.kind.Cells(o)}
	var attached any
	switch r.URL.Query().Get("includeObject") {
	case "None":
	case "Object":
		attached = o
	default:
		attached = metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"},
			ObjectMeta: metav1.ObjectMeta{
				Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
				CreationTimestamp: o.GetCreationTimestamp(), DeletionTimestamp: o.GetDeletionTimestamp(),
				Labels: o.GetLabels(), Annotations: o.GetAnnotations(), OwnerReferences: o.GetOwnerReferences(),
			},
		}
	}
	if attached != nil {
		raw, err := json.Marshal(attached)
		if err != nil {
			return err
		}
		row.Object = runtime.RawExtension{Raw: raw}
	}
	table.Rows = append(table.Rows, row)
	return nil
}
