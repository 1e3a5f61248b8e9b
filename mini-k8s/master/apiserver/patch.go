package apiserver

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// patch changes an object, or the part that is the subresource, as a patch says. A patch without a resourceVersion
// applies to whatever is there; one with another than the current is a conflict, perhaps on a second try only.
func (s *Server) patch(w http.ResponseWriter, r *request) error {
	patch, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	patchType := types.PatchType(r.contentType())
	if patchType == types.ApplyYAMLPatchType {
		return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "apply", r.kind.GroupResource(), r.name,
			"server-side apply is out of scope here: use `kubectl apply` without --server-side", 0, true)
	}
	return s.replace(w, r, func(current api.Object) (api.Object, error) {
		before, err := json.Marshal(r.part(current))
		if err != nil {
			return nil, err
		}
		after, err := applyPatch(patchType, before, patch, r.empty())
		if err != nil {
			return nil, err
		}
		return r.accept(after, before, current)
	})
}

// applyPatch returns the JSON that the patch makes of the JSON before, which is that of an object like the one given.
func applyPatch(patchType types.PatchType, before, patch []byte, like api.Object) (after []byte, err error) {
	switch patchType {
	case types.JSONPatchType:
		var operations jsonpatch.Patch
		if operations, err = jsonpatch.DecodePatch(patch); err == nil {
			after, err = operations.Apply(before)
		}
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, patch)
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, patch, like)
	default:
		known := []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType)}
		return nil, unsupportedMediaType(string(patchType), strings.Join(known, ", "))
	}
	if err != nil {
		return nil, badRequest("the patch cannot be applied: %v", err)
	}
	return after, nil
}
