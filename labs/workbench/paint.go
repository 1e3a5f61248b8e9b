package workbench

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Paint colours words on a terminal that wants it, and leaves them alone elsewhere (https://no-color.org).
type Paint bool

// PaintFor returns whether what is written to out should be coloured.
func PaintFor(out io.Writer) Paint {
	file, ok := out.(*os.File)
	return Paint(ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p Paint) wrap(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p Paint) Bold(text string) string   { return p.wrap("1", text) }
func (p Paint) Dim(text string) string    { return p.wrap("2", text) }
func (p Paint) Red(text string) string    { return p.wrap("31", text) }
func (p Paint) Green(text string) string  { return p.wrap("32", text) }
func (p Paint) Yellow(text string) string { return p.wrap("33", text) }
