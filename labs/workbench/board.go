package workbench

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Board shows all labs and how far the learner is with each.
func Board(out io.Writer, root string, progress *Progress, p Paint) error {
	current, _ := progress.Current(root)
	for _, l := range Labs {
		mark, note := state(root, l, progress, p)
		here := " "
		if l.Number == current.Number {
			here = p.Bold("▶")
		}
		fmt.Fprintf(out, "%s %s %s  %-46s %s\n", here, mark, l.Number, l.Title, note)
	}
	fmt.Fprint(out, "\n▶ where you are   ✔ passed   ◐ begun   ○ not begun   · to come: the reference stands in\n")
	return nil
}

// state returns the mark and the note of a lab on the board.
func state(root string, l Lab, progress *Progress, p Paint) (mark, note string) {
	if l.ToCome() {
		return p.Dim("·"), p.Dim("to come")
	}
	mine, err := readCode(filepath.Join(root, l.Dir()), l.Number)
	if err != nil {
		return p.Red("✘"), "cannot be read: " + firstLine(err.Error())
	}
	done := 0
	for _, f := range mine.functions {
		if f.Done {
			done++
		}
	}
	note = fmt.Sprintf("%d of %d functions", done, len(mine.functions))
	switch {
	case progress.Of(l).Passed:
		return p.Green("✔"), note
	case done > 0:
		return p.Yellow("◐"), note
	}
	return "○", p.Dim(note)
}

// Next tells what to do now: which lab, where its guide is, and which functions are still to be written.
func Next(out io.Writer, root string, progress *Progress, p Paint) error {
	l, err := progress.Current(root)
	if err != nil {
		fmt.Fprintln(out, err)
		return nil
	}
	fmt.Fprintf(out, "%s\n\n  the guide    %s/README.md\n", p.Bold("Lab "+l.Number+"  "+l.Title), l.Dir())
	mine, err := readCode(filepath.Join(root, l.Dir()), l.Number)
	if err != nil {
		return err
	}
	label := "to write"
	for _, f := range mine.functions {
		if !f.Done {
			fmt.Fprintf(out, "  %-12s task %d: %s in %s/%s\n", label, f.Task, f.Name, l.Dir(), f.File)
			label = ""
		}
	}
	if label != "" {
		fmt.Fprintf(out, "  %-12s nothing; the last check did not pass\n", label)
	}
	fmt.Fprintf(out, "  to check     go run ./labs check %s    (or leave `go run ./labs watch` running)\n  stuck?       go run ./labs hint\n", l.Number)
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
