package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/api"

	corev1 "k8s.io/api/core/v1"
)

// noon is when the life that fakeHistory tells begins.
var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.Local)

// fakeHistory answers for the server with a life of one change a minute.
func fakeHistory(next http.Handler) http.Handler {
	changes := func(d ...api.Difference) api.HistoryEntry {
		return api.HistoryEntry{Verb: "updated", Changes: d}
	}
	entries := []api.HistoryEntry{
		{Verb: "known"},
		{Verb: "created", Who: "replicaset-controller", Kind: "Pod", Name: "web-6cdb666677-8hcjv"},
		changes(api.Difference{Path: "spec.replicas", From: 2, To: 3}, api.Difference{Path: "spec.template.spec.containers[web].image", From: "hello:v1", To: "hello:v2"}),
		changes(api.Difference{Path: "metadata.labels.app", To: strings.Repeat("x", 70)}, api.Difference{Path: "spec.args", From: []string{"a"}}),
		changes(api.Difference{Path: "status.conditions[Ready].status", From: "False", To: "True"}, api.Difference{Path: "status.conditions[Ready].reason"}),
		changes(api.Difference{Path: "data.text", To: "two\nlines"}),
		changes(api.Difference{Path: "status.readyReplicas", From: 0, To: 1}, api.Difference{Path: "spec.paused", To: true}),
		changes(api.Difference{Path: "metadata.deletionTimestamp", To: "2026-11-25T12:07:30Z"}),
		{Verb: "updated", Event: &corev1.Event{Reason: "Scheduled", Message: "to node-1", Count: 1}},
		{Verb: "updated", Event: &corev1.Event{Reason: "BackOff", Message: "again", Count: 7}},
		{Verb: "deleted", Who: "kubectl"},
	}
	entries[6].Columns = []api.Difference{{Path: "Up-to-date", From: "0", To: "1"}}
	entries[7].Columns = []api.Difference{{Path: "Status", From: "Running", To: "Terminating"}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/history") {
			next.ServeHTTP(w, r)
			return
		}
		for i, e := range entries {
			e.Revision, e.Time = int64(i+9), noon.Add(time.Duration(i)*time.Minute)
			if e.Kind == "" {
				e.Kind, e.Name = "Deployment", "web"
			}
			text, _ := json.Marshal(e)
			fmt.Fprintf(w, `{"type":"ADDED","object":%s}`, text)
		}
	})
}

func TestTimelineTellsAStory(t *testing.T) {
	b := newBench(t, fakeHistory)
	want := `
TIME       REVISION   OBJECT                     WHO                     WHAT
12:00:00   9          deployment/web                                     was there already, created 2026-11-25 12:00:00
12:01:00   10         pod/web-6cdb666677-8hcjv   replicaset-controller   created
12:02:00   11         deployment/web                                     spec.replicas 2 -> 3; containers[web].image hello:v1 -> hello:v2
12:03:00   12         deployment/web                                     metadata.labels.app none -> ` + strings.Repeat("x", 60) + `...; spec.args ["a"] -> none
12:04:00   13         deployment/web                                     conditions[Ready].status False -> True; conditions[Ready].reason none -> none
12:05:00   14         deployment/web                                     data.text none -> two lines
12:06:00   15         deployment/web                                     spec.paused none -> true; UP-TO-DATE 0 -> 1
12:07:00   16         deployment/web                                     metadata.deletionTimestamp none -> 2026-11-25T12:07:30Z; STATUS Running -> Terminating
12:08:00   17         deployment/web                                     Scheduled: to node-1
12:09:00   18         deployment/web                                     BackOff: again (7 times)
12:10:00   19         deployment/web             kubectl                 deleted
`
	if got := b.ok("timeline deployment/web"); got != want[1:] {
		t.Errorf("got\n%swant%s", got, want)
	}
	since := fmt.Sprint(time.Since(noon.Add(9*time.Minute + 30*time.Second))) // the last change alone
	if got := b.ok("timeline deploy web --since " + since); strings.Count(got, "\n") != 2 || !strings.Contains(got, "deleted") {
		t.Errorf("--since: %s", got)
	}
	lines := strings.Split(strings.TrimSpace(b.ok("timeline deploy web -o json")), "\n")
	var last api.HistoryEntry
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 11 || last.Verb != "deleted" || last.Revision != 19 {
		t.Errorf("-o json: %v %q", err, lines)
	}
}

func TestTimelineAndListsOfTheRealServer(t *testing.T) {
	b := newBench(t, nil)
	b.fails("timeline deploy/web", `deployments.apps "web" not found`)
	b.fails("timeline", "of which kind")
	b.fails("timeline pods", "mini-k8s timeline deployment/web")
	b.fails("timeline pod/a -o yaml", "-o json")
	b.fails("timeline pod/a pod/b", "mini-k8s timeline deployment/web")
	b.apply(web)
	before := deployment(t, b).ResourceVersion
	b.ok("scale deploy/web --replicas 5")
	out, stop := b.follow("timeline deploy/web -w")
	until(t, "the past", func() bool { return strings.Contains(out.String(), "spec.replicas 2 -> 5") })
	b.ok("delete deploy/web")
	until(t, "the end", func() bool { return strings.Contains(out.String(), "deleted") })
	if err := stop(); err != nil {
		t.Error("Ctrl-C is no error:", err)
	}
	want := regexp.MustCompile(`^TIME +REVISION +OBJECT +WHO +WHAT
\d\d:\d\d:\d\d +` + before + ` +deployment/web +mini-k8s +created
\d\d:\d\d:\d\d +\d+ +deployment/web +mini-k8s +spec.replicas 2 -> 5; READY 0/2 -> 0/5
\d\d:\d\d:\d\d +\d+ +deployment/web +mini-k8s +deleted
$`)
	if got := out.String(); !want.MatchString(got) {
		t.Errorf("got\n%s", got)
	}
	if got := ages.ReplaceAllString(b.ok("get deploy --revision "+before), "AGE"); !strings.Contains(got, "web    0/2     0            0           AGE") {
		t.Errorf("as of revision %s: %s", before, got)
	}
	if got := b.ok("get deploy -o yaml --revision " + before); !strings.Contains(got, "replicas: 2\n") {
		t.Errorf("as of revision %s: %s", before, got)
	}
	b.fails("get deploy web --revision "+before, "leave out -A, -l and --revision")
	b.fails("get deploy -w --revision "+before, "forbidden for watch")
	b.fails("get deploy --revision 100000", "Too large resource version")
	b.fails("get deploy --revision x", "not a revision")
}
