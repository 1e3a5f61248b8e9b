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

// accepts are the rules that let packets from and to pods through. Two: one that asked for both addresses at once
// would stop other machines, whose addresses are not pods'.
func accepts(cluster, cidr string) [][]string {
	mark := []string{"-m", "comment", "--comment", comment(cluster), "-j", "ACCEPT"}
	return [][]string{append([]string{"-s", cidr}, mark...), append([]string{"-d", cidr}, mark...)}
}

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

// ensureRules writes only what is missing. Creating a table, deleting it and creating it again in one transaction replaces
// it, whether or not it was there, with no moment without it.
func ensureRules(ctx context.Context, cluster, cidr string) error {
	if err := loadBridgeFilter(ctx); err != nil {
		return err
	}
	for _, rule := range accepts(cluster, cidr) {
		if _, err := run(ctx, "", "iptables", append([]string{"-w", "-C", "DOCKER-USER"}, rule...)...); err == nil {
			continue // it is there
		}
		if _, err := run(ctx, "", "iptables", append([]string{"-w", "-I", "DOCKER-USER"}, rule...)...); err != nil {
			return fmt.Errorf("let packets from and to pods pass: %w", err)
		}
	}
	wanted := masquerade(cluster, cidr)
	if found, err := run(ctx, "", "nft", "list", "table", "ip", table(cluster)); err == nil && found == wanted {
		return nil
	}
	if err := Apply(ctx, fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", table(cluster))+wanted); err != nil {
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
	var files []string
	for _, detour := range []string{"sys/class/net/*/brif/*/hairpin_mode", "proc/sys/net/ipv4/conf/*/route_localnet", "sys/class/net/*/bridge/nf_call_iptables"} {
		found, _ := filepath.Glob("/" + strings.Replace(detour, "*", bridgePrefix+"*", 1))
		files = append(files, found...)
	}
	var failures []error
	for _, file := range files {
		if err := os.WriteFile(file, []byte("1"), 0); !errors.Is(err, os.ErrNotExist) { // a pod may be gone by now
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// removeRules goes by the comment and the table's name, so that it finds those of an earlier range as well, and takes the
// routes with them.
func removeRules(ctx context.Context, cluster string) error {
	rules, err := run(ctx, "", "iptables", "-w", "-S")
	failures := []error{err}
	for _, rule := range deletions(rules, cluster) {
		_, err := run(ctx, "", "iptables", append([]string{"-w"}, rule...)...)
		failures = append(failures, err)
	}
	for _, name := range []string{table(cluster), Services(cluster)} {
		failures = append(failures, Apply(ctx, fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", name)))
	}
	failures = append(failures, SetRoutes(ctx, cluster, nil))
	// Where a tool is not installed it cannot have left anything.
	failures = slices.DeleteFunc(failures, func(err error) bool { return errors.Is(err, exec.ErrNotFound) })
	return errors.Join(failures...)
}

// deletions picks the cluster's rules from the output of iptables -S and turns them into arguments that delete them.
func deletions(rules, cluster string) (all [][]string) {
	for line := range strings.Lines(rules) {
		rule, ours := strings.CutPrefix(line, "-A DOCKER-USER ")
		words := strings.Fields(strings.ReplaceAll(rule, `"`, ""))
		if ours && slices.Contains(words, comment(cluster)) {
			all = append(all, append([]string{"-D", "DOCKER-USER"}, words...))
		}
	}
	return all
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
