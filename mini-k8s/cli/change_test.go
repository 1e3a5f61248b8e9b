package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"workshop/mini-k8s/client"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

func deployment(t *testing.T, b *bench) *appsv1.Deployment {
	t.Helper()
	d, err := client.Of[*appsv1.Deployment](b.client).Get(context.Background(), "default", "web")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestApplyCreatesConfiguresAndLeavesAlone(t *testing.T) {
	b := newBench(t, nil)
	for _, row := range []struct{ manifest, want string }{
		{web, "deployment.apps/web created\n"},
		{web, "deployment.apps/web unchanged\n"},
		{strings.Replace(web, "hello:v1", "hello:v2", 1), "deployment.apps/web configured\n"},
	} {
		if got := b.apply(row.manifest); got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
	if got := deployment(t, b).Spec.Template.Spec.Containers[0].Image; got != "hello:v2" {
		t.Error(got)
	}
}

func TestApplyRemovesWhatLeftTheManifestAndKeepsWhatOthersSet(t *testing.T) {
	b := newBench(t, nil)
	b.apply(strings.Replace(web, "{app: web}}\nspec:\n  replicas: 2", "{app: web, tier: front}}\nspec:\n  replicas: 2\n  minReadySeconds: 5", 1))
	ctx, deployments := context.Background(), client.Of[*appsv1.Deployment](b.client)
	patch := map[string]any{"metadata": map[string]any{"labels": map[string]string{"by": "another"}}, "spec": map[string]any{"paused": true}}
	if _, err := deployments.Patch(ctx, "default", "web", "", types.MergePatchType, patch); err != nil {
		t.Fatal(err)
	}
	b.apply(strings.Replace(web, "  replicas: 2\n", "", 1))
	d := deployment(t, b)
	if d.Labels["tier"] != "" || d.Spec.MinReadySeconds != 0 || *d.Spec.Replicas != 1 {
		t.Errorf("what left the manifest is still there: %v, %+v", d.Labels, d.Spec)
	}
	if d.Labels["by"] != "another" || !d.Spec.Paused {
		t.Errorf("what others set is gone: %v, %+v", d.Labels, d.Spec)
	}
}

func TestApplyOfAnObjectThatWasCreatedOtherwise(t *testing.T) {
	b := newBench(t, nil)
	createPod(t, b, "db", "default", "")
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: db, labels: {more: yes-please}}\nspec: {containers: [{name: app, image: hello:v2}]}\n"
	if got := b.apply(manifest); got != "pod/db configured\n" {
		t.Error(got)
	}
	got, err := client.Of[*corev1.Pod](b.client).Get(context.Background(), "default", "db")
	if err != nil || got.Labels["app"] != "db" || got.Labels["more"] == "" || got.Spec.Containers[0].Image != "hello:v2" {
		t.Error(got, err)
	}
}

func TestLastAppliedIsTheTextThatKubectlWrites(t *testing.T) {
	b := newBench(t, nil)
	b.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: <b>}\n")
	c, err := client.Of[*corev1.ConfigMap](b.client).Get(context.Background(), "default", "c")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","data":{"a":"\u003cb\u003e"},"kind":"ConfigMap","metadata":{"annotations":{},"name":"c","namespace":"default"}}` + "\n"
	if got := c.Annotations[corev1.LastAppliedConfigAnnotation]; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestKubectlAndApplyCanBeMixed drives the real kubectl, if there is one.
func TestKubectlAndApplyCanBeMixed(t *testing.T) {
	path, err := exec.LookPath("kubectl")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("no kubectl on the PATH")
	}
	b := newBench(t, nil)
	kubectl := func(args ...string) string {
		t.Helper()
		command := exec.Command(path, args...)
		command.Env = append(os.Environ(), "KUBECONFIG="+b.kubeconfig, "HOME="+t.TempDir())
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	file := b.file("web.yaml", web)
	if got := kubectl("apply", "-f", file, "--validate=false"); got != "deployment.apps/web created\n" {
		t.Fatal(got)
	}
	first := deployment(t, b).Annotations[corev1.LastAppliedConfigAnnotation]
	if got := b.ok("apply -f " + file); got != "deployment.apps/web unchanged\n" {
		t.Error("ours after kubectl's:", got)
	}
	b.ok("delete -f " + file)
	b.ok("apply -f " + file)
	if ours := deployment(t, b).Annotations[corev1.LastAppliedConfigAnnotation]; ours != first {
		t.Errorf("ours    %q\nkubectl %q", ours, first)
	}
	if got := kubectl("apply", "-f", file, "--validate=false"); got != "deployment.apps/web unchanged\n" {
		t.Error("kubectl's after ours:", got)
	}
	if ours, theirs := ages.ReplaceAllString(b.ok("get deploy -A -o wide"), "AGE"), ages.ReplaceAllString(kubectl("get", "deploy", "-A", "-o", "wide"), "AGE"); ours != theirs {
		t.Errorf("ours\n%skubectl\n%s", ours, theirs)
	}
}

func TestApplySaysWhatTheServerRefuses(t *testing.T) {
	b := newBench(t, nil)
	b.fails("apply -f "+b.file("p.yaml", strings.ReplaceAll(strings.ReplaceAll(pod, "NAME", "two"), `"hello:v1"`, `""`)), "apply pod/two: ", "image: Required")
}

func TestNothingIsSentWhenADocumentIsBad(t *testing.T) {
	b := newBench(t, nil)
	for bad, want := range map[string]string{
		"kind: Job\napiVersion: batch/v1\n": "the server has no kind \"Job\"; it has namespaces",
		"a: [\n":                            "document 3",
		"kind: Pod\napiVersion: v1\n":       "Pod without metadata.name",
		"- x\n":                             "not an object",
		"kind: Deployment\napiVersion: extensions/v1beta1\n": "write apiVersion: apps/v1",
		"metadata: {}\n": "not an object with apiVersion, kind and metadata",
		"42":             "not an object",
		strings.ReplaceAll(strings.ReplaceAll(pod, "NAME", "two"), "image:", "imagee:"): `pod/two: unknown field "spec.containers[0].imagee"`,
	} {
		file := b.file("bad.yaml", "---\n"+strings.ReplaceAll(pod, "NAME", "one")+"---\n# nothing\n---\n"+bad)
		b.fails("apply -f "+file, "bad.yaml, document ", want, "nothing was sent")
	}
	if _, err := client.Of[*corev1.Pod](b.client).Get(context.Background(), "default", "one"); !apierrors.IsNotFound(err) {
		t.Error("a document was sent:", err)
	}
	b.fails("apply", "-f FILE")
	b.fails("apply -f absent.yaml", "absent.yaml")
	b.fails("apply -f "+t.TempDir(), ".yaml")
	b.fails("apply -f "+b.file("empty.yaml", "# nothing\n"), "no objects")
}

func TestApplyReadsDirectoriesListsJSONAndStdin(t *testing.T) {
	b := newBench(t, nil)
	directory := t.TempDir()
	os.WriteFile(filepath.Join(directory, "b.yaml"), []byte(strings.ReplaceAll(pod, "NAME", "b")), 0o600)
	os.WriteFile(filepath.Join(directory, "a.json"), []byte(`{"apiVersion":"v1","kind":"List","items":[
		{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},
		{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a2","namespace":"kube-system"}}]}`), 0o600)
	os.WriteFile(filepath.Join(directory, "README.md"), []byte("not a manifest"), 0o600)
	if got := b.ok("apply -f " + directory); got != "configmap/a created\nconfigmap/a2 created\npod/b created\n" {
		t.Error(got)
	}
	if out, _, err := b.runWith(context.Background(), strings.ReplaceAll(pod, "NAME", "c"), nil, "apply -f -"); err != nil || out != "pod/c created\n" {
		t.Error(out, err)
	}
	b.fails("apply -n default -f "+directory, "a.json, document 1", "kube-system")
	if got := b.ok("delete -f " + directory); got != "configmap \"a\" deleted\nconfigmap \"a2\" deleted\npod \"b\" deleted\n" {
		t.Error(got)
	}
}

func TestWhatGetPrintsCanBeApplied(t *testing.T) {
	b := newBench(t, nil)
	b.apply(web + "---\n" + strings.ReplaceAll(pod, "NAME", "one"))
	for _, format := range []string{"yaml", "json"} {
		if got := b.apply(b.ok("get deploy,pods -o " + format)); strings.Count(got, "deployment.apps/web") != 1 || strings.Count(got, "pod/one") != 1 {
			t.Errorf("-o %s: %s", format, got)
		}
	}
}

func TestWarningsOfTheServerArePassedOn(t *testing.T) {
	b := newBench(t, nil)
	_, errOut, err := b.run("apply -f " + b.file("p.yaml", strings.Replace(strings.ReplaceAll(pod, "NAME", "p"), "spec: {", "spec: {hostPID: true, priorityClassName: high, ", 1)))
	if err != nil || !strings.Contains(errOut, "Warning: spec.priorityClassName: ") {
		t.Errorf("%q, %v", errOut, err)
	}
}

func TestThreeWayPatchOfLists(t *testing.T) {
	b := newBench(t, nil)
	two := strings.Replace(web, `[{name: web, image: "hello:v1"}]`, `[{name: web, image: "hello:v1"}, {name: side, image: "side:v1"}]`, 1)
	b.apply(two)
	b.apply(web)
	if got := deployment(t, b).Spec.Template.Spec.Containers; len(got) != 1 || got[0].Name != "web" {
		text, _ := json.Marshal(got)
		t.Error("containers are merged by name: ", string(text))
	}
}
