package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/util/version"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "Check that this machine has what mini-k8s and the labs need, and say how to get what is missing",
		UsageText: "mini-k8s doctor", Description: "sudo mini-k8s doctor    as root, for so runs `mini-k8s up --runtime docker`",
		Action: func(cCtx *cli.Context) error {
			ctx, cancel := context.WithTimeout(cCtx.Context, 20*time.Second)
			defer cancel()
			return report(cCtx.App.Writer, checkUp(ctx, thisMachine()))
		},
	}
}

// finding is the outcome of one check.
type finding struct {
	name   string
	needed string // what does not work without: "docker", "labs", or "" if it is only nice to have
	ok     bool
	detail string // what there is, or what to do
}

const (
	needsLinux = "needs Linux: use the virtual machines in vagrant/, or `mini-k8s up --runtime hollow`"
	wantDisk   = 4 << 30
	wantMemory = 2 << 30
)

// programs are what must be on the PATH, and how to get it on Debian and Ubuntu and, where that differs, on macOS.
var programs = []struct {
	name, needed, oldest, fix, macFix string
	command                           []string // tells the version
}{
	{"go", "labs", "1.26", "https://go.dev/dl/ (apt has older ones), or on Ubuntu: sudo snap install go --classic", "brew install go", []string{"go", "version"}},
	{"C compiler", "labs", "", "sudo apt install gcc libc6-dev", "xcode-select --install", []string{"cc", "--version"}},
	{"docker", "docker", "20.10", "sudo apt install docker.io", needsLinux, []string{"docker", "version", "--format", "{{.Server.Version}}"}},
	{"nft", "docker", "", "sudo apt install nftables", needsLinux, []string{"nft", "--version"}},
	{"iptables", "docker", "", "sudo apt install iptables", needsLinux, []string{"iptables", "--version"}},
	// The oldest of the seven minor releases that the API server is made for.
	{"kubectl", "", "1.31", "https://kubernetes.io/docs/tasks/tools/; until then `mini-k8s get` and its like do", "brew install kubectl", []string{"kubectl", "version", "--client"}},
}

var versionPattern = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// checkUp looks at everything. It changes nothing.
func checkUp(ctx context.Context, m machine) []finding {
	fix := func(linux, mac string) string {
		if m.os == "darwin" {
			return mac
		}
		return linux
	}
	var findings []finding
	for _, p := range programs {
		output, err := m.run(ctx, p.command...)
		f := finding{p.name, p.needed, err == nil, fix(p.fix, p.macFix)}
		switch {
		case err != nil && strings.Contains(err.Error(), "permission denied"): // only Docker says so
			f.detail = "you may not use it: sudo usermod -aG docker $USER and log in anew, or use sudo"
		case err != nil && strings.Contains(err.Error(), "Cannot connect"):
			f.detail = fix("it is not running: sudo systemctl start docker", "it is not running: open -a Docker; and "+needsLinux)
		case err == nil && tooOld(output, p.oldest):
			f.ok, f.detail = false, fmt.Sprintf("%s is older than %s: %s", versionPattern.FindString(output), p.oldest, f.detail)
		case err == nil:
			f.detail, _, _ = strings.Cut(strings.TrimSpace(output), "\n")
		}
		findings = append(findings, f)
	}
	check := func(name, needed string, ok bool, good, bad string) {
		if !ok {
			good = bad
		}
		findings = append(findings, finding{name, needed, ok, good})
	}
	disk, memory, now := float64(m.disk()), float64(m.memory(ctx)), time.Now()
	check("root", "docker", m.root && m.os != "darwin", "yes", fix("run it with sudo: networks and service rules need it", needsLinux))
	check("disk", "", disk >= wantDisk, fmt.Sprintf("%.1f GiB free", disk/(1<<30)), fmt.Sprintf("%.1f GiB free, of %d wanted: docker system prune frees some", disk/(1<<30), wantDisk>>30))
	check("memory", "", memory >= wantMemory, fmt.Sprintf("%.1f GiB", memory/(1<<30)), fmt.Sprintf("%.1f GiB, of %d wanted: end other programs, or start fewer workers", memory/(1<<30), wantMemory>>30))
	check("clock", "", now.After(m.built), now.Format(time.RFC3339), "it is slow, so certificates are not valid yet: "+fix("sudo timedatectl set-ntp true", "sudo sntp -sS time.apple.com"))
	check("port 6443", "", m.free("127.0.0.1:6443"), "free", "in use: by a cluster that runs (mini-k8s down ends it), or see "+fix("sudo ss -ltnp 'sport = :6443'", "sudo lsof -i :6443"))
	return findings
}

func tooOld(output, oldest string) bool {
	have, err := version.ParseGeneric(versionPattern.FindString(output))
	return oldest != "" && err == nil && have.LessThan(version.MustParseGeneric(oldest))
}

// report prints the findings and what follows from them. It is an error if the docker runtime cannot be used.
func report(out io.Writer, findings []finding) error {
	missing := map[string][]string{}
	var lines [][]string
	for _, f := range findings {
		state := "ok"
		switch {
		case !f.ok && f.needed == "":
			state = "warn"
		case !f.ok:
			state = "missing"
			missing[f.needed] = append(missing[f.needed], f.name)
		}
		lines = append(lines, []string{state, f.name, f.detail})
	}
	printColumns(out, columnGap, nil, lines)
	fmt.Fprintln(out, "\nmini-k8s up --runtime hollow: works (pods that start and stop in memory)")
	for _, what := range [][2]string{{"the labs", "labs"}, {"mini-k8s up --runtime docker", "docker"}} {
		verdict := "works"
		if names := missing[what[1]]; len(names) > 0 {
			verdict = "needs " + strings.Join(names, ", ")
		}
		fmt.Fprintf(out, "%s: %s\n", what[0], verdict)
	}
	if len(missing["docker"]) > 0 {
		return errors.New("something that `mini-k8s up --runtime docker` needs is missing: see above")
	}
	return nil
}
