package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "Show what a container wrote",
		UsageText: "mini-k8s logs POD [CONTAINER] | KIND/NAME",
		Description: "mini-k8s logs web-1 -f --tail 20      the last 20 lines, and what follows, until Ctrl-C\n" +
			"mini-k8s logs deployment/web          of one of its pods\n" +
			"mini-k8s logs web-1 -c app --previous  before it crashed",
		Flags: clusterFlags(
			&cli.StringFlag{Name: "container", Aliases: []string{"c"}, Usage: "which `CONTAINER` of the pod"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on to show what it writes"},
			&cli.Int64Flag{Name: "tail", Value: -1, Usage: "only the last `LINES`"},
			&cli.DurationFlag{Name: "since", Usage: "only of the last `DURATION`: 5m"},
			&cli.BoolFlag{Name: "timestamps", Usage: "when each line was written"},
			&cli.BoolFlag{Name: "previous", Aliases: []string{"p"}, Usage: "of the container's life before this one"}),
		Action: onCluster((*session).logs),
	}
}

func (s *session) logs(args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("say of which pod: mini-k8s logs POD [CONTAINER], or mini-k8s logs deployment/NAME")
	}
	pod, err := s.podOf(args[0])
	if err != nil {
		return err
	}
	query := url.Values{}
	if container := cmp.Or(s.flags.String("container"), strings.Join(args[1:], "")); container != "" {
		query.Set("container", container)
	}
	for _, name := range []string{"follow", "timestamps", "previous"} {
		if s.flags.Bool(name) {
			query.Set(name, "true")
		}
	}
	if lines := s.flags.Int64("tail"); lines >= 0 {
		query.Set("tailLines", strconv.FormatInt(lines, 10))
	}
	if since := s.flags.Duration("since"); since > 0 {
		query.Set("sinceSeconds", strconv.Itoa(max(1, int(since.Seconds()))))
	}
	response, err := s.client.Stream(s.ctx, client.Request{Method: http.MethodGet, Path: api.KindOf[*corev1.Pod]().Path(s.namespace, pod, "log"), Query: query})
	if err == nil {
		defer response.Body.Close()
		_, err = io.Copy(s.out, response.Body)
	}
	if s.ctx.Err() != nil {
		return nil // the user has seen enough
	}
	return s.explain(err)
}

// podOf returns the pod that is meant: itself, or one of those that a workload or a service selects.
func (s *session) podOf(name string) (string, error) {
	if !strings.Contains(name, "/") {
		return name, nil
	}
	targets, err := parseTargets([]string{name})
	if err != nil || targets[0].kind == api.KindOf[*corev1.Pod]() {
		return strings.TrimPrefix(name[strings.Index(name, "/"):], "/"), err
	}
	objects, err := s.objects(targets[0])
	if err != nil {
		return "", err
	}
	selector := podSelector(objects[0])
	if selector == "" {
		return "", fmt.Errorf("%s selects no pods: name a pod", name)
	}
	list, err := client.Of[*corev1.Pod](s.client).List(s.ctx, client.Selection{Namespace: s.namespace, Labels: selector})
	switch {
	case err != nil:
		return "", s.explain(err)
	case len(list.Items) == 0:
		return "", fmt.Errorf("%s has no pods (yet): `mini-k8s describe %s` tells why", name, name)
	}
	pod := slices.MinFunc(list.Items, readyFirst)
	if len(list.Items) > 1 {
		fmt.Fprintf(s.errOut, "Found %d pods, using pod/%s\n", len(list.Items), pod.Name)
	}
	return pod.Name, nil
}

// readyFirst puts first the pods that have something to tell.
func readyFirst(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		switch {
		case api.PodReady(p):
			return 0
		case p.Spec.NodeName != "":
			return 1
		}
		return 2
	}
	return cmp.Or(rank(a)-rank(b), strings.Compare(a.Name, b.Name))
}

// podSelector returns the labels of the pods that a workload or a Service selects.
func podSelector(o unstructured.Unstructured) string {
	path := []string{"spec", "selector", "matchLabels"}
	if o.GetKind() == "Service" {
		path = path[:2]
	}
	selector, _, _ := unstructured.NestedStringMap(o.Object, path...)
	return labels.Set(selector).String()
}
