package cli

import (
	"errors"
	"fmt"
	"net/http"

	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
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
	documents, err := s.condemned(args)
	if err != nil {
		return err
	}
	for _, d := range documents {
		if _, err := s.do(client.Request{Method: http.MethodDelete, Path: d.path()}); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s %q deleted\n", qualified(d.kind), d.name)
	}
	return nil
}

// condemned finds out which objects are meant, without touching them.
func (s *session) condemned(args []string) ([]document, error) {
	if files := s.flags.StringSlice("filename"); len(files) > 0 {
		if len(args) > 0 || len(s.selection) > 0 {
			return nil, errors.New("give -f alone: the files say what to delete")
		}
		return s.readManifests(files)
	}
	targets, err := s.targets(args)
	if err != nil {
		return nil, err
	}
	var all []document
	for _, t := range targets {
		if t.name == "" && len(s.selection) == 0 {
			return nil, fmt.Errorf("which %s? Give names or -l LABELS", t.kind.Resource)
		}
		objects, err := s.objects(t)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			all = append(all, document{o, target{t.kind, o.GetName()}})
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(s.errOut, "No resources found")
	}
	return all, nil
}
