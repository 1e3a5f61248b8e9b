package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// HistoryEntry is a change of an object: what the subresource "history", which every kind has, tells as a watch would.
type HistoryEntry struct {
	Revision  int64         `json:"revision"`
	Time      time.Time     `json:"time"`
	Who       string        `json:"who,omitempty"`
	Verb      string        `json:"verb"` // created, updated, deleted; known: it was there before all that is told
	Kind      string        `json:"kind"`
	Namespace string        `json:"namespace,omitempty"`
	Name      string        `json:"name"`
	Changes   []Difference  `json:"changes,omitempty"` // of an update, without managedFields, heartbeats and the like
	Columns   []Difference  `json:"columns,omitempty"` // what of it a table shows
	Event     *corev1.Event `json:"event,omitempty"`   // if it was an event about the object
}

// Difference is a field that has changed ("spec.template.spec.containers[app].image"), or a column. Nil: it is not there.
type Difference struct {
	Path string `json:"path"`
	From any    `json:"from,omitempty"`
	To   any    `json:"to,omitempty"`
}
