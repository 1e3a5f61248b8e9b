// Package cmdline lets people put flags where they like: `get pods -o wide`, as kubectl does.
package cmdline

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Arrange puts a command line into the order that urfave/cli reads, whose flags end at the first argument. People type
// `get pods -o wide`, as kubectl lets them: this makes `get -o wide pods` of it. After "--" nothing is a flag.
func Arrange(app *cli.App, args []string) []string {
	for i, word := range args {
		at := slices.IndexFunc(app.Commands, func(c *cli.Command) bool { return c.HasName(word) })
		if i > 0 && at >= 0 {
			return slices.Concat(args[:i+1], flagsFirst(app.Commands[at].Flags, args[i+1:]))
		}
	}
	return args
}

func flagsFirst(known []cli.Flag, args []string) []string {
	var flags, rest []string
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return slices.Concat(flags, []string{word}, rest, args[i+1:])
		}
		if word == "-" || !strings.HasPrefix(word, "-") {
			rest = append(rest, word)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case takesValue(known, name) && !hasValue && i+1 < len(args):
			i++
			flags = append(flags, word, args[i])
		case len(name) > 1 && word[1] != '-' && !takesValue(known, name) && takesValue(known, name[:1]): // -owide
			flags = append(flags, word[:2], word[2:])
		default: // an unknown flag too: urfave/cli complains about it, or knows it (--help)
			flags = append(flags, word)
		}
	}
	return slices.Concat(flags, rest)
}

func takesValue(known []cli.Flag, name string) bool {
	return slices.ContainsFunc(known, func(f cli.Flag) bool {
		described, ok := f.(cli.DocGenerationFlag)
		return ok && described.TakesValue() && slices.Contains(f.Names(), name)
	})
}
