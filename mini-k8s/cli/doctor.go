package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

const forDocker, forLabs = "mini-k8s up --runtime docker", "the labs"

// checks are what the doctor looks at. Each is a command that you can run yourself, and that succeeds if all is well.
var checks = []struct{ name, command, neededFor, fix string }{
	{"Go 1.26+", "go version", forLabs, "https://go.dev/dl/ (apt has older ones), or brew install go"},
	{"C compiler", "cc --version", forLabs, "sudo apt install gcc libc6-dev, or xcode-select --install"},
	{"Linux", "test $(uname) = Linux && uname -sr", forDocker, "use the virtual machines in vagrant/"},
	{"root", "test $(id -u) = 0 && echo yes", forDocker, "run it with sudo: networks and service rules need it"},
	{"Docker 20.10+", "docker version --format '{{.Server.Version}}'", forDocker,
		"sudo apt install docker.io; if it is there: sudo systemctl start docker"},
	{"nftables", "nft --version", forDocker, "sudo apt install nftables"},
	{"iptables", "iptables --version", forDocker, "sudo apt install iptables"},
	// The oldest of the seven minor releases with which the API server is tested.
	{"kubectl 1.27+", "kubectl version --client", "comfort", "https://kubernetes.io/docs/tasks/tools/, or `mini-k8s get` and its like"},
}

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "Check that this machine has what mini-k8s and the labs need, and say how to get what is missing",
		UsageText: "mini-k8s doctor", Description: "sudo mini-k8s doctor    as root, for so runs `" + forDocker + "`",
		Action: doctor,
	}
}

// doctor looks at everything and changes nothing. It is an error if the docker runtime cannot be used.
func doctor(cCtx *cli.Context) error {
	ctx, cancel := context.WithTimeout(cCtx.Context, 20*time.Second)
	defer cancel()
	var missing []string // of what docker needs
	lines := [][]string{{"NEEDED", "FOR", "FOUND"}}
	for _, c := range checks {
		// Also what only root has on its PATH.
		output, err := exec.CommandContext(ctx, "/bin/sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; "+c.command).CombinedOutput()
		found, _, _ := strings.Cut(string(output), "\n")
		if err != nil {
			if c.neededFor == forDocker {
				missing = append(missing, c.name)
			}
			found = "MISSING: " + c.fix
			if said := strings.Join(strings.Fields(string(output)), " "); said != "" {
				found += " (" + said + ")"
			}
		}
		lines = append(lines, []string{c.name, c.neededFor, found})
	}
	printColumns(cCtx.App.Writer, lines)
	fmt.Fprintln(cCtx.App.Writer, "\nmini-k8s up --runtime hollow needs none of it: its pods start and stop in memory")
	if len(missing) > 0 {
		return errors.New("`" + forDocker + "` needs " + strings.Join(missing, ", ") + ": see above")
	}
	return nil
}
