package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// typed runs the tool as it is typed in the top folder, with an answer to what it may ask. (That the commands do what they
// promise to a learner's files is tested in workbench, and with the guides in contract.)
func typed(t *testing.T, answer string, args ...string) (string, error) {
	t.Helper()
	t.Chdir("..")
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out.WriteString(answer)
	out.Close()
	var said bytes.Buffer
	err = run(t.Context(), append([]string{"labs"}, args...), in, &said)
	return said.String(), err
}

func TestEveryCommandHasAnExample(t *testing.T) {
	commands := (&tool{}).commands()
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
		if !c.Hidden && !strings.Contains(c.Description, "go run ./labs "+c.Name) {
			t.Errorf("%s has no example", c.Name)
		}
	}
	if want := []string{"list", "next", "check", "watch", "hint", "diff", "solve", "reset", "run", "verify", "doctor", "generate"}; !slices.Equal(names, want) {
		t.Errorf("the commands are %v, want %v", names, want)
	}
}

func TestWhatTheToolSays(t *testing.T) {
	for _, row := range []struct {
		args  string
		words []string
		fails string
	}{
		{"", []string{"go run ./labs COMMAND", "list", "next", "verify"}, ""},
		{"--help", []string{"Begin with"}, ""},
		{"check --help", []string{"go run ./labs check 05", "--race"}, ""},
		{"list", []string{"01  Containers", "13  Your own code", "to come", "where you are"}, ""},
		{"next", []string{"README.md", "to write", "go run ./labs check"}, ""},
		{"doctor", []string{"Go 1.26+", "C compiler", "clock", "kubectl"}, ""},
		{"chek", nil, `no command "chek"; ` + "`go run ./labs --help`"},
		{"check 99", nil, `no lab "99"`},
		{"check 09", nil, "still to come"},
		{"solve", nil, "say which lab: go run ./labs solve 05"},
		{"reset", nil, "say which lab"},
		{"diff", nil, "say which lab"},
		{"verify", nil, "say which lab"},
		{"verify 99", nil, `no lab "99"`},
		{"run --mine 99", nil, `no lab "99"`},
		{"run --mine passed", nil, "no lab has passed yet"},
		{"solve 06", []string{"[y/N]", "Nothing was changed"}, ""},
		{"reset 06", []string{"[y/N]", "Nothing was changed"}, ""},
		{"diff 06", []string{"-\tlab.TODO", "solutions/06-replicasets"}, ""},
	} {
		t.Run(row.args, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(".progress.json")); err == nil {
				t.Skip("somebody works on the labs here")
			}
			said, err := typed(t, "n\n", strings.Fields(row.args)...)
			if (err == nil) != (row.fails == "") || err != nil && !strings.Contains(err.Error(), row.fails) {
				t.Errorf("it returned %v, want %q", err, row.fails)
			}
			for _, words := range row.words {
				if !strings.Contains(said, words) {
					t.Errorf("it does not say %q:\n%s", words, said)
				}
			}
		})
	}
}
