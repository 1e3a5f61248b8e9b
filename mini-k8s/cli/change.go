package cli

import (
	"errors"
	"fmt"
	"net/http"

	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/types"
)

func deleteCommand() *cli.Command {
	return onCluster("delete", "Delete objects", "KIND NAME... | KIND/NAME... | KIND -l LABELS | -f FILE",
		`mini-k8s delete -f web.yaml            what the file describes
mini-k8s delete pod web-1              one pod; its ReplicaSet makes another
mini-k8s delete pods -l app=web`,
		(*session).delete, filenameFlag(), text("selector", "l", "objects with these `LABELS`: app=web,tier!=db"))
}

// delete returns when the server knows what is to go, not when it is gone: a pod has its grace period to end.
func (s *session) delete(args []string) error {
	objects, err := s.condemned(args)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		fmt.Fprintln(s.App.ErrWriter, "No resources found")
	}
	for _, o := range objects {
		if _, err := s.do(client.Request{Method: http.MethodDelete, Path: o.path()}); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s %q deleted\n", qualified(o.kind), o.name)
	}
	return nil
}

// condemned finds out which objects are meant, without touching them.
func (s *session) condemned(args []string) ([]object, error) {
	if s.IsSet("filename") {
		if len(args) > 0 || len(s.selection) > 0 {
			return nil, errors.New("give -f alone: the files say what to delete")
		}
		return s.readManifests()
	}
	targets, err := s.targets(args)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if t.name == "" && len(s.selection) == 0 {
			return nil, fmt.Errorf("which %s? Give names or -l LABELS", t.kind.Resource)
		}
	}
	return s.objects(targets)
}

func scaleCommand() *cli.Command {
	return onCluster("scale", "Set how many replicas there should be", "KIND/NAME... --replicas N",
		"mini-k8s scale deployment/web --replicas 5", (*session).scale,
		&cli.IntFlag{Name: "replicas", Value: -1, Usage: "`HOW MANY`"})
}

func (s *session) scale(args []string) error {
	replicas := s.Int("replicas")
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
