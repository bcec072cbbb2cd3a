//go:build linux

package api_test

import (
	"errors"
	"net/http/httptest"
	"os"
	"testing"

	"bulkhead/netcfg/api"
)

// TestALockoutIsForRootOnTheBox asks by the socket, as root, and as anybody might who is
// let in otherwise.
func TestALockoutIsForRootOnTheBox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: run make test-root")
	}
	asked := 0
	b := backend{apply: func(c api.Change) (*api.Trial, error) {
		asked++
		return &api.Trial{}, nil
	}}
	insist := api.Change{File: api.File{Name: "home.yaml"}, AcceptLockout: true}
	root, _ := serve(t, b)
	if _, err := root.Apply(t.Context(), insist); err != nil || asked != 1 {
		t.Errorf("root: %v, asked %d times", err, asked)
	}
	srv := httptest.NewServer(api.Handler(b))
	defer srv.Close()
	_, err := api.NewClientOver(srv.Client(), srv.URL).Apply(t.Context(), insist)
	if refused, ok := errors.AsType[*api.Refused](err); !ok || refused.Lockout == "" || asked != 1 {
		t.Errorf("somebody else: %v, asked %d times", err, asked)
	}
}
