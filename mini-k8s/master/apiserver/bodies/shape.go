package bodies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/protowire"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The size of a body says little of what it costs. A million empty containers are 3 MB of JSON and a gigabyte in memory, a
// strategic merge takes the square of what it merges, and the quantity 1e-999999999 keeps a core busy for hours. So
// what it is made of is looked at before it is decoded. No object that people write comes near these bounds.
const (
	maxValues = 10_000
	maxDepth  = 64 // of objects and lists in each other
)

// hugeNumber is a quantity that takes long to compute with: of many digits, or with an exponent of many. It is all of a text:
// in protobuf nobody knows what is a quantity, and a UID may well begin like one.
var hugeNumber = regexp.MustCompile(`^[-+]?([0-9.]{64,}[a-zA-Z]{0,2}|[0-9.]+[eE][-+]?[0-9]{7,}|[0-9.]{64,}[eE][-+]?[0-9]+)$`)

var (
	errTooComplex = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d values, in no more than %d levels", maxValues, maxDepth))
	errHugeNumber = badRequest("a quantity has too many digits, or too large an exponent")
)

// quantityFields are those that are quantities, or have some in them.
var quantityFields = map[string]bool{"limits": true, "requests": true, "capacity": true, "allocatable": true, "allocatedResources": true,
	"overhead": true, "sizeLimit": true, "divisor": true, "quantity": true, "tolerance": true, "target": true, "current": true}

// checkJSON refuses JSON that would take too much to decode. JSON that is none is left to who decodes it.
func checkJSON(text []byte) error {
	values, depth, quoted := 0, 0, false
	digits, suspect := 0, false // digits in a row; whether there are enough for a huge number
	for i := 0; i < len(text); i++ {
		c := text[i]
		if digits++; c < '0' || c > '9' {
			digits = 0
		}
		suspect = suspect || digits == 7 || c == '\\' // what it escapes may be a digit
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			values, depth = values+1, depth+1
		case c == '}', c == ']':
			depth--
		case c == ',':
			values++
		}
		if values > maxValues || depth > maxDepth {
			return errTooComplex
		}
	}
	if suspect && json.Valid(text) {
		tokens := json.NewDecoder(bytes.NewReader(text))
		tokens.UseNumber()
		return checkQuantities(tokens, false)
	}
	return nil
}

// checkQuantities refuses huge numbers in the next value, if it is in a field for quantities. The JSON is valid. A doubled
// field is looked at as often as it is there: it is decoded as often.
func checkQuantities(tokens *json.Decoder, inside bool) error {
	token, err := tokens.Token()
	if begin, ok := token.(json.Delim); ok {
		for tokens.More() {
			within := inside
			if begin == '{' {
				name, _ := tokens.Token()
				within = inside || quantityFields[fmt.Sprint(name)]
			}
			if err := checkQuantities(tokens, within); err != nil {
				return err
			}
		}
		_, err = tokens.Token()
	} else if inside && hugeNumber.MatchString(fmt.Sprint(token)) {
		err = errHugeNumber
	}
	return err
}

// checkProtobuf is checkJSON for protobuf. Text and bytes may look like messages: a count too high does no harm.
func checkProtobuf(message []byte, fields *int, depth int) error {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		size := -1
		if tag >= 0 {
			size = protowire.ConsumeFieldValue(number, kind, message[tag:])
		}
		if size < 0 {
			return nil // it is none
		}
		if *fields++; *fields > maxValues || depth > maxDepth {
			return errTooComplex
		}
		if value, n := protowire.ConsumeBytes(message[tag:]); kind == protowire.BytesType && n >= 0 {
			if hugeNumber.Match(value) {
				return errHugeNumber
			}
			if err := checkProtobuf(value, fields, depth+1); err != nil {
				return err
			}
		}
		message = message[tag+size:]
	}
	return nil
}
