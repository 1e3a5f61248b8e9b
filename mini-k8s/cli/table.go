package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asTable asks the server for columns instead of objects (KEP-491): it knows what is worth showing of a kind.
const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// table prints what the server has made of objects. Rows that are appended later, as in a watch, can be printed below.
type table struct {
	metav1.Table
	target
	wide, namespaces bool
	printed          int // lines
}

func (s *session) readTable(t target) (*table, error) {
	body, err := s.do(s.request(t, asTable))
	if err != nil {
		return nil, err
	}
	read := &table{target: t, wide: s.String("output") == "wide", namespaces: t.kind.Namespaced && s.namespace == ""}
	if err := json.Unmarshal(body, &read.Table); err != nil {
		return nil, fmt.Errorf("get %s: unreadable answer: %w", t.kind.Resource, err)
	}
	if t.kind == events.kind {
		slices.SortStableFunc(read.Rows, byRevision)
	}
	return read, nil
}

// byRevision orders rows by when their objects were last written. For events that is when they last happened, and unlike
// their timestamps it does not depend on the clocks of the machines that wrote them.
func byRevision(a, b metav1.TableRow) int {
	before, _ := strconv.Atoi(metadata(a).ResourceVersion)
	after, _ := strconv.Atoi(metadata(b).ResourceVersion)
	return before - after
}

// print writes the lines that were not printed yet. It lays out all of them, so that the new ones stand below the old.
func (t *table) print(out io.Writer) {
	header := metav1.TableRow{}
	for _, column := range t.ColumnDefinitions {
		header.Cells = append(header.Cells, strings.ToUpper(column.Name))
	}
	lines := [][]string{t.line(header, "NAMESPACE")}
	for _, row := range t.Rows {
		lines = append(lines, t.line(row, metadata(row).Namespace))
	}
	var text bytes.Buffer
	printColumns(&text, lines)
	fmt.Fprint(out, strings.Join(strings.SplitAfter(text.String(), "\n")[t.printed:], ""))
	t.printed = len(lines)
}

// line returns the cells that are to be shown.
func (t *table) line(row metav1.TableRow, namespace string) []string {
	var line []string
	if t.namespaces {
		line = append(line, namespace)
	}
	for i, column := range t.ColumnDefinitions {
		if column.Priority == 0 || t.wide {
			line = append(line, fmt.Sprint(row.Cells[i]))
		}
	}
	return line
}

// metadata returns what is known of a row's object; nothing if it cannot be read.
func metadata(row metav1.TableRow) (object metav1.PartialObjectMetadata) {
	_ = json.Unmarshal(row.Object.Raw, &object)
	return object
}

// printColumns prints cells one below the other, as kubectl does. Line breaks and what else could command the reader's
// terminal become spaces.
func printColumns(out io.Writer, lines [][]string) {
	harmless := func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}
	columns := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, line := range lines {
		for i, cell := range line {
			line[i] = strings.Map(harmless, cell)
		}
		fmt.Fprintln(columns, strings.Join(line, "\t"))
	}
	columns.Flush()
}
