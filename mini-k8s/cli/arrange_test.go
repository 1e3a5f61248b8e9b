package cli

import (
	"strings"
	"testing"

	"workshop/mini-k8s/cmdline"

	"github.com/urfave/cli/v2"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	app := &cli.App{Commands: Commands()}
	for _, row := range []struct{ name, typed, read string }{
		{"flag after argument", "get pods -o wide", "get -o wide pods"},
		{"flags on both sides", "get -n a pods web -o wide -A", "get -n a -o wide -A pods web"},
		{"value after equals sign", "get pods --output=wide db", "get --output=wide pods db"},
		{"bool takes no word", "get -w pods", "get -w pods"},
		{"joined value", "get pods -owide", "get -o wide pods"},
		{"joined value with sign", "get pods -o=wide", "get -o=wide pods"},
		{"value that is a dash", "apply -f - -n a", "apply -f - -n a"},
		{"value that looks like a flag", "logs web --tail -1 -f", "logs --tail -1 -f web"},
		{"flag of two meanings", "logs -f web", "logs -f web"},
		{"repeated flag", "apply -f a -f b", "apply -f a -f b"},
		{"unknown flag", "get pods --bogus x", "get --bogus pods x"},
		{"help", "get pods --help", "get --help pods"},
		{"end of flags", "get pods -w -- -o", "get -w -- pods -o"},
		{"missing value", "get pods -o", "get -o pods"},
		{"command name as argument", "get events get -w", "get -w events get"},
		{"no command", "--verbose", "--verbose"},
		{"unknown command", "gett pods -o wide", "gett pods -o wide"},
		{"nothing", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"mini-k8s"}, strings.Fields(row.typed)...)
			before := strings.Join(args, " ")
			got := strings.Join(cmdline.Arrange(app, args), " ")
			if want := strings.TrimSpace("mini-k8s " + row.read); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if strings.Join(args, " ") != before {
				t.Error("the arguments themselves have changed")
			}
		})
	}
	if len(cmdline.Arrange(app, nil)) != 0 {
		t.Error("no arguments")
	}
}
