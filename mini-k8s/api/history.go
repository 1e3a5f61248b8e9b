package api

import "time"

// HistoryEntry is one change in the life of an object or of what belongs to it. It is what the subresource "history" of
// every kind tells, in the form of a watch: Kubernetes has no such type.
type HistoryEntry struct {
	Revision  int64     `json:"revision"`
	Time      time.Time `json:"time"`
	Who       string    `json:"who,omitempty"`
	Verb      string    `json:"verb"` // created, updated, deleted; known: it was there already when the log begins
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name"`
	// Changes are those of an update, but for what changes with every write, such as managedFields and heartbeats.
	Changes []Difference `json:"changes,omitempty"`
	// Columns are the changes in what a table shows: what a status comes down to.
	Columns []Difference `json:"columns,omitempty"`
	// Event is what the change says of the object, if that was the news; who is its source then.
	Event *HistoryEvent `json:"event,omitempty"`
}

// Difference is a value that has changed: "spec.template.spec.containers[app].image", or the title of a column. From or
// To is missing if the value was or is.
type Difference struct {
	Path string `json:"path"`
	From any    `json:"from,omitempty"`
	To   any    `json:"to,omitempty"`
}

// HistoryEvent is what an Event says.
type HistoryEvent struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Count   int32  `json:"count"`
}
