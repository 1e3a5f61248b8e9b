package cli

import (
	"errors"
	"fmt"
	"net/http"

	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/types"
)

func scaleCommand() *cli.Command {
	return &cli.Command{
		Name: "scale", Usage: "Set how many replicas there should be",
		UsageText:   "mini-k8s scale KIND/NAME... --replicas N",
		Description: "mini-k8s scale deployment/web --replicas 5\nmini-k8s scale deployment web --replicas 0",
		Flags:       clusterFlags(&cli.IntFlag{Name: "replicas", Usage: "`HOW MANY`"}),
		Action:      onCluster((*session).scale),
	}
}

func (s *session) scale(args []string) error {
	replicas := s.flags.Int("replicas")
	if !s.flags.IsSet("replicas") || replicas < 0 {
		return errors.New("say how many there should be: --replicas 3")
	}
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if !t.kind.HasSubresource("scale") {
			return fmt.Errorf("a %s cannot be scaled: scale the deployment or replicaset that makes it", t.kind.Singular())
		}
		if len(t.names) == 0 {
			return fmt.Errorf("which %s? mini-k8s scale %s NAME --replicas %d", t.kind.Singular(), t.kind.Singular(), replicas)
		}
	}
	var errs []error
	for _, t := range targets {
		for _, name := range t.names {
			_, err := s.do(client.Request{Method: http.MethodPatch, Path: t.kind.Path(s.namespace, name, "scale"),
				ContentType: string(types.MergePatchType), Body: fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)})
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(s.out, fullName(t.kind, name), "scaled")
		}
	}
	return errors.Join(errs...)
}
