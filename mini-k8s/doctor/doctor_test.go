package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// diagnose runs the doctor on a machine whose commands do what the scripts say, or else succeed.
func diagnose(t *testing.T, scripts map[string]string) (said string, forDocker, forLabs []string) {
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
	forDocker, forLabs = Examine(t.Context(), &out)
	return out.String(), forDocker, forLabs
}

func TestDoctor(t *testing.T) {
	for _, row := range []struct {
		name, command, script string
		docker, labs          string // what is missing
		want                  []string
	}{
		{"all is well", "go", "echo go version go1.26.3", "", "", []string{"go version go1.26.3", "the labs"}},
		{"no go", "go", "exit 1", "", "Go 1.26+", []string{"MISSING: https://go.dev/dl"}},
		{"no nft", "nft", "exit 1", "nftables", "", []string{"MISSING: sudo apt install nftables"}},
		{"not on Linux", "uname", "echo Darwin", "Linux", "", []string{"virtual machine"}},
		{"no root", "id", "echo 1000", "root", "", []string{"sudo"}},
		{"docker is down", "docker", "echo Cannot connect >&2; exit 1", "Docker 20.10+", "", []string{"systemctl start docker", "Cannot connect"}},
		{"no kubectl", "kubectl", "exit 1", "", "", []string{"mini-k8s get"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, forDocker, forLabs := diagnose(t, map[string]string{row.command: row.script})
			if strings.Join(forDocker, " ") != row.docker || strings.Join(forLabs, " ") != row.labs {
				t.Errorf("for Docker %v is missing, for the labs %v", forDocker, forLabs)
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
