// Package history makes the life of an object out of the store's log: which changes there were to it, to former ones of its
// name, and to all that ever belonged to them, what each has changed, and who did it. It reads what it is given, and keeps
// no more than the UIDs.
//
// Invariants:
//  1. A change is told once, in the order of the log, if anything in it is of interest to people.
//  2. The data of a Secret is not told.
//
// In Kubernetes there is no such thing: the API server forgets what an object was, and events expire after an hour.
package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Life is that of an object, of former ones of its name, and of all that ever belonged to them.
type Life struct {
	key  string             // of the object
	uids map[types.UID]bool // of all these
}

// New returns the life of the object under a key, and what of it there was in the state with which the log begins: as
// changes at no time.
func New(key string, state []store.Object) (*Life, []*store.Change) {
	l := &Life{key: key, uids: map[types.UID]bool{}}
	return l, l.known(state)
}

// Known reports whether anything was found yet.
func (l *Life) Known() bool { return len(l.uids) > 0 }

// Entry returns what a change is to the reader, and of what kind it has changed an object; nil if it is nothing.
func (l *Life) Entry(change *store.Change) (*api.HistoryEntry, *api.Kind, error) {
	resource, _, _ := strings.Cut(change.Key, "/")
	kind := api.Lookup(resource)
	if kind == nil || !l.has(change.Object()) {
		return nil, nil, nil
	}
	o := kind.New()
	if err := json.Unmarshal(change.Object().Value, o); err != nil {
		return nil, nil, fmt.Errorf("decode %s at revision %d: %w", change.Key, change.Revision, err)
	}
	entry := &api.HistoryEntry{Revision: change.Revision, Time: change.At, Who: change.Who, Verb: "updated",
		Kind: kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
	event, isEvent := o.(*corev1.Event)
	switch {
	case change.At.IsZero():
		entry.Verb, entry.Time = "known", o.GetCreationTimestamp().Time
	case change.Previous == nil:
		entry.Verb = "created"
	case change.Value == nil:
		entry.Verb = "deleted"
	case !isEvent:
		entry.Changes, entry.Columns = compare(kind, change, o)
	}
	if isEvent {
		about := event.InvolvedObject
		entry.Kind, entry.Namespace, entry.Name, entry.Event = about.Kind, about.Namespace, about.Name, event
		event.ManagedFields = nil
		if source := cmp.Or(event.Source.Component, event.ReportingController); !strings.HasPrefix(entry.Who, source) {
			entry.Who = source
		}
	}
	if entry.Verb == "updated" && !isEvent && len(entry.Changes) == 0 || isEvent && entry.Verb == "deleted" {
		return nil, nil, nil
	}
	return entry, kind, nil
}

// known returns what is there when the log begins, as changes at no time. In a list, what is owned may come first.
func (l *Life) known(state []store.Object) (changes []*store.Change) {
	for before := -1; before < len(l.uids); {
		before, changes = len(l.uids), nil
		for _, o := range state {
			if l.has(o) {
				changes = append(changes, &store.Change{Revision: o.Revision, Key: o.Key, Value: o.Value})
			}
		}
	}
	slices.SortFunc(changes, func(a, b *store.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return changes
}

// has reports whether an object is the one, or belongs to it: its owner does, or the object that an event is about. What
// once does so does so to its end. Most objects need not be decoded for that: none of the UIDs is in them.
func (l *Life) has(o store.Object) bool {
	mentioned := o.Key == l.key
	for rest := o.Value; !mentioned && rest != nil; {
		_, rest, _ = bytes.Cut(rest, []byte(`"uid":"`))
		uid, _, _ := bytes.Cut(rest, []byte(`"`))
		mentioned = l.uids[types.UID(uid)]
	}
	var is struct {
		Metadata       metav1.ObjectMeta
		InvolvedObject corev1.ObjectReference
	}
	if !mentioned || json.Unmarshal(o.Value, &is) != nil {
		return false
	}
	owned := slices.ContainsFunc(is.Metadata.OwnerReferences, func(owner metav1.OwnerReference) bool { return l.uids[owner.UID] })
	if o.Key != l.key && !owned && !l.uids[is.Metadata.UID] && !l.uids[is.InvolvedObject.UID] {
		return false
	}
	l.uids[is.Metadata.UID] = true
	return true
}
