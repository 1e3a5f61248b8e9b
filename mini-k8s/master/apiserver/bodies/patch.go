package bodies

import (
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// A patch in JSON can copy what it has copied; how much is a variable of the whole program there.
func init() { jsonpatch.AccumulatedCopySizeLimit = MaxSize }

// Patch returns the JSON that a patch makes of the JSON before, which is that of an object like the one given.
func Patch(patchType types.PatchType, before, patch []byte, like any) (after []byte, err error) {
	if err := checkJSON(patch); err != nil {
		return nil, err
	}
	defer func() {
		if failure := recover(); failure != nil { // what the libraries do with some patches, such as a test of the whole
			err = badRequest("the patch cannot be applied: %v", failure)
		}
	}()
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
		return nil, unsupported(string(patchType),
			string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType))
	}
	if err != nil {
		return nil, badRequest("the patch cannot be applied: %v", err)
	}
	return after, checkJSON(after)
}
