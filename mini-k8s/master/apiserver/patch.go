package apiserver

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	"workshop/mini-k8s/api"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

func (s *Server) patch(w http.ResponseWriter, r *request) error { return s.patchPart(w, r, "") }

// patchPart changes an object, or one of its subresources, as a patch says. A patch without a resourceVersion
// applies to whatever is there.
func (s *Server) patchPart(w http.ResponseWriter, r *request, subresource string) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if types.PatchType(contentType) == types.ApplyYAMLPatchType {
		return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "apply", r.kind.GroupResource(), r.name,
			"server-side apply is out of scope here: use `kubectl apply` without --server-side", 0, true)
	}
	return s.replace(w, r, subresource, func(current api.Object) (api.Object, error) {
		before, err := json.Marshal(current)
		if err != nil {
			return nil, err
		}
		after, err := applyPatch(types.PatchType(contentType), before, body, r.kind)
		if err != nil {
			return nil, err
		}
		object := r.kind.New()
		if err := r.decode(after, object); err != nil {
			return nil, err
		}
		if subresource == "" {
			r.warnUnserved(before, after)
		}
		if err := r.intoNamespace(object); err != nil {
			return nil, err
		}
		if object.GetResourceVersion() == current.GetResourceVersion() && !mentionsRevision(body) {
			object.SetResourceVersion("")
		}
		return object, nil
	})
}

// applyPatch returns the JSON that the patch makes of the JSON before.
func applyPatch(patchType types.PatchType, before, patch []byte, kind *api.Kind) ([]byte, error) {
	var after []byte
	var err error
	switch patchType {
	case types.JSONPatchType:
		var operations jsonpatch.Patch
		if operations, err = jsonpatch.DecodePatch(patch); err == nil {
			after, err = operations.Apply(before)
		}
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, patch)
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, patch, kind.New())
	default:
		return nil, unsupportedMediaType(string(patchType), fmt.Sprintf("%s, %s, %s", types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType))
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("the patch cannot be applied: " + err.Error())
	}
	return after, nil
}

// mentionsRevision reports whether a patch asks for a certain resourceVersion.
func mentionsRevision(patch []byte) bool {
	var body struct {
		Metadata struct{ ResourceVersion string }
	}
	return json.Unmarshal(patch, &body) == nil && body.Metadata.ResourceVersion != ""
}
