package cli

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"workshop/mini-k8s/client"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func createPod(t *testing.T, b *bench, name, namespace, node string) *corev1.Pod {
	t.Helper()
	pod, err := client.Of[*corev1.Pod](b.client).Create(context.Background(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "hello:v1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

var ages = regexp.MustCompile(`\b\d+s\b`)

func TestGetPrintsTablesAsKubectlDoes(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "db", "default", "")
	createPod(t, b, "a-long-name", "default", "node-1")
	createPod(t, b, "other", "kube-system", "")
	b.apply(web)
	for _, row := range []struct{ name, line, want string }{
		{"a kind", "get pods", `
NAME          READY   STATUS    RESTARTS   AGE
a-long-name   0/1     Pending   0          AGE
db            0/1     Pending   0          AGE
`},
		{"wide", "get po db -o wide", `
NAME   READY   STATUS    RESTARTS   AGE   IP       NODE     NOMINATED NODE   READINESS GATES
db     0/1     Pending   0          AGE    <none>   <none>   <none>           <none>
`},
		{"all namespaces", "get pods -A", `
NAMESPACE     NAME          READY   STATUS    RESTARTS   AGE
default       a-long-name   0/1     Pending   0          AGE
default       db            0/1     Pending   0          AGE
kube-system   other         0/1     Pending   0          AGE
`},
		{"labels", "get pods -l app=db", `
NAME   READY   STATUS    RESTARTS   AGE
db     0/1     Pending   0          AGE
`},
		{"several kinds", "get deploy,pods -n default", `
NAME   READY   UP-TO-DATE   AVAILABLE   AGE
web    0/2     0            0           AGE

NAME          READY   STATUS    RESTARTS   AGE
a-long-name   0/1     Pending   0          AGE
db            0/1     Pending   0          AGE
`},
		{"all", "get all -l app=web", `
NAME   READY   UP-TO-DATE   AVAILABLE   AGE
web    0/2     0            0           AGE
`},
		{"kinds with names", "get pod/db pod/a-long-name deploy/web", `
NAME          READY   STATUS    RESTARTS   AGE
db            0/1     Pending   0          AGE
a-long-name   0/1     Pending   0          AGE

NAME   READY   UP-TO-DATE   AVAILABLE   AGE
web    0/2     0            0           AGE
`},
		{"names", "get deploy,pods -o name", "\ndeployment.apps/web\npod/a-long-name\npod/db\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := ages.ReplaceAllString(b.ok(row.line), "AGE"); got != row.want[1:] {
				t.Errorf("got\n%swant\n%s", got, row.want[1:])
			}
		})
	}
}

func TestGetSaysWhenThereIsNothing(t *testing.T) {
	b := newBench(t, nil)
	for line, want := range map[string]string{
		"get pods":             `"default"`,
		"get pods,svc -n kube": `"kube"`,
		"get nodes":            "No resources found",
	} {
		if out, errOut, err := b.run(line); err != nil || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%s: %q, %q, %v", line, out, errOut, err)
		}
	}
}

func TestGetRefusesWhatItCannotShow(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "db", "default", "")
	b.fails("get pods db gone", `pods "gone" not found`)
	b.fails("get pods gone -o yaml", `pods "gone" not found`)
	b.fails("get pods db -A", "leave out -A")
	b.fails("get pods db -l app=db", "leave out")
	b.fails("get pods -o wise", "wise", "yaml")
	b.fails("get pods,svc -w", "at a time")
	b.fails("get", "pods/po")
	b.fails("get pods -l a==b==c", "labelSelector")
}

func TestGetPrintsWholeObjects(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "db", "default", "")
	var one corev1.Pod
	if out := b.ok("get pod db -o yaml"); yaml.UnmarshalStrict([]byte(out), &one) != nil || one.Name != "db" || one.Kind != "Pod" || strings.Contains(out, "managedFields") {
		t.Error(out)
	}
	createPod(t, b, "other", "kube-system", "")
	if err := json.Unmarshal([]byte(b.ok("get pods -o json")), &one); err != nil || one.Kind != "Pod" {
		t.Error(one, err)
	}
	if out := b.ok("get pods -A -o yaml"); strings.Count(out, "---\napiVersion: v1\nkind: Pod\n") != 2 {
		t.Error(out)
	}
}

func TestGetWatchGoesOnUntilTheUserEndsIt(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "first", "default", "")
	out, stop := b.follow("get pods -w")
	until(t, "the list", func() bool { return strings.Contains(out.String(), "first") })
	createPod(t, b, "another-one", "default", "")
	until(t, "the new pod", func() bool { return strings.Contains(out.String(), "another-one") })
	if err := stop(); err != nil {
		t.Error("Ctrl-C is no error:", err)
	}
	if got := strings.Count(out.String(), "NAME"); got != 1 {
		t.Errorf("%d headers:\n%s", got, out)
	}

	out, stop = b.follow("get pod first -w")
	until(t, "the object", func() bool { return strings.Contains(out.String(), "first") })
	createPod(t, b, "third", "default", "")
	b.ok("delete pod first")
	until(t, "its end", func() bool { return strings.Count(out.String(), "first") == 2 })
	if err := stop(); err != nil || strings.Contains(out.String(), "third") {
		t.Error(err, out)
	}
}

func TestTableCellsCannotCommandTheTerminal(t *testing.T) {
	var out strings.Builder
	printColumns(&out, [][]string{{"A", "B"}, {"\x1b[2Jé", "two\nlines"}})
	if want := "A       B\n [2Jé   two lines\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
