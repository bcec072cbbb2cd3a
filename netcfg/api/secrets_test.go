package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
)

// SetSecret of the backend refuses secret "bad", and knows what should arrive.
func (b backend) SetSecret(_ context.Context, name string, v api.NewSecret) (*api.Done, error) {
	if name == "bad" {
		return nil, api.BadSecret(errors.New("it is none"))
	}
	if string(v.Value) != "hunter2\n" || v.Author != "alex" {
		return nil, fmt.Errorf("got %q of %s", string(v.Value), v.Author)
	}
	return &api.Done{}, nil
}

func TestValuesOfSecretsArriveAndAreNotPrinted(t *testing.T) {
	c, _ := serve(t, backend{})
	v := api.NewSecret{Value: "hunter2\n", Author: "alex"}
	if _, err := c.SetSecret(t.Context(), "account", v); err != nil {
		t.Error(err)
	}
	if _, err := c.SetSecret(t.Context(), "bad", v); !errors.Is(err, api.ErrSecret) || err.Error() != "it is none" {
		t.Errorf("got %v", err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x", v, v, v, v.Value, v.Value, v.Value)
	slog.New(slog.NewTextHandler(&out, nil)).Info("said", "value", v.Value, "all", v)
	if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") {
		t.Errorf("the value is printed: %s", s)
	}
}
