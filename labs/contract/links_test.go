package contract

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"workshop/labs/workbench"
)

// pages returns the pages of the workshop, relative to its top.
func pages(t *testing.T, top string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"README.md", "labs/*.md", "labs/*/README.md", "solutions/*/README.md"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name, err := filepath.Rel(top, file)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, name)
		}
	}
	return found
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	top := root(t)
	for _, page := range pages(t, top) {
		text, err := os.ReadFile(filepath.Join(top, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(found[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(page), target)); err != nil {
				t.Errorf("%s: there is no %s", page, target)
			}
		}
	}
}

var (
	quoted     = regexp.MustCompile("`([^`\n]+)`")
	fence      = regexp.MustCompile("(?ms)^```.*?^```$")
	identifier = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?$`)
	path       = regexp.MustCompile(`^(mini-k8s|labs|solutions|scripts)/[\w./-]+$`)
	elsewhere  = regexp.MustCompile(`(?ms)^## In real Kubernetes$.*?(^## |\z)`)
	heading    = regexp.MustCompile("(?m)^### Task (\\d+).*$")
)

// What a guide or the page of a solution names in code exists: paths, and identifiers of Go. What a paragraph says of the
// real Kubernetes, or of Docker, is not ours to check.
func TestWhatPagesNameExists(t *testing.T) {
	top := root(t)
	words := map[string]bool{}
	err := filepath.WalkDir(top, func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, ".yaml") {
			return err
		}
		text, err := os.ReadFile(file)
		for _, word := range regexp.MustCompile(`\w+`).FindAllString(string(text), -1) {
			words[word] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range workbench.Available() {
		for _, page := range []string{l.Dir() + "/README.md", l.Solution() + "/README.md"} {
			data, err := os.ReadFile(filepath.Join(top, page))
			if err != nil {
				t.Errorf("%v", err)
				continue
			}
			text := elsewhere.ReplaceAllString(fence.ReplaceAllString(string(data), ""), "")
			paragraphs := slices.DeleteFunc(strings.Split(text, "\n\n"), func(paragraph string) bool {
				return strings.Contains(paragraph, "Kubernetes") || strings.Contains(paragraph, "Docker")
			})
			for _, found := range quoted.FindAllStringSubmatch(strings.Join(paragraphs, "\n\n"), -1) {
				name := found[1]
				switch {
				case path.MatchString(name):
					if _, err := os.Stat(filepath.Join(top, name)); err != nil && !strings.Contains(name, "NN") && !strings.HasPrefix(name, "labs/.") {
						t.Errorf("%s: there is no %s", page, name)
					}
				case strings.HasSuffix(name, ".go") && !strings.Contains(name, "/"):
					if _, err := os.Stat(filepath.Join(top, l.Dir(), name)); err != nil {
						t.Errorf("%s: there is no file %s in the lab", page, name)
					}
				case identifier.MatchString(name):
					parts := strings.Split(strings.TrimSuffix(name, "()"), ".")
					if last := parts[len(parts)-1]; !words[last] {
						t.Errorf("%s: nothing is called %s", page, name)
					}
				}
			}
		}
	}
}

// A guide has a heading for each task, which names what is to be written there, and is as long as LABS wants it.
func TestGuidesFollowTheTasks(t *testing.T) {
	eachLab(t, func(t *testing.T, top string, l workbench.Lab) {
		data, err := os.ReadFile(filepath.Join(top, l.Dir(), "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := workbench.Tasks(top, l)
		if err != nil {
			t.Fatal(err)
		}
		headings := heading.FindAllString(string(data), -1)
		if len(headings) != len(tasks) {
			t.Fatalf("it has %d tasks with a heading, and the code has %d", len(headings), len(tasks))
		}
		for i, names := range tasks {
			for _, name := range names {
				if short := name[strings.LastIndex(name, ".")+1:]; !strings.Contains(headings[i], "`"+short+"`") {
					t.Errorf("%q does not name %s", headings[i], short)
				}
			}
		}
		for _, part := range []string{"](architecture.svg)", "You will be able to", "## Before you begin", "## Predict first", "## Tasks", "## Checkpoint",
			"## See it live", "## In real Kubernetes", "## Test your understanding", "**Bonus.**"} {
			if !strings.Contains(string(data), part) {
				t.Errorf("it has no %q", part)
			}
		}
		if words := len(strings.Fields(fence.ReplaceAllString(string(data), ""))); words < 900 || words > 1700 {
			t.Errorf("it has %d words, want 900 to 1,600", words)
		}
	})
}
