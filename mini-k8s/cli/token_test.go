package cli

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/pki"

	corev1 "k8s.io/api/core/v1"
)

func TestTokensAreMadeListedAndRevoked(t *testing.T) {
	b := newBench(t, nil)
	config, err := pki.ReadKubeconfig(b.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	secrets := client.Of[*corev1.Secret](b.client)
	ids := map[string]string{}
	for line, life := range map[string]time.Duration{"token": 24 * time.Hour, "token create": 24 * time.Hour, "token create --ttl 90m": 90 * time.Minute, "token create --ttl 0": 0} {
		words := regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})\.` + pki.CAHash(config.CAPEM) + `\n$`).FindStringSubmatch(b.ok(line))
		if words == nil {
			t.Fatalf("%s prints %q", line, b.ok(line))
		}
		kept, err := secrets.Get(context.Background(), "kube-system", "bootstrap-token-"+words[1])
		if err != nil {
			t.Fatal(err)
		}
		expires, err := time.Parse(time.RFC3339, string(kept.Data["expiration"]))
		if left := time.Until(expires); life != 0 && (err != nil || left > life || left < life-time.Minute) || life == 0 && kept.Data["expiration"] != nil {
			t.Errorf("%s: it expires %q, in %v", line, kept.Data["expiration"], left)
		}
		if kept.Type != "bootstrap.kubernetes.io/token" || string(kept.Data["token-id"]) != words[1] || string(kept.Data["token-secret"]) != words[2] ||
			string(kept.Data["usage-bootstrap-authentication"]) != "true" {
			t.Errorf("%s: kept as %s %q", line, kept.Type, kept.Data)
		}
		if ids[line] = words[1]; strings.Contains(b.ok("token list"), words[2]) {
			t.Error("token list shows the secret")
		}
	}
	list := b.ok("token list")
	for _, pattern := range []string{`^ID +EXPIRES\n`, `\n` + ids["token create"] + ` +20\S+Z\n`, `\n` + ids["token create --ttl 0"] + ` +<never>\n`} {
		if !regexp.MustCompile(pattern).MatchString(list) {
			t.Errorf("token list does not show %q:\n%s", pattern, list)
		}
	}
	if got := b.ok("token delete " + ids["token"] + " " + ids["token create"] + ".secret"); got != "token "+ids["token"]+" deleted\ntoken "+ids["token create"]+" deleted\n" {
		t.Errorf("token delete says %q", got)
	}
	if left := b.ok("token list"); strings.Count(left, "\n") != 3 || strings.Contains(left, ids["token"]) {
		t.Errorf("after two of four were deleted there are\n%s", left)
	}
	b.fails("token delete "+ids["token"], `secrets "bootstrap-token-`+ids["token"]+`" not found`)
	for _, line := range []string{"token make", "token delete", "token list all", "token create now"} {
		b.fails(line, "use create, list, or delete with the IDs of tokens")
	}
	b.fails("token create --ttl -1h", "--ttl -1h0m0s")
	b.fails("token create --ttl soon", "ttl")
}

func TestTokenOfAUserIsThatOfTheMastersCA(t *testing.T) {
	b := newBench(t, nil)
	dir := filepath.Dir(b.kubeconfig)
	ca, err := pki.LoadOrCreate(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(b.ok("token --user viewer --dir " + dir))
	if user := ca.TokenUser(token); user != "viewer" {
		t.Errorf("it is for %q", user)
	}
	// The directory counts more than the kubeconfig that is set for another cluster.
	elsewhere := t.TempDir()
	b.fails("token --user viewer --dir "+elsewhere, "say with --dir or --name")
	if err := os.Rename(b.kubeconfig, filepath.Join(elsewhere, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
	b.ok("token list --dir " + elsewhere)
	b.fails("token list", b.kubeconfig, "KUBECONFIG")
}
