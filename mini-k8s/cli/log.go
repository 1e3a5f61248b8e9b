package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// storyLog writes what the components log: to a file, and while show says so to the terminal, where it is the
// story of the cluster: the time, what was decided, and of what.
type storyLog struct {
	mu       sync.Mutex // guards below
	file     io.Writer
	terminal io.Writer // nil: not now
	level    slog.Level
}

// openLog makes a log in the directory the default one of this process.
func openLog(dir string, verbose bool) (*storyLog, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for the state: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "mini-k8s.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return useLog(file, verbose), nil
}

func useLog(file io.Writer, verbose bool) *storyLog {
	l := &storyLog{file: file}
	if verbose {
		l.level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(storyHandler{storyLog: l}))
	return l
}

// show sends the log to a terminal as well, or with nil to the file alone.
func (l *storyLog) show(terminal io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terminal = terminal
}

// storyHandler writes a record as one line: 15:04:05 scheduled pod=default/web-1 node=node-2.
type storyHandler struct {
	*storyLog
	attrs []slog.Attr
}

func (h storyHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }
func (h storyHandler) WithGroup(string) slog.Handler                    { return h } // not used here

func (h storyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return storyHandler{h.storyLog, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h storyHandler) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	line.WriteString(record.Time.Format("15:04:05 "))
	if record.Level != slog.LevelInfo {
		line.WriteString(record.Level.String() + " ")
	}
	line.WriteString(record.Message)
	write := func(a slog.Attr) bool {
		value := a.Value.Resolve().String()
		if value == "" || strings.ContainsAny(value, " \n\"") {
			value = fmt.Sprintf("%q", value)
		}
		line.WriteString(" " + a.Key + "=" + value)
		return true
	}
	for _, a := range h.attrs {
		write(a)
	}
	record.Attrs(write)
	line.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.file, line.String())
	if h.terminal != nil {
		io.WriteString(h.terminal, line.String())
	}
	return err
}
