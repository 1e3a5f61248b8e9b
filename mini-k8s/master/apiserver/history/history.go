// Package history makes the life of an object out of the store's log: which changes there were to it, to former ones of its
// name, and to all that ever belonged to them, what each has changed, and who did it.
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
	"context"
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
	key     string             // of the object
	uids    map[types.UID]bool // of all these
	watcher *store.Watcher
}

// Entry is a change that is told, of an object of that kind.
type Entry struct {
	api.HistoryEntry
	Of *api.Kind
}

// Read returns the life of the object under a key as far back as the log goes, and up to which revision that is told. It
// fails with ErrNotFound if there never was such an object.
func Read(ctx context.Context, s store.Store, key string) (l *Life, past []Entry, present int64, err error) {
	state, after, err := s.ListAt(ctx, "", store.Oldest)
	if err != nil {
		return nil, nil, 0, err
	}
	if _, present, err = s.List(ctx, key); err != nil {
		return nil, nil, 0, err
	}
	l = &Life{key: key, uids: map[types.UID]bool{}}
	if l.watcher, err = s.Watch("", after); err != nil {
		return nil, nil, 0, err
	}
	past, err = l.entries(l.known(state))
	for err == nil && l.watcher.Revision() < present {
		var more []Entry
		more, err = l.Next(ctx)
		past = append(past, more...)
	}
	if err == nil && len(l.uids) == 0 {
		err = store.ErrNotFound
	}
	return l, past, present, err
}

// Next waits for changes and returns what there is to tell of them, if anything. It fails as the Next of a watcher does.
func (l *Life) Next(ctx context.Context) ([]Entry, error) {
	changes, err := l.watcher.Next(ctx)
	if err != nil {
		return nil, err
	}
	return l.entries(changes)
}

func (l *Life) entries(changes []*store.Change) (entries []Entry, err error) {
	for _, change := range changes {
		resource, _, _ := strings.Cut(change.Key, "/")
		kind := api.Lookup(resource)
		if kind == nil || !l.has(change.Object()) {
			continue
		}
		entry, err := entryOf(kind, change)
		if err != nil {
			return nil, fmt.Errorf("decode %s at revision %d: %w", change.Key, change.Revision, err)
		}
		if entry != nil {
			entries = append(entries, Entry{*entry, kind})
		}
	}
	return entries, nil
}

// entryOf returns what a change is to people, or nil if it is nothing.
func entryOf(kind *api.Kind, change *store.Change) (*api.HistoryEntry, error) {
	o := kind.New()
	if err := json.Unmarshal(change.Object().Value, o); err != nil {
		return nil, err
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
		return nil, nil
	}
	return entry, nil
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
