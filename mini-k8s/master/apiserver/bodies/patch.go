package bodies

import (
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// A patch in JSON can copy what it has copied; how much is a variable of the whole program there.
func init() { jsonpatch.AccumulatedCopySizeLimit = MaxSize }

// Patch is a change of an object, of whatever revision.
type Patch struct {
	Type types.PatchType
	text []byte
}

// ReadPatch returns the patch that is the body of a request.
func ReadPatch(r *http.Request) (Patch, error) {
	text, contentType, err := read(r)
	if err == nil {
		err = checkJSON(text)
	}
	return Patch{types.PatchType(contentType), text}, err
}

// Apply returns the JSON that the patch makes of the JSON before, which is that of an object like the one given.
func (p Patch) Apply(before []byte, like any) (after []byte, err error) {
	defer func() {
		if failure := recover(); failure != nil { // what the libraries do with some patches, such as a test of the whole
			err = badRequest("the patch cannot be applied: %v", failure)
		}
	}()
	switch p.Type {
	case types.JSONPatchType:
		var operations jsonpatch.Patch
		if operations, err = jsonpatch.DecodePatch(p.text); err == nil {
			after, err = operations.Apply(before)
		}
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, p.text)
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, p.text, like)
	default:
		return nil, unsupported(string(p.Type),
			string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType))
	}
	if err != nil {
		return nil, badRequest("the patch cannot be applied: %v", err)
	}
	return after, checkJSON(after)
}
