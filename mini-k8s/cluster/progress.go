package cluster

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// slow is when a step that is still going on says so.
const slow = 3 * time.Second

// progress tells a person what is being done and how long it took.
type progress struct{ out io.Writer }

// step does one thing. The note that it returns says how it went, where that is worth a word.
func (p *progress) step(what string, do func() (note string, err error)) error {
	start := time.Now()
	var mu sync.Mutex // guards the line
	fmt.Fprintf(p.out, "  %-34s", what)
	waiting := time.AfterFunc(slow, func() {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(p.out, "(this can take a moment) ")
	})
	note, err := do()
	waiting.Stop()
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		fmt.Fprintln(p.out, "failed")
		return err
	}
	fmt.Fprintf(p.out, "%5.2f s   %s\n", time.Since(start).Seconds(), note)
	return nil
}
