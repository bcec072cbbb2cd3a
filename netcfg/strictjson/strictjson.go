// Package strictjson reads JSON that two programs have agreed on to the letter. It
// takes nothing that was not agreed on, and never guesses.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Decode reads exactly one JSON value, without fields that T does not have: a
// program that is older than the one it listens to must not guess what it is told.
// Errors of r are wrapped.
func Decode[T any](r io.Reader) (T, error) {
	var v, zero T
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return zero, fmt.Errorf("decode: %w", err)
	}
	_, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return v, nil
	}
	if err == nil {
		err = errors.New("another value")
	}
	return zero, fmt.Errorf("decode: something follows the value: %w", err)
}
