package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Arrange puts a command line into the order that urfave/cli reads, whose flags end at the first argument. People type
// `get pods -o wide`, as kubectl lets them: this makes `get -o wide pods` of it. Which words are flags, and whether the
// next word belongs to them, is what the commands themselves say. Short flags may be joined (`-Aowide`); after "--"
// nothing is a flag.
func Arrange(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	return append(args[:1:1], arrange(app.Flags, app.Commands, args[1:])...)
}

func arrange(flags []cli.Flag, commands []*cli.Command, args []string) []string {
	var front, rest []string
	for args = slices.Clone(args); len(args) > 0; {
		word := args[0]
		args = args[1:]
		if word == "--" {
			return slices.Concat(front, []string{"--"}, rest, args)
		}
		if word == "-" || !strings.HasPrefix(word, "-") {
			if len(commands) > 0 {
				if at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) }); at >= 0 {
					args = arrange(commands[at].Flags, commands[at].Subcommands, args)
				}
				return slices.Concat(front, []string{word}, args)
			}
			rest = append(rest, word)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		flag := find(flags, name)
		if flag == nil {
			if parts := splitShort(flags, word); parts[0] != word {
				args = append(parts, args...)
				continue
			}
		}
		front = append(front, word) // an unknown flag too: urfave/cli complains about it, or knows it (--help)
		if flag != nil && !hasValue && takesValue(flag) && len(args) > 0 {
			front, args = append(front, args[0]), args[1:]
		}
	}
	return append(front, rest...)
}

// splitShort takes joined short flags apart: "-Aowide" is "-A", "-o=wide". It returns the word itself if they are none.
func splitShort(flags []cli.Flag, word string) []string {
	if strings.HasPrefix(word, "--") {
		return []string{word}
	}
	var parts []string
	for letters := word[1:]; letters != ""; letters = letters[1:] {
		flag := find(flags, letters[:1])
		switch {
		case flag == nil:
			return []string{word}
		case takesValue(flag) && len(letters) > 1:
			return append(parts, "-"+letters[:1]+"="+strings.TrimPrefix(letters[1:], "="))
		}
		parts = append(parts, "-"+letters[:1])
	}
	return parts
}

func find(flags []cli.Flag, name string) cli.Flag {
	at := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if at < 0 {
		return nil
	}
	return flags[at]
}

func takesValue(flag cli.Flag) bool {
	f, ok := flag.(cli.DocGenerationFlag)
	return ok && f.TakesValue()
}
