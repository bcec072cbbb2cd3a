//go:build linux

package api_test

import (
	"errors"
	"net/netip"
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
	b := backend{
		apply: func(api.Change) (*api.Trial, error) { asked++; return &api.Trial{}, nil },
		undo:  func(api.Undo) (*api.Trial, error) { asked++; return &api.Trial{}, nil },
	}
	root, _ := serve(t, b)
	somebody := strangers(t, b, guard{}).For(api.Behalf{Secret: "token of admin", Address: netip.MustParseAddr("192.168.10.20"), Connected: 1})
	insist := api.Terms{AcceptLockout: true}
	for name, try := range map[string]func(*api.Client) (*api.Trial, error){
		"apply": func(c *api.Client) (*api.Trial, error) { return c.Apply(t.Context(), api.Change{Terms: insist}) },
		"undo":  func(c *api.Client) (*api.Trial, error) { return c.Undo(t.Context(), api.Undo{Terms: insist}) },
	} {
		asked = 0
		if _, err := try(root); err != nil || asked != 1 {
			t.Errorf("%s by root: %v, asked %d times", name, err, asked)
		}
		_, err := try(somebody)
		if refused, ok := errors.AsType[*api.Refused](err); !ok || refused.Lockout == "" || asked != 1 {
			t.Errorf("%s by somebody else: %v, asked %d times", name, err, asked)
		}
	}
}
