package workbench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// progressFile is where a learner's progress is kept; git ignores it. Where it is, the labs are somebody's own.
const progressFile = "labs/.progress.json"

// Progress is how far a learner is. It is lost without harm: a check finds out again.
type Progress struct {
	Labs map[string]*LabProgress `json:"labs"`

	path string
}

// LabProgress is that of one lab.
type LabProgress struct {
	Passed    bool           `json:"passed"` // at the last check
	CheckedAt time.Time      `json:"checkedAt"`
	Hints     map[string]int `json:"hints,omitempty"` // how many were given, by function
}

// LoadProgress reads the progress; there is none at first.
func LoadProgress(root string) (*Progress, error) {
	p := &Progress{Labs: map[string]*LabProgress{}, path: filepath.Join(root, progressFile)}
	text, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err != nil {
		return nil, fmt.Errorf("read the progress (remove %s to start it anew): %w", progressFile, err)
	}
	return p, nil
}

// Of returns the progress of a lab.
func (p *Progress) Of(l Lab) *LabProgress {
	if p.Labs[l.Number] == nil {
		p.Labs[l.Number] = &LabProgress{}
	}
	return p.Labs[l.Number]
}

// Save keeps the progress, all of it or nothing.
func (p *Progress) Save() error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.path+".new", append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep the progress: %w", err)
	}
	return os.Rename(p.path+".new", p.path)
}

// Current returns the lab that a learner is at: the first that has not passed and is begun, or else the first that has
// not passed.
func (p *Progress) Current(root string) (Lab, error) {
	var first *Lab
	for _, l := range Available() {
		if p.Of(l).Passed {
			continue
		}
		if c, err := readCode(filepath.Join(root, l.Dir()), l.Number); err != nil || !c.untouched() {
			return l, nil // one that cannot be read has been begun as well
		}
		if first == nil {
			first = &l
		}
	}
	if first == nil {
		return Lab{}, errors.New("all labs that are there have passed: run the cluster that you wrote with `go run ./labs run --mine passed`")
	}
	return *first, nil
}
