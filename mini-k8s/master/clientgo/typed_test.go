package clientgo_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	typedapps "k8s.io/client-go/kubernetes/typed/apps/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/retry"
)

// Typed clients send protobuf unless they are told otherwise.
func TestTypedClientCreatesReadsChangesAndDeletes(t *testing.T) {
	for _, contentType := range []string{"application/vnd.kubernetes.protobuf", "application/json"} {
		t.Run(contentType, func(t *testing.T) {
			c := newCluster(t)
			config := rest.CopyConfig(c.config)
			config.ContentType = contentType
			apps, err := typedapps.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			deployments := apps.Deployments("default")
			created, err := deployments.Create(c.ctx, newDeployment("web"), metav1.CreateOptions{FieldManager: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if created.UID == "" || created.ResourceVersion == "" || *created.Spec.Replicas != 1 || created.Generation != 1 || created.ManagedFields[0].Manager != "test" {
				t.Errorf("created: %+v", created)
			}
			three := int32(3)
			created.Spec.Replicas, created.Status.Replicas = &three, 7
			updated, err := deployments.Update(c.ctx, created, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if *updated.Spec.Replicas != 3 || updated.Status.Replicas != 0 || updated.Generation != 2 {
				t.Errorf("an update is of the spec: %+v", updated)
			}
			updated.Spec.Replicas, updated.Status.Replicas = nil, 2
			updated, err = deployments.UpdateStatus(c.ctx, updated, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if *updated.Spec.Replicas != 3 || updated.Status.Replicas != 2 || updated.Generation != 2 {
				t.Errorf("an update of the status is of nothing else: %+v", updated)
			}
			scale, err := deployments.GetScale(c.ctx, "web", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if scale.Spec.Replicas != 3 || scale.Status.Replicas != 2 || scale.Status.Selector != "app=web" {
				t.Errorf("its scale: %+v", scale)
			}
			scale.Spec.Replicas = 5
			if scale, err = deployments.UpdateScale(c.ctx, "web", scale, metav1.UpdateOptions{}); err != nil || scale.Spec.Replicas != 5 {
				t.Fatalf("scaled: %+v, %v", scale, err)
			}
			list, err := deployments.List(c.ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != 1 || *list.Items[0].Spec.Replicas != 5 || list.ResourceVersion != scale.ResourceVersion {
				t.Fatalf("list: %+v, %v", list, err)
			}
			uid := types.UID("another")
			err = deployments.Delete(c.ctx, "web", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
			if !apierrors.IsConflict(err) {
				t.Errorf("deleted another: %v", err)
			}
			if err := deployments.Delete(c.ctx, "web", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := deployments.Get(c.ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("after its deletion: %v", err)
			}
		})
	}
}

func TestPatchOfEachTypeChangesWhatItSays(t *testing.T) {
	c := newCluster(t)
	deployments := c.apps.Deployments("default")
	if _, err := deployments.Create(c.ctx, newDeployment("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		patchType types.PatchType
		patch     string
		images    string // of the containers, after it
	}{
		{types.JSONPatchType, `[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "hello:2"}]`, "app=hello:2"},
		{types.StrategicMergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}`, "side=side:1 app=hello:2"},
		{types.MergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "hello:3"}]}}}}`, "app=hello:3"},
	} {
		patched, err := deployments.Patch(c.ctx, "web", row.patchType, []byte(row.patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatalf("%s: %v", row.patchType, err)
		}
		var images []string
		for _, container := range patched.Spec.Template.Spec.Containers {
			images = append(images, container.Name+"="+container.Image)
		}
		if got := strings.Join(images, " "); got != row.images {
			t.Errorf("%s: got %s, want %s", row.patchType, got, row.images)
		}
	}
	_, err := deployments.Patch(c.ctx, "web", types.ApplyPatchType, []byte(`{}`), metav1.PatchOptions{FieldManager: "test"})
	if !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("server-side apply: %v", err)
	}
}

func TestCollectionIsDeletedAsItsSelectorSays(t *testing.T) {
	c := newCluster(t)
	c.put("a", "web", "")
	c.put("b", "db", "")
	err := c.maps().DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=web"})
	if apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) {
		t.Skip("collections are not deleted in this version")
	}
	list, listErr := c.maps().List(c.ctx, metav1.ListOptions{})
	if err != nil || listErr != nil || len(list.Items) != 1 || list.Items[0].Name != "b" {
		t.Errorf("left: %v, %v %v", list.Items, err, listErr)
	}
}

func TestEvictionDeletesThePod(t *testing.T) {
	c := newCluster(t)
	pods := c.core.Pods("default")
	if _, err := pods.Create(c.ctx, newPod("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.EvictV1(c.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(c.ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its eviction: %v", err)
	}
}

func TestErrorsAreThoseThatProgramsAskFor(t *testing.T) {
	c := newCluster(t)
	stale := c.put("a", "web", "1")
	c.put("a", "web", "2")
	create := func(m *corev1.ConfigMap) error {
		_, err := c.maps().Create(c.ctx, m, metav1.CreateOptions{})
		return err
	}
	named := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	for name, row := range map[string]struct {
		is  func(error) bool
		err func() error
	}{
		"IsNotFound": {apierrors.IsNotFound, func() error {
			_, err := c.maps().Get(c.ctx, "none", metav1.GetOptions{})
			return err
		}},
		"IsAlreadyExists": {apierrors.IsAlreadyExists, func() error { return create(named("a")) }},
		"IsInvalid":       {apierrors.IsInvalid, func() error { return create(named("A_b")) }},
		"IsConflict": {apierrors.IsConflict, func() error {
			_, err := c.maps().Update(c.ctx, stale, metav1.UpdateOptions{})
			return err
		}},
		"IsForbidden": {apierrors.IsForbidden, func() error {
			_, err := c.as("viewer").ConfigMaps("default").Create(c.ctx, named("b"), metav1.CreateOptions{})
			return err
		}},
		"IsUnauthorized": {apierrors.IsUnauthorized, func() error {
			config := rest.AnonymousClientConfig(c.config)
			config.BearerToken = "made-up"
			return discovery.NewDiscoveryClientForConfigOrDie(config).RESTClient().Get().AbsPath("/api").Do(c.ctx).Error()
		}},
		"IsBadRequest": {apierrors.IsBadRequest, func() error {
			_, err := c.maps().List(c.ctx, metav1.ListOptions{LabelSelector: "app in"})
			return err
		}},
		"IsRequestEntityTooLarge": {apierrors.IsRequestEntityTooLargeError, func() error {
			large := named("large")
			large.Data = map[string]string{"value": strings.Repeat("x", 4<<20)}
			return create(large)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := row.err(); !row.is(err) {
				t.Errorf("it is not: %v", err)
			}
		})
	}
	t.Run("with the path of each field", func(t *testing.T) {
		wrong := newPod("a")
		wrong.Spec.Containers[0].Name, wrong.Spec.RestartPolicy = "", "Sometimes"
		_, err := c.core.Pods("default").Create(c.ctx, wrong, metav1.CreateOptions{})
		for _, field := range []string{"spec.containers[0].name", "spec.restartPolicy"} {
			if causes := causesOf(err); !strings.Contains(causes, field) {
				t.Errorf("%s is not in the causes: %s", field, causes)
			}
		}
	})
}

func causesOf(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return fmt.Sprint("no details: ", err)
	}
	return fmt.Sprint(status.Status().Details.Causes)
}

func TestNoUpdateIsLostAmongWritersWhoRetryTheirConflicts(t *testing.T) {
	c := newCluster(t)
	c.put("counter", "web", "")
	const writers = 20
	always := retry.DefaultRetry // a writer can lose as often as there are others
	always.Steps, always.Factor = 20*writers, 1
	var running sync.WaitGroup
	failures := make([]error, writers)
	for i := range writers {
		running.Go(func() {
			failures[i] = retry.RetryOnConflict(always, func() error {
				m, err := c.maps().Get(c.ctx, "counter", metav1.GetOptions{})
				if err != nil {
					return err
				}
				m.Data[fmt.Sprint(i)] = "was here"
				_, err = c.maps().Update(c.ctx, m, metav1.UpdateOptions{})
				return err
			})
		})
	}
	running.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	m, err := c.maps().Get(c.ctx, "counter", metav1.GetOptions{})
	if err != nil || len(m.Data) != writers+1 {
		t.Errorf("%d of %d are left: %v, %v", len(m.Data)-1, writers, m, err)
	}
}

func TestDynamicClientFindsItsWayByDiscovery(t *testing.T) {
	c := newCluster(t)
	client, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	short := restmapper.NewShortcutExpander(mapper, client, nil)
	if gvr, err := short.ResourceFor(schema.GroupVersionResource{Resource: "deploy"}); err != nil || gvr.Resource != "deployments" {
		t.Errorf("deploy is %v, %v", gvr, err)
	}
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"})
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"generateName": "web-"},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": "web"}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": "web"}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "hello:1"}}},
			},
		},
	}}
	deployments := c.dynamic.Resource(mapping.Resource).Namespace("default")
	created, err := deployments.Create(c.ctx, object, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if replicas, _, _ := unstructured.NestedInt64(created.Object, "spec", "replicas"); replicas != 1 || !strings.HasPrefix(created.GetName(), "web-") {
		t.Errorf("created: %v", created)
	}
	if err := unstructured.SetNestedField(created.Object, int64(2), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	if created, err = deployments.Update(c.ctx, created, metav1.UpdateOptions{}); err != nil || created.GetGeneration() != 2 {
		t.Errorf("updated: %v, %v", created, err)
	}
	list, err := deployments.List(c.ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + created.GetName()})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetKind() != "Deployment" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := mapper.RESTMapping(schema.GroupKind{Group: "example.com", Kind: "Unheard"}); err == nil {
		t.Error("a kind is found that nobody serves")
	}
}
