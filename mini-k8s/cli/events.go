package cli

import (
	"fmt"
	"slices"
	"strconv"

	"workshop/mini-k8s/api"

	"github.com/urfave/cli/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "Tell what happened, the last at the end",
		UsageText: "mini-k8s events [--for KIND/NAME]",
		Description: "mini-k8s events -A -w                 all that happens in the cluster, until Ctrl-C\n" +
			"mini-k8s events --for deployment/web",
		Flags: clusterFlags(allNamespacesFlag(),
			&cli.StringFlag{Name: "for", Usage: "only what happened to this `KIND/NAME`"},
			&cli.StringFlag{Name: "field-selector", Usage: "only events with these `FIELDS`: type=Warning"},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "go on to show what happens"}),
		Action: onCluster((*session).events),
	}
}

// events is `get events` under a name that people look for, with a selector that they need not know.
func (s *session) events([]string) error {
	if about := s.flags.String("for"); about != "" {
		targets, err := parseTargets([]string{about})
		if err != nil {
			return err
		}
		if len(targets[0].names) == 0 {
			return fmt.Errorf("--for %s: write KIND/NAME", about)
		}
		fields := "involvedObject.kind=" + targets[0].kind.Kind + ",involvedObject.name=" + targets[0].names[0]
		if more := s.flags.String("field-selector"); more != "" {
			fields += "," + more
		}
		if err := s.flags.Set("field-selector", fields); err != nil {
			return err
		}
	}
	t := target{kind: api.KindOf[*corev1.Event]()}
	if s.flags.Bool("watch") {
		return s.getAndWatch(t)
	}
	return s.getTables([]target{t})
}

// byRevision sorts rows by when their objects were last written. For events that is when they last happened, and unlike
// their timestamps it does not depend on the clocks of the machines that wrote them.
func byRevision(rows []metav1.TableRow) {
	revision := func(row metav1.TableRow) int64 {
		var object unstructured.Unstructured
		_ = object.UnmarshalJSON(row.Object.Raw)
		n, _ := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
		return n
	}
	slices.SortStableFunc(rows, func(a, b metav1.TableRow) int { return int(revision(a) - revision(b)) })
}
