package network

// The packet rules. Docker drops what goes from one of its bridges to another; DOCKER-USER is the chain that it
// keeps for others to say otherwise. (An accept in a chain of our own would not do: each hook's drop is final.)

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/docker/client"
)

// Limits says what does not work because packet rules cannot be set here, or "".
func Limits() string {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return ErrSameNodeOnly.Error() + " (on Linux, run this as root)"
	}
	return ""
}

// CanSetRules tells whether this process may set packet rules where Docker's bridges are.
func CanSetRules(docker *client.Client) bool {
	return Limits() == "" && strings.HasPrefix(docker.DaemonHost(), "unix://")
}

func comment(cluster string) string { return "mini-k8s/" + cluster }
func table(cluster string) string   { return "mini-k8s-" + cluster }

// Services returns the name of the table for the rules of the cluster's services. The proxy fills it.
func Services(cluster string) string { return table(cluster) + "-services" }

// masquerade is the table in which pods that leave the cluster get the host's address, and are kept from the host's
// loopback; just as nft lists it.
func masquerade(cluster, cidr string) string {
	return fmt.Sprintf(`table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s ip daddr != %[2]s masquerade
	}

	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname "`+bridgePrefix+`*" ip daddr 127.0.0.0/8 drop
	}
}
`, table(cluster), cidr)
}

// without is a script that makes sure that there is no such table. With the table's text behind it, it replaces the table,
// with no moment without it.
func without(table string) string {
	return fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", table)
}

// ensureRules writes only what is missing.
func ensureRules(ctx context.Context, cluster, cidr string) error {
	if err := loadBridgeFilter(ctx); err != nil {
		return err
	}
	// Two rules: one that asked for both addresses at once would stop other machines, whose addresses are not pods'.
	for _, end := range []string{"-s", "-d"} {
		rule := []string{"DOCKER-USER", end, cidr, "-m", "comment", "--comment", comment(cluster), "-j", "ACCEPT"}
		if _, err := iptables(ctx, "-C", rule...); err == nil {
			continue // it is there
		}
		if _, err := iptables(ctx, "-I", rule...); err != nil {
			return fmt.Errorf("let packets from and to pods pass: %w", err)
		}
	}
	wanted := masquerade(cluster, cidr)
	if found, err := run(ctx, "", "nft", "list", "table", "ip", table(cluster)); err == nil && found == wanted {
		return nil
	}
	if err := Apply(ctx, without(table(cluster))+wanted); err != nil {
		return fmt.Errorf("masquerade what leaves the cluster: %w", err)
	}
	return nil
}

// loadBridgeFilter loads the kernel's part that can have packets from port to port of a bridge pass the rules. All bridges
// of the machine would, once it is loaded; AllowDetours asks for ours alone. Docker has loaded it before version 27.3.
func loadBridgeFilter(ctx context.Context) error {
	const settings = "/proc/sys/net/bridge/bridge-nf-call-"
	if _, err := os.Stat(settings + "iptables"); err == nil {
		return nil
	}
	if _, err := run(ctx, "", "modprobe", "br_netfilter"); err != nil {
		return fmt.Errorf("have services lead to pods on the node of the client: %w", err)
	}
	var failures []error
	for _, kind := range []string{"iptables", "ip6tables", "arptables"} {
		failures = append(failures, os.WriteFile(settings+kind, []byte("0"), 0))
	}
	return errors.Join(failures...)
}

// Apply runs a script of nft: all of it, or nothing.
func Apply(ctx context.Context, script string) error {
	_, err := run(ctx, script, "nft", "-f", "-")
	return err
}

// AllowDetours lets packets take the ways that services need and the kernel does not expect: back to the pod that they
// come from, from the host's loopback to a pod, and from pod to pod of one bridge through the rules: an answer that went
// straight would come from an address that its client has not asked. It is for the bridges, and the pods on them, that are
// there now.
func AllowDetours() error {
	var failures []error
	for _, detour := range []string{"/sys/class/net/%s*/brif/*/hairpin_mode", "/proc/sys/net/ipv4/conf/%s*/route_localnet",
		"/sys/class/net/%s*/bridge/nf_call_iptables"} {
		files, _ := filepath.Glob(fmt.Sprintf(detour, bridgePrefix))
		for _, file := range files {
			if err := os.WriteFile(file, []byte("1"), 0); !errors.Is(err, os.ErrNotExist) { // a pod may be gone by now
				failures = append(failures, err)
			}
		}
	}
	return errors.Join(failures...)
}

// removeRules goes by the comment and the table's name, so that it finds those of an earlier range as well, and takes the
// routes with them.
func removeRules(ctx context.Context, cluster string) error {
	rules, err := iptables(ctx, "-S")
	failures := []error{err}
	for _, rule := range oursAmong(rules, cluster) {
		_, err := iptables(ctx, "-D", rule...)
		failures = append(failures, err)
	}
	failures = append(failures, Apply(ctx, without(table(cluster))+without(Services(cluster))), SetRoutes(cluster, nil))
	// Where a tool is not installed it cannot have left anything.
	failures = slices.DeleteFunc(failures, func(err error) bool { return errors.Is(err, exec.ErrNotFound) })
	return errors.Join(failures...)
}

// oursAmong picks the cluster's rules from the output of iptables -S, each as arguments.
func oursAmong(rules, cluster string) (all [][]string) {
	for line := range strings.Lines(rules) {
		words := strings.Fields(strings.ReplaceAll(line, `"`, ""))
		if strings.HasPrefix(line, "-A DOCKER-USER ") && slices.Contains(words, comment(cluster)) {
			all = append(all, words[1:])
		}
	}
	return all
}

func iptables(ctx context.Context, verb string, rule ...string) (string, error) {
	return run(ctx, "", "iptables", append([]string{"-w", verb}, rule...)...)
}

// run runs a tool and returns what it wrote; an error tells what the tool says was wrong.
func run(ctx context.Context, input, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
