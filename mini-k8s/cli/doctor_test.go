package cli

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// healthy is a machine that has all.
func healthy() machine {
	return machine{
		os: "linux", root: true,
		run: func(_ context.Context, command ...string) (string, error) {
			return map[string]string{"go": "go version go1.26.3 linux/amd64", "cc": "cc (Debian 12.2.0-14) 12.2.0\nCopyright", "nft": "nftables v1.0.6 (Lester Gooch)",
				"iptables": "iptables v1.8.9 (nf_tables)", "kubectl": "Client Version: v1.33.1\nKustomize Version: v5.6.0", "docker": "20.10.24+dfsg1"}[command[0]], nil
		},
		disk:   func() uint64 { return 100 << 30 },
		memory: func(context.Context) uint64 { return 8 << 30 },
		free:   func(string) bool { return true },
	}
}

func TestDoctor(t *testing.T) {
	answers := func(m *machine, name, text string, err error) {
		run := m.run
		m.run = func(ctx context.Context, command ...string) (string, error) {
			if command[0] == name {
				return text, err
			}
			return run(ctx, command...)
		}
	}
	without := func(m *machine, name string) { answers(m, name, "", exec.ErrNotFound) }
	says := func(m *machine, name, text string) { answers(m, name, text, nil) }
	for _, row := range []struct {
		name  string
		spoil func(m *machine)
		fails bool
		want  []string
	}{
		{"all is well", func(*machine) {}, false, []string{"ok   go           go version go1.26.3", "--runtime docker: works", "the labs: works"}},
		{"no go", func(m *machine) { without(m, "go") }, false, []string{"missing   go", "https://go.dev/dl/", "the labs: needs go"}},
		{"old go", func(m *machine) { says(m, "go", "go version go1.19.8 linux/amd64") }, false, []string{"missing   go", "1.19.8 is older than 1.26", "https://go.dev/dl/"}},
		{"no nft", func(m *machine) { without(m, "nft") }, true, []string{"apt install nftables", "--runtime docker: needs nft", "the labs: works", "--runtime hollow: works"}},
		{"no iptables on a Mac", func(m *machine) { m.os = "darwin"; without(m, "iptables") }, true, []string{"iptables", "needs Linux", "vagrant/"}},
		{"no root", func(m *machine) { m.root = false }, true, []string{"missing   root", "sudo"}},
		{"old docker", func(m *machine) { says(m, "docker", "19.03.1\n") }, true, []string{"19.03.1 is older than 20.10"}},
		{"no docker", func(m *machine) { without(m, "docker") }, true, []string{"apt install docker.io"}},
		{"docker is down", func(m *machine) {
			answers(m, "docker", "", errors.New("exit status 1: Cannot connect to the Docker daemon"))
		}, true, []string{"systemctl start docker"}},
		{"docker is for others", func(m *machine) {
			answers(m, "docker", "", errors.New("exit status 1: permission denied while trying"))
		}, true, []string{"usermod -aG docker"}},
		{"no kubectl", func(m *machine) { without(m, "kubectl") }, false, []string{"warn   kubectl", "mini-k8s get"}},
		{"old kubectl", func(m *machine) { says(m, "kubectl", "Client Version: v1.20.2") }, false, []string{"warn   kubectl", "1.20.2 is older"}},
		{"little disk and memory", func(m *machine) {
			m.disk = func() uint64 { return 1 << 30 }
			m.memory = func(context.Context) uint64 { return 0 }
		}, false, []string{"warn   disk", "1.0 GiB", "warn   memory", "0.0 GiB"}},
		{"slow clock", func(m *machine) { m.built = time.Now().Add(time.Hour) }, false, []string{"warn   clock", "timedatectl"}},
		{"port in use", func(m *machine) { m.free = func(string) bool { return false } }, false, []string{"warn   port 6443", "mini-k8s down"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := healthy()
			row.spoil(&m)
			var out strings.Builder
			if err := report(&out, checkUp(context.Background(), m)); (err != nil) != row.fails {
				t.Error(err)
			}
			for _, want := range row.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
}

func TestDoctorLooksAtThisMachine(t *testing.T) {
	if findings := checkUp(context.Background(), thisMachine()); len(findings) != 11 || !findings[0].ok {
		t.Error(findings)
	}
}
