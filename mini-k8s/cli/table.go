package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"workshop/mini-k8s/api"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// columnGap is what kubectl leaves between columns.
const columnGap = "   "

// tablePrinter prints the tables that the server makes of objects. More rows may follow later, as in a watch: they are
// aligned with what is printed already.
type tablePrinter struct {
	out                       io.Writer
	wide, namespaces, kindred bool // kindred: of several kinds, so each name says which
	columns                   []metav1.TableColumnDefinition
	widths                    []int
}

func (p *tablePrinter) print(kind *api.Kind, table *metav1.Table) {
	var lines [][]string
	if p.columns == nil {
		p.columns = table.ColumnDefinitions
		lines = append(lines, p.line(func(i int) string { return strings.ToUpper(p.columns[i].Name) }, "NAMESPACE"))
	}
	for _, row := range table.Rows {
		var object unstructured.Unstructured
		_ = object.UnmarshalJSON(row.Object.Raw) // only a namespace is wanted, and blank if there is none
		lines = append(lines, p.line(func(i int) string {
			if i >= len(row.Cells) {
				return ""
			}
			cell := fmt.Sprint(row.Cells[i])
			if p.kindred && p.columns[i].Format == "name" {
				cell = fullName(kind, cell)
			}
			return cell
		}, object.GetNamespace()))
	}
	p.widths = printColumns(p.out, columnGap, p.widths, lines)
}

// line returns the cells that are to be shown.
func (p *tablePrinter) line(cell func(column int) string, namespace string) []string {
	var line []string
	if p.namespaces {
		line = append(line, namespace)
	}
	for i, column := range p.columns {
		if column.Priority == 0 || p.wide {
			line = append(line, cell(i))
		}
	}
	return line
}

// printColumns prints lines with their cells one below the other, in columns at least as wide as before. It returns
// how wide they are now.
func printColumns(out io.Writer, gap string, widths []int, lines [][]string) []int {
	for _, line := range lines {
		for i := range line {
			line[i] = printable(line[i])
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	for _, line := range lines {
		for i, cell := range line {
			if i < len(line)-1 {
				cell += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + gap
			}
			fmt.Fprint(out, cell)
		}
		fmt.Fprintln(out)
	}
	return widths
}

// printable keeps a cell on its line, and keeps whoever wrote it from commanding the reader's terminal.
func printable(cell string) string {
	if first, _, more := strings.Cut(cell, "\n"); more {
		cell = first + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '^'
		}
		return r
	}, cell)
}
