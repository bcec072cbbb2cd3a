package strictjson_test

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"bulkhead/netcfg/strictjson"
)

type door struct {
	Open bool `json:"open"`
}

func TestOnlyWhatWasAgreedOnIsTaken(t *testing.T) {
	if v, err := strictjson.Decode[door](strings.NewReader(" {\"open\":true}\n")); err != nil || !v.Open {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, text := range []string{"", "{", `{"open":true,"wide":true}`, `{"open":true}{}`, `{"open":true}]`, `{"open":1}`} {
		if v, err := strictjson.Decode[door](strings.NewReader(text)); err == nil || v.Open {
			t.Errorf("%q: got %+v, %v", text, v, err)
		}
	}
	broken := errors.New("broken")
	if _, err := strictjson.Decode[door](iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}
