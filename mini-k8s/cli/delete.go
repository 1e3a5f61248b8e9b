package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "Delete objects",
		UsageText: "mini-k8s delete KIND NAME... | KIND/NAME... | KIND -l LABELS | KIND --all | -f FILE",
		Description: "mini-k8s delete -f web.yaml            what the file describes\n" +
			"mini-k8s delete pod web-1              one pod; its ReplicaSet makes another\n" +
			"mini-k8s delete pods -l app=web --wait=false",
		Flags: clusterFlags(append(selectorFlags(),
			&cli.StringSliceFlag{Name: "filename", Aliases: []string{"f"}, Usage: "what the manifest `FILE`, directory, or - for stdin, describes"},
			&cli.BoolFlag{Name: "all", Usage: "all objects of the kind in the namespace"},
			&cli.Int64Flag{Name: "grace-period", Value: -1, Usage: "`SECONDS` that containers have to stop; -1: as many as the pod says"},
			&cli.BoolFlag{Name: "force", Usage: "forget the object at once, whatever may still run"},
			&cli.BoolFlag{Name: "wait", Value: true, Usage: "until the objects are gone"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long to wait; 0: for ever"})...),
		Action: onCluster((*session).delete),
	}
}

// condemned is an object that is to go.
type condemned struct{ path, name string }

func condemn(kind *api.Kind, namespace, name string) condemned {
	return condemned{kind.Path(namespace, name, ""), fmt.Sprintf("%s %q", qualified(kind), name)}
}

func (s *session) delete(args []string) error {
	options, err := s.deleteOptions()
	if err != nil {
		return err
	}
	objects, err := s.condemned(args)
	if err != nil {
		return err
	}
	var errs []error
	how := "deleted"
	if s.flags.Bool("force") {
		how = "force deleted"
		fmt.Fprintln(s.errOut, "Warning: what ran in the objects may go on to run: nobody waits for its end")
	}
	going := map[condemned]string{} // to the UID, for a new object of the name is another one
	for _, o := range objects {
		body, err := s.do(client.Request{Method: http.MethodDelete, Path: o.path, Body: options})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var deleted unstructured.Unstructured
		if err := deleted.UnmarshalJSON(body); err == nil && deleted.GetUID() != "" {
			going[o] = string(deleted.GetUID())
		}
		fmt.Fprintln(s.out, o.name, how)
	}
	if s.flags.Bool("wait") {
		errs = append(errs, s.waitGone(going))
	}
	return errors.Join(errs...)
}

func (s *session) deleteOptions() ([]byte, error) {
	options := metav1.DeleteOptions{}
	grace, force := s.flags.Int64("grace-period"), s.flags.Bool("force")
	switch {
	case force && grace > 0:
		return nil, errors.New("--force leaves no time: leave out --grace-period")
	case force:
		grace = 0
	case grace == 0:
		grace = 1 // as in kubectl, zero is for --force: it may leave containers behind that nobody knows of
	}
	if grace >= 0 {
		options.GracePeriodSeconds = &grace
	}
	return json.Marshal(options)
}

// condemned finds out which objects are meant, without touching them.
func (s *session) condemned(args []string) ([]condemned, error) {
	var all []condemned
	files, selected := s.flags.StringSlice("filename"), len(s.query()) > 0
	if len(files) > 0 {
		if len(args) > 0 || selected || s.flags.Bool("all") {
			return nil, errors.New("give -f alone: the files say what to delete")
		}
		documents, err := readManifests(files, s.flags.App.Reader)
		if err == nil {
			err = s.inNamespace(documents)
		}
		for _, d := range documents {
			all = append(all, condemn(d.kind, d.GetNamespace(), d.GetName()))
		}
		return all, err
	}
	targets, err := s.targets(args)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if len(t.names) == 0 && !s.flags.Bool("all") && !selected {
			return nil, fmt.Errorf("which %s? Give names, -l LABELS or --all", t.kind.Resource)
		}
		if len(t.names) == 0 {
			objects, err := s.objects(t)
			if err != nil {
				return nil, err
			}
			for _, o := range objects {
				t.names = append(t.names, o.GetName())
			}
		}
		for _, name := range t.names {
			all = append(all, condemn(t.kind, s.namespaceOf(t.kind), name))
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(s.errOut, "No resources found")
	}
	return all, nil
}

// waitGone returns when none of the objects is there any more.
func (s *session) waitGone(going map[condemned]string) error {
	ctx := s.ctx
	if timeout := s.flags.Duration("timeout"); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var left []string
		for o, uid := range going {
			var now unstructured.Unstructured
			body, err := s.do(client.Request{Method: http.MethodGet, Path: o.path})
			if err == nil {
				err = now.UnmarshalJSON(body)
			} else if !apierrors.IsNotFound(err) {
				return fmt.Errorf("wait for the end of %s: %w", o.name, err)
			}
			if err != nil || string(now.GetUID()) != uid {
				delete(going, o)
				continue
			}
			left = append(left, o.name)
		}
		if len(going) == 0 {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("still being deleted: %s; look at their finalizers with `mini-k8s get ... -o yaml`, or at their node", strings.Join(left, ", "))
		}
	}
}
