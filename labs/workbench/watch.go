package workbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"
)

// poll is how often the watch looks whether a file has changed. It asks the file system, which works the same on every
// machine, also in shared folders of virtual machines.
const poll = 200 * time.Millisecond

const watchKeys = "h hint   n next   l list   c check all   q quit"

// Watch checks the current lab now and whenever one of its files is saved, and does what keys ask for, until q, Ctrl-C or the end
// of in. do is the rest of the tool: it runs a command ("hint", "list"), which writes to the out that it is given.
func Watch(ctx context.Context, root string, in *os.File, out io.Writer, do func(ctx context.Context, out io.Writer, command ...string) error) error {
	keys := make(chan byte)
	if term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("read single keys: %w", err)
		}
		defer term.Restore(int(in.Fd()), before)
		out = crlf{out}
	}
	go readKeys(ctx, in, keys)
	seen := map[string]time.Time{}
	changed(root, seen)
	command := []string{"check"}
	for {
		if command != nil {
			fmt.Fprintf(out, "\n── %s ── %s\n\n", time.Now().Format(time.TimeOnly), strings.Join(command, " "))
			if err := do(ctx, out, command...); err != nil && ctx.Err() == nil {
				fmt.Fprintln(out, err)
			}
			fmt.Fprintf(out, "\nwatching; %s\n", watchKeys)
			command = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case key, open := <-keys:
			switch {
			case !open, key == 'q', key == 3: // Ctrl-C comes as a key in raw mode
				return nil
			case key == 'h':
				command = []string{"hint"}
			case key == 'n':
				command = []string{"next"}
			case key == 'l':
				command = []string{"list"}
			case key == 'c':
				command = []string{"check", "--all"}
			}
		case <-time.After(poll):
			if name := changed(root, seen); name != "" {
				fmt.Fprintf(out, "\n%s was saved\n", name)
				command = []string{"check"}
			}
		}
	}
}

// changed notes the times of the labs' files and returns one that is new since the last time, or "".
func changed(root string, seen map[string]time.Time) (name string) {
	for _, l := range Available() {
		paths, _ := filepath.Glob(filepath.Join(root, l.Dir(), "*.go"))
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				continue // it is being replaced: the next look will see it
			}
			if !info.ModTime().Equal(seen[path]) {
				seen[path] = info.ModTime()
				name = filepath.Join(l.Dir(), filepath.Base(path))
			}
		}
	}
	return name
}

// readKeys passes on what is typed, and closes keys at its end. A read cannot be called off: the last one ends with the
// process.
func readKeys(ctx context.Context, in io.Reader, keys chan<- byte) {
	defer close(keys)
	one := make([]byte, 1)
	for {
		n, err := in.Read(one)
		if n == 1 {
			select {
			case keys <- one[0]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				<-ctx.Done() // no keyboard: it goes on until it is interrupted
			}
			return
		}
	}
}

// crlf makes lines begin at the left on a terminal in raw mode.
type crlf struct{ io.Writer }

func (c crlf) Write(data []byte) (int, error) {
	_, err := io.WriteString(c.Writer, strings.ReplaceAll(string(data), "\n", "\r\n"))
	return len(data), err
}
