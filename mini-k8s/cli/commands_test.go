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

func TestDeleteByNameSelectorAndAll(t *testing.T) {
	b := newBench(t, nil)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		createPod(t, b, name, "default", "")
	}
	createPod(t, b, "other", "kube-system", "")
	b.apply(web)
	for _, row := range []struct{ line, want string }{
		{"delete pod a", "pod \"a\" deleted\n"},
		{"delete pod/b deploy/web", "pod \"b\" deleted\ndeployment.apps \"web\" deleted\n"},
		{"delete pods -l app=c", "pod \"c\" deleted\n"},
		{"delete pod d --force", "pod \"d\" force deleted\n"},
		{"delete pods --all", "pod \"e\" deleted\n"},
		{"delete pods --all", ""},
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
	b.fails("delete pods", "which pods", "--all")
	b.fails("delete pods a --all", "not both")
	b.fails("delete pods a -l app=a", "not both")
	b.fails("delete pods a -f x.yaml", "-f alone")
	b.fails("delete pods a --force --grace-period 5", "--grace-period")
	b.fails("delete pods gone", "not found")
	b.ok("get pod a")
}

func TestDeleteWaitsUntilThePodIsGone(t *testing.T) {
	b := newBench(t, nil)
	p := createPod(t, b, "slow", "default", "node-1") // a kubelet would have to stop it; there is none
	b.fails("delete pod slow --timeout 50ms", `pod "slow"`, "still being deleted")
	if out := b.ok("delete pod slow --wait=false --grace-period=0"); out != "pod \"slow\" deleted\n" {
		t.Error(out)
	}
	got, err := client.Of[*corev1.Pod](b.client).Get(context.Background(), "default", "slow")
	if err != nil || *got.DeletionGracePeriodSeconds != 1 {
		t.Error("--grace-period=0 without --force leaves a second:", got, err)
	}
	done := make(chan error, 1)
	go func() { _, _, err := b.run("delete pod slow"); done <- err }()
	zero := int64(0)
	if _, err := client.Of[*corev1.Pod](b.client).Delete(context.Background(), "default", "slow", metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.UID}}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil && !strings.Contains(err.Error(), "not found") {
		t.Error(err)
	}
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
	for _, want := range []string{"Name: db\nNamespace: default\nKind: Pod (v1)\nLabels:\n  app: db\nCreated: ", "Spec:\n  containers:\n  - image: hello:v1\n",
		"  nodeName: node-1\n", "Status:\n  conditions:\n  - lastTransitionTime: ", " ago)\n    reason: ContainersNotReady\n    status: \"False\"", "podIPs:\n  - ip: 10.244.1.2\n",
		"Events:\n  Type    Reason  Age", "Normal  Pulled  ", "(x3 over ", "kubelet  image is here"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "managedFields") || strings.Contains(out, "null") || strings.Contains(out, "map[") {
		t.Error(out)
	}
	createPod(t, b, "other", "default", "")
	if out := b.ok("describe pods"); !strings.Contains(out, "\n\n\nName: other\n") || !strings.Contains(out, "Events: <none>") {
		t.Error(out)
	}
	b.fails("describe pod gone", "not found")
	b.ok("describe ns default")
}

func TestDescribeNeverShowsWhatASecretHolds(t *testing.T) {
	b := newBench(t, nil)
	b.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {note: kept}}\nstringData: {password: hunter2hunter2}\ndata: {token: c2VjcmV0}\n")
	out := b.ok("describe secret s")
	if !strings.Contains(out, "password: 14 bytes") || !strings.Contains(out, "token: 6 bytes") || !strings.Contains(out, "note: kept") || !strings.Contains(out, "Type: Opaque") {
		t.Error(out)
	}
	for _, secret := range []string{"hunter2", "aHVudGVyMmh1bnRlcjI=", "c2VjcmV0", "secret\n", "last-applied"} {
		if strings.Contains(out, secret) {
			t.Errorf("describe shows %q:\n%s", secret, out)
		}
	}
	b.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {file: \"one\\ntwo\\n\"}\n")
	if out := b.ok("describe cm c"); !strings.Contains(out, "Data:\n  file: |\n    one\n    two\n") {
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
	b.fails("scale deploy --replicas 1", "which deployment")
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
	b.apply(web)
	b.fails("logs deploy/web", "no pods", "describe deploy/web")
	for _, name := range []string{"one", "two"} {
		b.apply(strings.ReplaceAll(pod, "NAME", name))
	}
	ready, err := client.Of[*corev1.Pod](b.client).Get(context.Background(), "default", "two")
	if err != nil {
		t.Fatal(err)
	}
	ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if _, err := client.Of[*corev1.Pod](b.client).UpdateStatus(context.Background(), ready); err != nil {
		t.Fatal(err)
	}
	b.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n")
	for line, want := range map[string]string{
		"logs one":     "/pods/one/log \n",
		"logs pod/one": "/pods/one/log \n",
		"logs one -c app --tail 5 --since 90s --timestamps --previous": "/pods/one/log container=app&previous=true&sinceSeconds=90&tailLines=5&timestamps=true\n",
		"logs one app -n other": "/pods/one/log container=app\n",
		"logs deployment/web":   "/pods/two/log \n",
		"logs svc/web":          "/pods/two/log \n",
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
	b.fails("logs cm/c", "not found")
	b.fails("logs ns/default", "selects no pods")
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
4m          Normal   Last     pod/aa   last...
`},
		{"events -A --for pod/other", `
NAMESPACE     LAST SEEN   TYPE     REASON   OBJECT      MESSAGE
kube-system   5m          Normal   Middle   pod/other   middle
`},
		{"events --for pod/zz --field-selector type=Normal", `
LAST SEEN   TYPE     REASON   OBJECT   MESSAGE
9m          Normal   First    pod/zz   first
`},
	} {
		if got := regexp.MustCompile(`m\ds`).ReplaceAllString(b.ok(row.line), "m  "); got != row.want[1:] {
			t.Errorf("%s: got\n%swant\n%s", row.line, got, row.want[1:])
		}
	}
	if out, errOut, _ := b.run("events --for pod/nothing"); out != "" || errOut != "No resources found in default namespace.\n" {
		t.Errorf("%q %q", out, errOut)
	}
	b.fails("events --for pod", "KIND/NAME")
	out, stop := b.follow("events -w --for pod/zz")
	until(t, "what was", func() bool { return strings.Contains(out.String(), "first") })
	newEvent(t, b, createPod(t, b, "third", "default", ""), "Other", "unwanted", 0)
	newEvent(t, b, p, "News", "news", 0)
	until(t, "what is new", func() bool { return strings.Contains(out.String(), "news") })
	if err := stop(); err != nil || strings.Contains(out.String(), "unwanted") {
		t.Error(err, out)
	}
}
