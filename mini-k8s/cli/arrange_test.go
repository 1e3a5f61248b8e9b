package cli

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	app := &cli.App{Flags: []cli.Flag{&cli.StringFlag{Name: "log"}, &cli.BoolFlag{Name: "verbose"}}, Commands: append(Commands(),
		&cli.Command{Name: "parent", Subcommands: []*cli.Command{{Name: "create", Aliases: []string{"new"}, Flags: []cli.Flag{&cli.DurationFlag{Name: "ttl"}}}}})}
	for _, row := range []struct{ name, typed, read string }{
		{"flag after argument", "get pods -o wide", "get -o wide pods"},
		{"flags on both sides", "get -n a pods web -o wide -A", "get -n a -o wide -A pods web"},
		{"value after equals sign", "get pods --output=wide db", "get --output=wide pods db"},
		{"bool takes no word", "get -w pods", "get -w pods"},
		{"joined value", "get pods -owide", "get -o=wide pods"},
		{"joined value with sign", "get pods -o=wide", "get -o=wide pods"},
		{"joined bool and value", "get pods -Aowide", "get -A -o=wide pods"},
		{"value that is a dash", "apply -f - --dry-run=server", "apply -f - --dry-run=server"},
		{"value that looks like a flag", "logs web --tail -1 -f", "logs --tail -1 -f web"},
		{"flag of two meanings", "logs -f web", "logs -f web"},
		{"repeated flag", "apply -f a -f b", "apply -f a -f b"},
		{"unknown flag", "get pods --bogus x", "get --bogus pods x"},
		{"help", "get pods --help", "get --help pods"},
		{"end of flags", "get pods -w -- -o", "get -w -- pods -o"},
		{"missing value", "get pods -o", "get -o pods"},
		{"global flags first", "--log x --verbose get pods -w", "--log x --verbose get -w pods"},
		{"command name as argument", "get events get -w", "get -w events get"},
		{"subcommand", "parent create node-1 --ttl 1h", "parent create --ttl 1h node-1"},
		{"subcommand by alias", "parent new node-1 --ttl 1h", "parent new --ttl 1h node-1"},
		{"no command", "--verbose", "--verbose"},
		{"unknown command", "gett pods -o wide", "gett pods -o wide"},
		{"nothing", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"mini-k8s"}, strings.Fields(row.typed)...)
			before := strings.Join(args, " ")
			got := strings.Join(Arrange(app, args), " ")
			if want := strings.TrimSpace("mini-k8s " + row.read); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if strings.Join(args, " ") != before {
				t.Error("the arguments themselves have changed")
			}
		})
	}
	if len(Arrange(app, nil)) != 0 {
		t.Error("no arguments")
	}
}
