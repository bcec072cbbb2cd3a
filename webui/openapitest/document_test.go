package openapitest_test

import (
	"reflect"
	"strings"
	"testing"

	"bulkhead/webui/openapitest"
)

// TestWhatCannotBeDescribedIsAnError keeps types out of the API of which clients could
// not know what to expect.
func TestWhatCannotBeDescribedIsAnError(t *testing.T) {
	type maybe struct {
		Next *int `json:"next"`
	}
	type ask struct {
		Anything any `json:"anything"`
	}
	type Maybe struct{}
	for _, c := range []struct {
		in, out reflect.Type
		why     string
	}{
		{nil, reflect.TypeFor[maybe](), "maybe.Next may be null"},
		{reflect.TypeFor[ask](), nil, "interface {} cannot be written"},
		{nil, reflect.TypeFor[chan int](), "chan int cannot be written"},
		{reflect.TypeFor[maybe](), reflect.TypeFor[Maybe](), "would both be called Maybe"},
		{nil, reflect.TypeFor[loud](), "writes its own JSON"},
	} {
		api := openapitest.API{Failure: reflect.TypeFor[string](), Operations: []openapitest.Operation{{Method: "GET", Path: "/api/v1/x", In: c.in, Out: c.out}}}
		if _, err := api.Document(new(openapitest.Sources)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("got %v, want %q", err, c.why)
		}
	}
	api := openapitest.API{Failure: reflect.TypeFor[string](), Operations: []openapitest.Operation{{Method: "GET", Path: "/x", Refuses: []int{418}}}}
	if _, err := api.Document(new(openapitest.Sources)); err == nil || !strings.Contains(err.Error(), "status 418 of /x has no meaning") {
		t.Errorf("got %v", err)
	}
}

type loud struct{}

func (loud) MarshalJSON() ([]byte, error) { return []byte("1"), nil }
