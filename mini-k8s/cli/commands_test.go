package cli

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDeleteByNameAndSelector(t *testing.T) {
	b := newBench(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		createPod(t, b, name, "default", "")
	}
	createPod(t, b, "other", "kube-system", "")
	b.apply(web)
	for _, row := range []struct{ line, want string }{
		{"delete pod a", "pod \"a\" deleted\n"},
		{"delete pod/b deploy/web", "pod \"b\" deleted\ndeployment.apps \"web\" deleted\n"},
		{"delete pods -l app=c", "pod \"c\" deleted\n"},
		{"delete pods -l app=c", ""},
		{"get pods -A -o name", "pod/other\n"},
	} {
		if got := b.ok(row.line); got != row.want {
			t.Errorf("%s: got %q, want %q", row.line, got, row.want)
		}
	}
}

func TestDeleteRefusesWhatIsNotSaidClearly(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "a", "default", "")
	b.fails("delete pods", "which pods", "-l LABELS")
	b.fails("delete pod/", "which pods")
	b.fails("delete pods a -l app=a", "leave out")
	b.fails("delete pods a -f x.yaml", "-f alone")
	b.fails("delete pods a gone", "not found")
	b.ok("get pod a")
}

func TestDescribeTellsAllAboutAPodAndItsEvents(t *testing.T) {
	b := newBench(t, nil)
	p := createPod(t, b, "db", "default", "node-1")
	now := metav1.Now()
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, PodIPs: []corev1.PodIP{{IP: "10.244.1.2"}}, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", LastTransitionTime: now}}}
	if _, err := client.Of[*corev1.Pod](b.client).UpdateStatus(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	newEvent(t, b, p, "Pulled", "image is here", 3)
	out := b.ok("describe pod db")
	for _, want := range []string{"# pod/db\n", "metadata:\n", "  labels:\n    app: db\n", "spec:\n  containers:\n  - image: hello:v1\n",
		"  nodeName: node-1\n", "status:\n  conditions:\n", "reason: ContainersNotReady\n    status: \"False\"", "podIPs:\n  - ip: 10.244.1.2\n",
		"Events: 1\nLAST SEEN", "Normal   Pulled   pod/db   image is here"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "managedFields") || strings.Contains(out, "map[") {
		t.Error(out)
	}
	createPod(t, b, "other", "default", "")
	if out := b.ok("describe pods"); !strings.Contains(out, "\n\n# pod/other\n") || !strings.Contains(out, "Events: 0\n") {
		t.Error(out)
	}
	b.fails("describe pod gone", "not found")
	b.ok("describe ns default")
}

func TestDescribeNeverShowsWhatASecretHolds(t *testing.T) {
	b := newBench(t, nil)
	b.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {note: kept}}\nstringData: {password: hunter2hunter2}\ndata: {token: c2VjcmV0}\n")
	out := b.ok("describe secret s")
	if !strings.Contains(out, "password: (hidden)") || !strings.Contains(out, "token: (hidden)") || !strings.Contains(out, "note: kept") || !strings.Contains(out, "type: Opaque") {
		t.Error(out)
	}
	for _, secret := range []string{"hunter2", "aHVudGVyMmh1bnRlcjI=", "c2VjcmV0", "secret\n", "last-applied"} {
		if strings.Contains(out, secret) {
			t.Errorf("describe shows %q:\n%s", secret, out)
		}
	}
	b.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {file: \"one\\ntwo\\n\"}\n")
	if out := b.ok("describe cm c"); !strings.Contains(out, "data:\n  file: |\n    one\n    two\n") {
		t.Error(out)
	}
}

func TestScale(t *testing.T) {
	b := newBench(t, nil)
	b.apply(web)
	for line, want := range map[string]int32{"scale deployment/web --replicas 5": 5, "scale deploy web --replicas=0": 0} {
		if out := b.ok(line); out != "deployment.apps/web scaled\n" {
			t.Error(out)
		}
		if got := *deployment(t, b).Spec.Replicas; got != want {
			t.Errorf("%s: %d replicas", line, got)
		}
	}
	b.fails("scale deploy/web", "--replicas")
	b.fails("scale deploy/web --replicas -1", "--replicas")
	b.fails("scale pod/web --replicas 1", "cannot be scaled")
	b.fails("scale deploy --replicas 1", "write deployment/NAME")
	b.fails("scale deploy/gone --replicas 1", "not found")
}

// fakeLogs answers for the kubelets: with the pod and the query, and while following until the client leaves.
func fakeLogs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/log") {
			next.ServeHTTP(w, r)
			return
		}
		fmt.Fprintln(w, r.URL.Path, r.URL.RawQuery)
		if r.URL.Query().Get("follow") != "" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
}

func TestLogs(t *testing.T) {
	b := newBench(t, fakeLogs)
	for line, want := range map[string]string{
		"logs one":                            "/namespaces/default/pods/one/log \n",
		"logs one -n other":                   "/namespaces/other/pods/one/log \n",
		"logs one --tail 0":                   "/pods/one/log tailLines=0\n",
		"logs one -c app --tail 5 --previous": "/pods/one/log container=app&previous=true&tailLines=5\n",
	} {
		if out := b.ok(line); !strings.HasSuffix(out, want) {
			t.Errorf("%s: %q", line, out)
		}
	}
	out, stop := b.follow("logs one -f")
	until(t, "the log", func() bool { return strings.Contains(out.String(), "follow=true") })
	if err := stop(); err != nil {
		t.Error("Ctrl-C is no error:", err)
	}
	b.fails("logs", "mini-k8s logs POD")
	b.fails("logs deploy/web", "mini-k8s get pods")
}

func newEvent(t *testing.T, b *bench, about *corev1.Pod, reason, message string, count int32) {
	t.Helper()
	at := metav1.NewTime(time.Now().Add(-time.Duration(count) * time.Minute))
	if _, err := client.Of[*corev1.Event](b.client).Create(context.Background(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: about.Namespace, Name: about.Name + "." + strings.ToLower(reason)},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Name: about.Name, Namespace: about.Namespace, UID: about.UID},
		Reason:         reason, Message: message, Type: "Normal", Count: count, FirstTimestamp: at, LastTimestamp: at,
		Source: corev1.EventSource{Component: "kubelet"},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEventsComeInTheOrderInWhichTheyHappened(t *testing.T) {
	b := newBench(t, nil)
	p, other := createPod(t, b, "zz", "default", ""), createPod(t, b, "other", "kube-system", "")
	newEvent(t, b, p, "First", "first", 9)
	newEvent(t, b, other, "Middle", "middle", 5)
	newEvent(t, b, createPod(t, b, "aa", "default", ""), "Last", "last\nline", 4)
	for _, row := range []struct{ line, want string }{
		{"events", `
LAST SEEN   TYPE     REASON   OBJECT   MESSAGE
9m          Normal   First    pod/zz   first
4m          Normal   Last     pod/aa   last line
`},
		{"events -A", `
NAMESPACE     LAST SEEN   TYPE     REASON   OBJECT      MESSAGE
default       9m          Normal   First    pod/zz      first
kube-system   5m          Normal   Middle   pod/other   middle
default       4m          Normal   Last     pod/aa      last line
`},
		{"events --for pod/zz", `
LAST SEEN   TYPE     REASON   OBJECT   MESSAGE
9m          Normal   First    pod/zz   first
`},
	} {
		if got := regexp.MustCompile(`m\ds`).ReplaceAllString(b.ok(row.line), "m  "); got != row.want[1:] {
			t.Errorf("%s: got\n%swant\n%s", row.line, got, row.want[1:])
		}
	}
	if out, errOut, _ := b.run("events --for pod/nothing"); out != "" || !strings.Contains(errOut, "No resources found") {
		t.Errorf("%q %q", out, errOut)
	}
	out, stop := b.follow("events -w --for pod/zz")
	until(t, "what was", func() bool { return strings.Contains(out.String(), "first") })
	newEvent(t, b, createPod(t, b, "third", "default", ""), "Other", "unwanted", 0)
	newEvent(t, b, p, "News", "news", 0)
	until(t, "what is new", func() bool { return strings.Contains(out.String(), "news") })
	if err := stop(); err != nil || strings.Contains(out.String(), "unwanted") {
		t.Error(err, out)
	}
}
