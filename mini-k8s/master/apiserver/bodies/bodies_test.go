package bodies

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func request(contentType, body string) *http.Request {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestBodiesOfAllFormatsBecomeJSON(t *testing.T) {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	var inProtobuf strings.Builder
	if err := protobuf.NewSerializer(nil, nil).Encode(pod, &inProtobuf); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ contentType, body string }{
		{"application/json; charset=utf-8", `{"kind":"Pod","metadata":{"name":"a"}}`},
		{"", `{"kind":"Pod","metadata":{"name":"a"}}`},
		{"application/yaml", "kind: Pod\nmetadata: {name: a}"},
		{protobufType, inProtobuf.String()},
	} {
		var got corev1.Pod
		if err := Into(request(row.contentType, row.body), &got, "a Pod"); err != nil || got.Kind != "Pod" || got.Name != "a" {
			t.Errorf("%s: %v %+v", row.contentType, err, got.ObjectMeta)
		}
	}
	if _, err := JSON(request("text/plain", "kind: Pod")); !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("text: %v", err)
	}
	if err := Into(request("", `[]`), &corev1.Pod{}, "a Pod"); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "not a Pod") {
		t.Errorf("a list: %v", err)
	}
}

func TestBodyThatWouldCostTooMuchIsNotDecoded(t *testing.T) {
	many, deep := strings.Repeat("{},", maxValues)+"{}", strings.Repeat("[", maxDepth+1)+strings.Repeat("]", maxDepth+1)
	for _, body := range []string{"[" + many + "]", deep} {
		for _, contentType := range []string{"application/json", "application/yaml"} {
			if _, err := JSON(request(contentType, body)); !apierrors.IsRequestEntityTooLargeError(err) {
				t.Errorf("%.9s... as %s: %v", body, contentType, err)
			}
		}
		if _, err := ReadPatch(request("application/merge-patch+json", body)); !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%.9s... as a patch: %v", body, err)
		}
	}
}

func TestPatchThatGrowsIsRefused(t *testing.T) {
	copies := strings.Repeat(`{"op":"copy","from":"","path":"/x"},`, 20)
	patch, err := ReadPatch(request("application/json-patch+json", "["+strings.TrimSuffix(copies, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch.Apply([]byte(`{"a":"`+strings.Repeat("b", 100_000)+`"}`), &corev1.Pod{}); !apierrors.IsBadRequest(err) {
		t.Errorf("got %v", err)
	}
}

func TestQuantitiesThatTakeForEverAreToldFromOtherTexts(t *testing.T) {
	for text, huge := range map[string]bool{
		"1": false, "100m": false, "1e3": false, "1.5Gi": false, "9e123456": false, "1e-999999999": true, "+1E9999999": true,
		strings.Repeat("1", 63) + "Ki": false, strings.Repeat("1", 64): true, strings.Repeat("1", 64) + "Ki": true, strings.Repeat("1", 64) + "e3": true,
		"1e1234567-89ab-4cde-8123-456789abcdef": false, "e1234567": false,
	} {
		if hugeNumber.MatchString(text) != huge {
			t.Errorf("%q: huge is %v", text, !huge)
		}
	}
}
