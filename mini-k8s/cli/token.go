package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"workshop/mini-k8s/client"
	"workshop/mini-k8s/cluster"
	"workshop/mini-k8s/pki"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/util"
	"k8s.io/cluster-bootstrap/util/secrets"
)

// tokenLife is as long as kubeadm's.
const tokenLife = 24 * time.Hour

func tokenCommand() *cli.Command {
	command := onCluster("token", "Make, list or revoke join tokens of workers; print a user's bearer token", "[create | list | delete ID...]", `
mini-k8s token create --ttl 2h  a join token; workers can join with it until it expires (never with --ttl 0) or is deleted
mini-k8s token list
mini-k8s token delete 07401b    nobody joins with it any more; who has joined stays
mini-k8s token --user viewer    for kubectl --token; the users are admin and viewer, who only reads

A user's token is made from the CA in --dir. No list of them is kept: each is good as long as that CA. To revoke one, stop the
master and remove the directory pki there; then all join anew.`,
		(*session).token, nameFlag(), dirFlag("NAME"), text("user", "", "print a bearer token for this `USER`"),
		&cli.DurationFlag{Name: "ttl", Value: tokenLife, Usage: "`HOW LONG` one can join with a new token"})
	command.Before = func(cCtx *cli.Context) error { // a master that runs alone is found by its directory
		if cCtx.IsSet("kubeconfig") && !cCtx.IsSet("dir") && !cCtx.IsSet("name") {
			return nil
		}
		path := filepath.Join(masterDir(cCtx), "kubeconfig")
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w\nsay with --dir or --name where a master keeps its state", err)
		}
		return cCtx.Set("kubeconfig", path)
	}
	return command
}

func masterDir(cCtx *cli.Context) string {
	return cmp.Or(cCtx.String("dir"), cluster.Dir(cCtx.String("name")))
}

func (s *session) token(args []string) error {
	tokens := client.Of[*corev1.Secret](s.client)
	switch what := s.Args().First(); {
	case s.Duration("ttl") < 0:
		return fmt.Errorf("--ttl %v: use a time to come, or 0 for a token that never expires", s.Duration("ttl"))
	case s.String("user") != "":
		ca, err := pki.Load(filepath.Join(masterDir(s.Context), "pki"))
		if err != nil {
			return err
		}
		return s.print(ca.Token(s.String("user")))
	case what == "" || what == "create" && len(args) == 1:
		return s.print(makeToken(s.ctx, s.client, s.ca, s.Duration("ttl")))
	case what == "list" && len(args) == 1:
		return s.listTokens(tokens)
	case what == "delete" && len(args) > 1:
		for _, id := range args[1:] {
			id, _, _ = strings.Cut(id, ".") // the rest of a token is a secret
			if _, err := tokens.Delete(s.ctx, metav1.NamespaceSystem, util.BootstrapTokenSecretName(id), metav1.DeleteOptions{}); err != nil {
				return s.explain(err)
			}
			fmt.Fprintf(s.out, "token %s deleted\n", id)
		}
		return nil
	}
	return fmt.Errorf("token %s: use create, list, or delete with the IDs of tokens", strings.Join(args, " "))
}

func (s *session) print(token string, err error) error {
	if err != nil {
		return s.explain(err)
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}

// makeToken has the cluster know a new join token: in a Secret, as kubeadm does; only the hash of the CA is added.
func makeToken(ctx context.Context, c *client.Client, caPEM []byte, life time.Duration) (string, error) {
	token, err := util.GenerateBootstrapToken()
	if err != nil {
		return "", err
	}
	id, secret, _ := strings.Cut(token, ".")
	kept := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: util.BootstrapTokenSecretName(id)},
		Type:       bootstrap.SecretTypeBootstrapToken,
		StringData: map[string]string{bootstrap.BootstrapTokenIDKey: id, bootstrap.BootstrapTokenSecretKey: secret,
			bootstrap.BootstrapTokenUsageAuthentication: "true"},
	}
	if life != 0 {
		kept.StringData[bootstrap.BootstrapTokenExpirationKey] = time.Now().UTC().Add(life).Format(time.RFC3339)
	}
	_, err = client.Of[*corev1.Secret](c).Create(ctx, kept)
	return token + "." + pki.CAHash(caPEM), err
}

// listTokens shows what is no secret of the tokens.
func (s *session) listTokens(tokens client.Resource[*corev1.Secret]) error {
	list, err := tokens.List(s.ctx, client.Selection{Namespace: metav1.NamespaceSystem, Fields: "type=" + string(bootstrap.SecretTypeBootstrapToken)})
	lines := [][]string{{"ID", "EXPIRES"}}
	for _, kept := range list.Items {
		lines = append(lines, []string{secrets.GetData(kept, bootstrap.BootstrapTokenIDKey),
			cmp.Or(secrets.GetData(kept, bootstrap.BootstrapTokenExpirationKey), "<never>")})
	}
	if err == nil {
		printColumns(s.out, lines)
	}
	return s.explain(err)
}
