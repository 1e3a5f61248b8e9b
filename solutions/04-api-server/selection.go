package apiserver

import (
	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// selection is what a list or a watch is about: some objects of a kind.
type selection struct {
	kind   *api.Kind
	labels labels.Selector
	fields fields.Selector
}

// parseSelection reads the selectors. A field that the kind does not offer is refused.
func parseSelection(kind *api.Kind, options metav1.ListOptions) (selection, error) {
	byLabel, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return selection{}, badRequest("labelSelector: %v", err)
	}
	byField, err := fields.ParseSelector(options.FieldSelector)
	if err != nil {
		return selection{}, badRequest("fieldSelector: %v", err)
	}
	known := kind.SelectableFields(kind.New())
	for _, requirement := range byField.Requirements() {
		if _, ok := known[requirement.Field]; !ok {
			return selection{}, badRequest("field label not supported: %s", requirement.Field)
		}
	}
	return selection{kind, byLabel, byField}, nil
}

func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

// attributes are what selectors ask of an object.
type attributes struct {
	labels labels.Set
	fields fields.Set
}

func (s selection) matches(a attributes) bool {
	return s.labels.Matches(a.labels) && s.fields.Matches(a.fields)
}

func attributesOf(kind *api.Kind, stored store.Object) (attributes, error) {
	o, err := decode(kind, stored)
	if err != nil {
		return attributes{}, err
	}
	return attributes{o.GetLabels(), kind.SelectableFields(o)}, nil
}

// filter returns the objects that match.
func (s selection) filter(objects []store.Object) ([]store.Object, error) {
	if s.everything() {
		return objects, nil
	}
	var matching []store.Object
	for _, stored := range objects {
		of, err := attributesOf(s.kind, stored)
		if err != nil {
			return nil, err
		}
		if s.matches(of) {
			matching = append(matching, stored)
		}
	}
	return matching, nil
}

// sides are an object's attributes before and after a change, as all watchers of the change share them. They live as
// long as the change is in memory, and so keep nothing else of the object.
type sides struct {
	before, after attributes
	err           error
}

func sidesOf(kind *api.Kind, change *store.Change) *sides {
	return change.Derive(func(c *store.Change) any {
		var both sides
		if c.Previous != nil {
			both.before, both.err = attributesOf(kind, store.Object{Value: c.Previous})
		}
		if c.Value != nil && both.err == nil {
			both.after, both.err = attributesOf(kind, store.Object{Value: c.Value})
		}
		return &both
	}).(*sides)
}
