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
	return onCluster("scale", "Set how many replicas there should be", "KIND/NAME... --replicas N",
		"mini-k8s scale deployment/web --replicas 5", (*session).scale,
		&cli.IntFlag{Name: "replicas", Value: -1, Usage: "`HOW MANY`"})
}

func (s *session) scale(args []string) error {
	replicas := s.flags.Int("replicas")
	if replicas < 0 {
		return errors.New("say how many there should be: --replicas 3")
	}
	targets, err := s.targets(args)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t.name == "" || !t.kind.HasSubresource("scale") {
			return fmt.Errorf("%s cannot be scaled: write deployment/NAME or replicaset/NAME", t)
		}
		_, err := s.do(client.Request{Method: http.MethodPatch, Path: t.kind.Path(s.namespace, t.name, "scale"),
			ContentType: string(types.MergePatchType), Body: fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)})
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, t, "scaled")
	}
	return nil
}
