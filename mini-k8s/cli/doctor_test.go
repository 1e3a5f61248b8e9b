package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// diagnose runs the doctor on a machine whose commands do what the scripts say, or else succeed.
func diagnose(t *testing.T, scripts map[string]string) (string, error) {
	t.Helper()
	path := t.TempDir()
	for _, name := range []string{"go", "cc", "uname", "id", "docker", "nft", "iptables", "kubectl"} {
		script, ok := scripts[name]
		if !ok {
			script = map[string]string{"uname": "echo Linux", "id": "echo 0"}[name]
		}
		text := "#!/bin/sh\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", path)
	var out strings.Builder
	app := &cli.App{Commands: Commands(), Writer: &out, ExitErrHandler: func(*cli.Context, error) {}}
	err := app.Run([]string{"mini-k8s", "doctor"})
	return out.String(), err
}

func TestDoctor(t *testing.T) {
	for _, row := range []struct {
		name, command, script string
		fails                 bool
		want                  []string
	}{
		{"all is well", "go", "echo go version go1.26.3", false, []string{"go version go1.26.3", "the labs"}},
		{"no go", "go", "exit 1", false, []string{"MISSING: https://go.dev/dl/"}},
		{"no nft", "nft", "exit 1", true, []string{"MISSING: sudo apt install nftables"}},
		{"not on Linux", "uname", "echo Darwin", true, []string{"vagrant/"}},
		{"no root", "id", "echo 1000", true, []string{"sudo"}},
		{"docker is down", "docker", "echo Cannot connect >&2; exit 1", true, []string{"systemctl start docker", "Cannot connect"}},
		{"no kubectl", "kubectl", "exit 1", false, []string{"mini-k8s get"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := diagnose(t, map[string]string{row.command: row.script})
			if (err != nil) != row.fails {
				t.Error(err)
			}
			for _, want := range row.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, "MISSING") != (row.command != "go" || row.script == "exit 1") {
				t.Error(out)
			}
		})
	}
}
