package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
)

func logsCommand() *cli.Command {
	return onCluster("logs", "Show what a container wrote", "POD",
		`mini-k8s logs web-1 -f --tail 20       the last 20 lines, and what follows, until Ctrl-C
mini-k8s logs web-1 -c app --previous  before it crashed`,
		(*session).logs, text("container", "c", "which `CONTAINER` of the pod"),
		yes("follow", "f", "go on to show what it writes"), yes("previous", "p", "of the container's life before this one"),
		&cli.IntFlag{Name: "tail", Value: -1, Usage: "only the last `LINES`"})
}

func (s *session) logs(args []string) error {
	if len(args) != 1 || strings.Contains(args[0], "/") {
		return errors.New("say of which pod: mini-k8s logs POD; `mini-k8s get pods` lists them")
	}
	query := url.Values{}
	for _, flag := range []string{"container", "follow", "previous"} {
		if s.flags.IsSet(flag) {
			query.Set(flag, fmt.Sprint(s.flags.Value(flag)))
		}
	}
	if lines := s.flags.Int("tail"); lines >= 0 {
		query.Set("tailLines", strconv.Itoa(lines))
	}
	path := api.KindOf[*corev1.Pod]().Path(s.namespace, args[0], "log")
	response, err := s.client.Stream(s.ctx, client.Request{Method: http.MethodGet, Path: path, Query: query})
	if err == nil {
		defer response.Body.Close()
		_, err = io.Copy(s.out, response.Body)
	}
	if s.ctx.Err() != nil {
		return nil // the user has seen enough
	}
	return s.explain(err)
}
